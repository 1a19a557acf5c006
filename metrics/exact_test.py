"""The exact test of the difference of two paired proportions, such as two accuracies.

Two networks classify the same images. `lost` counts the images that only the first classifies
correctly, `gained` those that only the second does. The distribution of gained - lost depends on
P(gained) - P(lost), and on an unknown second number: how often the two networks disagree. The test
takes the worst case over that number, so its level holds whatever it is.
"""

from functools import lru_cache
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
    """Compute Tango's score statistic of the hypothesis that the difference is the supposed one.

    Source: Tango, Equivalence test and confidence interval for the difference in proportions for
    the paired-sample design, Statistics in Medicine 17, 1998.

    Args:
        lost: Images that only the first network has right; whole or not, or an array of them.
        gained: Images that only the second has right.
        num_images: The number of images.
        difference: The supposed difference P(gained) - P(lost), in [-1, 1].
        correction: Continuity correction, in images: subtracted from the gain in full where the
            networks disagree on all images, else in proportion to their disagreement.

    Returns:
        Approximately standard normal if the difference is the supposed one, larger if it is larger;
        0 where there is no variance.
    """
    n, d = num_images, difference
    b = lost + gained - (2 * n + lost - gained) * d
    p = (b + np.sqrt(np.maximum(b * b + 8 * n * lost * d * (1 - d), 0))) / (4 * n)
    variance = n * (2 * p + d - d * d)
    has_some = variance > 1e-12 * n
    gain = gained - lost - n * d - correction * (lost + gained) / n
    return np.where(has_some, gain, 0) / np.sqrt(np.where(has_some, variance, 1))


def rank(lost: float, gained: float, num_images: int, confidence: float) -> float:
    """Compute the largest difference that the score test rejects; tables are ranked by it.

    Where two networks disagree on all images, gained - lost moves in steps of two. Without a
    correction of half a step the test would be worst there, and weaker everywhere else for it.

    Args:
        lost: Images that only the first network has right.
        gained: Images that only the second has right.
        num_images: The number of images.
        confidence: One minus the level of the score test, in [0.5, 1).

    Returns:
        A difference, in [-1, 1]: close to the bound that the exact test ends with.
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


@lru_cache(maxsize=4096)  # a report asks for the same tables again
def low_end(lost: float, gained: float, num_images: int, confidence: float) -> float:
    """Compute the exact one-sided lower confidence bound of P(gained) - P(lost).

    All tables of lost and gained images are ranked by the score test, with a continuity correction
    of ours. The bound is the smallest difference at which this table, or one that ranks higher, has
    a probability of more than 1 - confidence at some rate of disagreement. It is the largest valid
    bound that follows this ranking. The upper bound is minus the lower bound of the counts swapped.

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
    return max(float(brentq(excess, low, high, xtol=1e-10)) - 1e-10, -1.0)


def is_at_least(
    lost: float, gained: float, num_images: int, limit: float, confidence: float
) -> bool:
    """Whether P(gained) - P(lost) is shown to be at least a limit: whether `low_end` is.

    Args:
        lost: Images that only the first network has right; need not be whole.
        gained: Images that only the second has right.
        num_images: The number of images, at least 1.
        limit: The difference in question, in [-1, 1].
        confidence: One minus the largest probability of a wrong True, in [0.5, 1).
    """
    most = _most_lost(rank(lost, gained, num_images, confidence), num_images, confidence)
    return _worst_tail(most, num_images, limit) <= 1 - confidence


def images_to_decide(
    lost: float, gained: float, num_images: int, limit: float, confidence: float
) -> int | None:
    """Estimate how many images would decide about a limit, at the measured rates.

    Args:
        lost: Images that only the first network has right.
        gained: Images that only the second has right.
        num_images: The number of images now.
        limit: The difference that the interval must exclude, in (-1, 1).
        confidence: The confidence of each end, in [0.5, 1).

    Returns:
        A number larger than that of now; None if the measured difference equals the limit.
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
    """Compute, for each number of gained images, the most lost images of tables of at least a rank.

    Returns:
        (n + 1,), -1 where no table has the rank; never less for more gained images, as the sources
        have it of the score test.
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
    """Compute the largest probability of the tables up to `most`, over all rates of disagreement.

    A rate is the share of images that is lost and gained alike. Near either end the probability
    ripples with the rate, so rates are tried in steps of half an image there and in wider ones
    between; then closely around the three highest.
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
    """Compute the probability of the tables up to `most`, for each rate of disagreement, (r,)."""
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
