"""The exact test of a difference of paired proportions: images lost and gained, of so many.

A pair of networks is right or wrong about the same images. `lost` counts the images that only the
first has right, `gained` those that only the second has. What may be claimed of the difference
P(gained) - P(lost) depends on a second number that nobody knows, how often the two disagree. The
test takes the worst case of it, so that its level holds for all.
"""

from math import ceil, log, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betainc, gammaln, xlog1py, xlogy
from scipy.stats import norm

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

# Past this many images the score test and the exact one ask for the same number, to 1 %.
LARGE = 20_000


def score_statistic(
    lost: Any, gained: Any, num_images: int, difference: float, *, correction: float = 0.0
) -> Any:
    """Give the score statistic that a difference is larger than the one supposed.

    Source: Tango, Equivalence test and confidence interval for the difference in proportions for
    the paired-sample design, Statistics in Medicine 17, 1998.

    Args:
        lost: Images that only the first network has right; whole or not, or an array of them.
        gained: Images that only the second has right.
        num_images: The number of images.
        difference: The difference supposed, P(gained) - P(lost), in [-1, 1].
        correction: What is taken off the gain where the networks disagree on all images, in
            images; elsewhere as much less as they disagree less.

    Returns:
        A standard normal deviate if the supposed is true, more if the difference is larger; 0 where
        there is no variance.
    """
    n, d = num_images, difference
    b = lost + gained - (2 * n + lost - gained) * d
    p = (b + np.sqrt(np.maximum(b * b + 8 * n * lost * d * (1 - d), 0))) / (4 * n)
    variance = n * (2 * p + d - d * d)
    has_some = variance > 1e-12 * n
    gain = gained - lost - n * d - correction * (lost + gained) / n
    return np.where(has_some, gain, 0) / np.sqrt(np.where(has_some, variance, 1))


def rank(lost: float, gained: float, num_images: int, confidence: float) -> float:
    """Give the largest difference that the score test rejects, by which tables are ranked.

    Where two networks disagree on all images, gained - lost moves in steps of two. Without half a
    step of correction the test would be at its worst there, and pay for it where anybody uses it.

    Args:
        lost: Images that only the first network has right.
        gained: Images that only the second has right.
        num_images: The number of images.
        confidence: One minus the level of the score test, in [0.5, 1).

    Returns:
        A difference, in [-1, 1]: nearly the bound itself, were the test not made exact.
    """
    deviate = norm.ppf(confidence)
    low, high = -1.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _ranking(lost, gained, num_images, middle) >= deviate:
            low = middle
        else:
            high = middle
    return low


def low_end(lost: float, gained: float, num_images: int, confidence: float) -> float:
    """Give the exact lower bound of P(gained) - P(lost), alone at a confidence.

    The tables that speak for a larger difference are ranked by the score test, with a correction of
    ours for continuity. The bound is the smallest difference at which this table, or one that ranks
    higher, has a probability of more than 1 - confidence at some rate of disagreement. Of all
    bounds that follow the ranking it is the largest that is valid. The upper bound is minus the
    lower one of the counts swapped.

    Source: Buehler, Confidence intervals for the product of two binomial parameters, JASA 52,
    1957; for paired proportions Lloyd and Moldovan, Exact one-sided confidence limits for the
    difference between two correlated proportions, Statistics in Medicine 26, 2007. That one
    unknown rate is left on the edge of the hypothesis: Hsueh, Liu and Chen, Unconditional exact
    tests for equivalence or noninferiority for paired binary endpoints, Biometrics 57, 2001.

    Args:
        lost: Images that only the first network has right.
        gained: Images that only the second has right.
        num_images: The number of images, at least 1.
        confidence: The confidence of this end, in [0.5, 1).

    Returns:
        The bound, in [-1, 1]. It never rises with a lost image nor falls with a gained one.
    """
    start = rank(lost, gained, num_images, confidence)
    most = _most_lost(start, num_images, confidence)

    def excess(difference: float) -> float:
        return _worst_tail(most, num_images, difference) - (1 - confidence)

    step = 0.1 * sqrt(lost + gained + 1) / num_images
    low = high = start
    while low > -1 and excess(low) > 0:
        low, step = max(low - step, -1.0), 2 * step
    while high < 1 and excess(high) <= 0:
        high, step = min(high + step, 1.0), 2 * step
    if low == high:
        return low
    return max(brentq(excess, low, high, xtol=1e-10) - 1e-10, -1.0)


def is_at_least(
    lost: float, gained: float, num_images: int, limit: float, confidence: float
) -> bool:
    """Decide whether P(gained) - P(lost) is a limit or more: whether `low_end` is.

    Args:
        lost: Images that only the first network has right; need not be whole.
        gained: Images that only the second has right.
        num_images: The number of images, at least 1.
        limit: The difference in question, in [-1, 1].
        confidence: One minus the largest probability of a wrong yes, in [0.5, 1).
    """
    most = _most_lost(rank(lost, gained, num_images, confidence), num_images, confidence)
    return _worst_tail(most, num_images, limit) <= 1 - confidence


