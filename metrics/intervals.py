"""Confidence intervals of the difference between two networks, paired image by image."""

import math

import torch
from scipy.stats import t as student_t
from torch import Tensor

from regrow.metrics.evidence import CorrectEvidence, Evidence
from regrow.metrics.exact_test import low_end
from regrow.metrics.unseen import Shown

ROUNDING = 1e-9  # differences of scores that spread by less are taken as equal


def paired_interval(
    before: Evidence,
    after: Evidence,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Compute the confidence interval of score(after) - score(before), paired by image.

    Each end is a one-sided bound: the true difference lies below the low end with a probability of
    at most 1 - confidence, and above the high end likewise. Both together hold at 2 confidence - 1.

    Accuracy: the exact paired test, `regrow.metrics.exact_test`. Other scores: random splits of the
    images into thirds, the same for both networks; see `_reaches`. A change that no image shows is
    added, see `unseen`, as the root of the sum of both squares (Newcombe, Statistics in Medicine
    17, 1998, for two proportions; Zou and Donner, Statistics in Medicine 27, 2008, for two
    parameters of any kind). Where no image shows any of the classes, the interval is [-1, 1].

    Args:
        before: Evidence of the first network.
        after: Evidence of the second, the same images in the same order.
        confidence: The confidence of each end, in [0.5, 1).
        num_resamples: Least number of thirds that are scored.
        seed: Seed of the random splits.

    Returns:
        The low and the high end.

    Raises:
        ValueError: If the two hold different numbers of images.

    Examples:
        >>> import torch
        >>> from regrow.metrics import ConfusionEvidence, paired_interval
        >>> before = ConfusionEvidence.of(torch.tensor([[[90, 10], [5, 95]]]).repeat(200, 1, 1))
        >>> low, high = paired_interval(before, before)
        >>> low == -high  # equal networks: what is left is a change that no image shows
        True
    """
    count = before.num_images
    if count != after.num_images:
        raise ValueError(f"{count} images before and {after.num_images} after: not the same")
    if isinstance(before, CorrectEvidence) and isinstance(after, CorrectEvidence) and count > 1:
        lost, gained = lost_and_gained(before, after)
        bounds = [low_end(*pair, count, confidence) for pair in ((lost, gained), (gained, lost))]
        return bounds[0], -bounds[1]
    if count < 3 or _shows_nothing(before):
        return -1.0, 1.0
    thirds = _thirds(count, math.ceil(num_resamples / 3), seed)
    difference = (after.scores(thirds) - before.scores(thirds)).view(-1, 3)
    difference = difference[difference.isfinite().all(1)]  # all images of a third may be void
    centre = after.score() - before.score()
    if not len(difference) or not math.isfinite(centre):
        return -1.0, 1.0
    below, above = _reaches(difference, centre, count, confidence)
    least = unseen(before, confidence)
    below, above = math.hypot(below, least), math.hypot(above, least)
    return max(centre - below, -1.0), min(centre + above, 1.0)


def lost_and_gained(before: CorrectEvidence, after: CorrectEvidence) -> tuple[int, int]:
    """Count the images that only the first network has right, and that only the second has."""
    lost = before.correct & ~after.correct
    gained = ~before.correct & after.correct
    return int(lost.sum()), int(gained.sum())


def shown_by(evidence: Evidence) -> Shown:
    """Return the number of images of an evidence, and how many show each class."""
    is_accuracy = isinstance(evidence, CorrectEvidence)
    return Shown(evidence.num_images, evidence.images_by_class.tolist(), is_accuracy)


def unseen(evidence: Evidence, confidence: float) -> float:
    """Compute the change of a score that can occur without showing on any image.

    See `Shown.unseen`.

    Args:
        evidence: Evidence of some images.
        confidence: The confidence, in (0, 1).

    Returns:
        A change of the score, in (0, 1].
    """
    return shown_by(evidence).unseen(confidence)


def _shows_nothing(evidence: Evidence) -> bool:
    classes = evidence.images_by_class
    return len(classes) > 0 and not classes.any()


def _thirds(count: int, num_splits: int, seed: int) -> Tensor:
    """Split images at random into near-equal thirds; returns flags (3 * num_splits, count)."""
    generator = torch.Generator().manual_seed(seed)
    ranks = torch.rand(num_splits, count, generator=generator).argsort(1).argsort(1)
    return torch.stack([ranks * 3 // count == third for third in range(3)], 1).view(-1, count)


def _reaches(
    difference: Tensor, centre: float, count: int, confidence: float
) -> tuple[float, float]:
    """Compute how far the true difference may lie below and above the measured one.

    The input is the difference on the three thirds of each of r random splits, (r, 3). Disjoint
    sets of n / 3 images have three times the variance of all n, and three times the event size. The
    bootstrap repeats images, and with each copy the rank of a false detection, which hides how
    uneven the precision of few detections is: of mean AP it finds 0.4 of the bias and 0.6 to 0.8 of
    the event size where objects are mistaken; thirds find both.
    Source: Shao and Wu, A general theory for jackknife variance estimation, Annals of Statistics
    17, 1989 (scores that are not smooth need sets that leave out a share of the images); there
    centred on the score of all images, here on the mean of three disjoint sets.

    A true loss larger than the measured one comes with more variance: each further rare event of
    size s adds s to the loss and s^2 to the variance. The reach x solves x = s / 2 + k v^0.5 +
    b v / variance for v = variance + s x, where k is Student's quantile. Without b it is the
    interval of Wilson (1927) for one proportion with its continuity correction (Newcombe,
    Statistics in Medicine 17, 1998). The event size s is the third moment over the second, and 0
    where the skew is to the other side.

    The bias b is that of the score of n images, used only where it widens the interval. Mean AP
    takes the largest of uneven precisions, and its bias falls with n^-0.5, so thirds have 3^0.5
    times the bias of all images (Schucany, Gray and Owen, On bias reduction in estimation, JASA 66,
    1971, take two sizes of set for a bias of a known order). The same events make the bias and the
    variance, so the bias is taken to grow with the variance. Where it outgrows the loss, the reach
    is infinite.
    """
    spread = difference - difference.mean(1, keepdim=True)
    second, third = float(spread.square().mean()), float(spread.pow(3).mean())
    if second < ROUNDING**2:
        return 0.0, 0.0
    quantile = float(student_t.ppf(confidence, count - 1))
    variance, size = second / 2, third / second
    bias = (float(difference.mean()) - centre) / (math.sqrt(3) - 1)
    reaches = []
    for side in (-1, 1):
        event, away = max(side * size, 0.0), max(-side * bias, 0.0) / variance
        left = 1 - event * away
        if left <= 0:
            reaches.append(math.inf)
            continue
        root = math.sqrt((quantile * event) ** 2 + 4 * left * (variance + event**2 / 2))
        deviation = (quantile * event + root) / (2 * left)
        reaches.append(event / 2 + quantile * deviation + away * deviation**2)
    return reaches[0], reaches[1]