def images_to_decide(
    lost: float, gained: float, num_images: int, limit: float, confidence: float
) -> int | None:
    """Estimate the images at which the rates that were seen would move a bound past a limit.

    Args:
        lost: Images that only the first network has right.
        gained: Images that only the second has right.
        num_images: The number of images now.
        limit: The difference that has to lie outside, in (-1, 1).
        confidence: The confidence of each end, in [0.5, 1).

    Returns:
        A number larger than that of now; None if the difference seen is the limit.
    """
    deviate = float(score_statistic(lost, gained, num_images, limit))
    if deviate == 0:
        return None
    if deviate < 0:
        lost, gained, limit = gained, lost, -limit
    # The deviate of fixed rates grows with the square root of the number of images.
    least = ceil(num_images * (float(norm.ppf(confidence)) / deviate) ** 2)
    low = max(least - 1, num_images)
    if low >= LARGE:
        return low + 1
    lost, gained = lost / num_images, gained / num_images

    def decides(count: int) -> bool:
        return is_at_least(lost * count, gained * count, count, limit, confidence)

    high, step = low + 1, max(low // 100, 1)
    while not decides(high):
        low, high, step = high, high + step, 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high


def _ranking(lost: Any, gained: Any, num_images: int, difference: float) -> Any:
    return score_statistic(lost, gained, num_images, difference, correction=1)


def _most_lost(least: float, num_images: int, confidence: float) -> Counts:
    """Give the most lost images of tables of at least a rank, by images gained, (n + 1,).

    Never less for more gained, as the sources have it of the score test; -1 where there is none.
    """
    deviate = norm.ppf(confidence)
    gained = np.arange(num_images + 1)
    if least <= -1 + 1e-9:
        return num_images - gained
    low, high = np.full(num_images + 1, -1), num_images - gained + 1
    while (high - low > 1).any():
        middle = (low + high) // 2
        has_rank = _ranking(np.maximum(middle, 0), gained, num_images, least) >= deviate
        is_open = high - low > 1
        low = np.where(is_open & has_rank, middle, low)
        high = np.where(is_open & ~has_rank, middle, high)
    return low


def _worst_tail(most: Counts, num_images: int, difference: float) -> float:
    """Give the largest probability of the tables up to `most`, over all rates of disagreement.

    The rates are those of what both networks gain and lose alike. Where images are few the
    probability ripples with them, so they are taken in steps of half an image from either end, and
    wider ones between; then closely around the three highest.
    """
    top = num_images * (1 - abs(difference)) / 2
    few = min(top / 2, 30)
    near = np.linspace(0, few, 61)
    far = np.geomspace(few, top / 2, 1 + ceil(10 * log(top / 2 / few))) if top > 60 else near[-1:]
    half = np.concatenate([near, far[1:]])
    rates = np.concatenate([half, (top - half[:-1])[::-1]]) / num_images
    tails = _tails(most, num_images, difference, rates)
    worst = float(tails.max())
    for place in tails.argsort()[-3:]:
        ends = rates[max(place - 1, 0)], rates[min(place + 1, len(rates) - 1)]
        worst = max(worst, _tails(most, num_images, difference, np.linspace(*ends, 17)).max())
    return worst


def _tails(most: Counts, num_images: int, difference: float, rates: Floats) -> Floats:
    """Give the probability of the tables up to `most`, for each rate that both have alike, (r,)."""
    return np.array(
        [_tail(most, num_images, r + max(-difference, 0), r + max(difference, 0)) for r in rates]
    )


def _tail(most: Counts, num_images: int, p_lost: float, p_gained: float) -> float:
    # All but 1e-12 of the binomial lies nearer than this, by Bernstein's inequality.
    centre, reach = num_images * p_gained, 7.6 * sqrt(num_images * p_gained * (1 - p_gained)) + 20
    first, last = max(int(centre - reach), 0), min(ceil(centre + reach), num_images)
    gained = np.arange(first, last + 1)
    left, most = num_images - gained, most[first : last + 1]
    logarithm = gammaln(num_images + 1) - gammaln(gained + 1) - gammaln(left + 1)
    weight = np.exp(logarithm + xlogy(gained, p_gained) + xlog1py(left, -p_gained))
    kept = max(1 - p_lost / (1 - p_gained), 0.0) if p_gained < 1 else 1.0
    inside = (most >= 0) & (most < left)
    below = betainc(np.where(inside, left - most, 1), np.where(inside, most + 1, 1), kept)
    return float(weight @ np.where(inside, below, most >= left))
