"""The accuracy budget: whether a network keeps it, decided by a paired interval."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import hypot, inf, isnan, sqrt
from typing import Literal

from regrow.errors import BadInput
from regrow.metrics.evidence import CorrectEvidence, Evidence
from regrow.metrics.exact_test import images_to_decide
from regrow.metrics.intervals import lost_and_gained, paired_interval, shown_by
from regrow.metrics.unseen import Shown, first


@dataclass(frozen=True)  # slots would hide its defaults from the command line
class Budget:
    """The accepted drop of the score, and the confidence at which it is decided.

    Args:
        max_drop: Accuracy budget: the largest accepted drop of the score, a share in [0, 1].
        confidence: Confidence of the decision, in [0.5, 1): a network that breaks the budget is
            accepted with a probability of at most 1 - confidence.

    Examples:
        >>> import torch
        >>> from regrow.metrics import Budget, CorrectEvidence, decide
        >>> labels = torch.zeros(2000)
        >>> before = CorrectEvidence.of(torch.arange(2000) < 1900, labels)
        >>> after = CorrectEvidence.of(torch.arange(2000) < 1895, labels)
        >>> decide(before, after, Budget(max_drop=0.01)).is_met
        True
    """

    max_drop: float = 0.01
    confidence: float = 0.95

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 0 <= self.max_drop <= 1:
            raise BadInput(f"budget.max_drop is {self.max_drop}, it must lie in [0, 1]")
        if not 0.5 <= self.confidence < 1:
            raise BadInput(f"budget.confidence is {self.confidence}, it must lie in [0.5, 1)")

    def used(self, drop: float) -> float:
        """Compute the share of the budget that a drop of the score uses up.

        Returns:
            A share in [0, 1] within the budget, its edge included; infinite beyond it, and for a
            drop that is NaN.
        """
        if drop <= 0:
            return 0.0
        # The subtraction that made the drop is rounded.
        if drop <= self.max_drop + 1e-9:
            return min(drop / max(self.max_drop, 1e-9), 1.0)
        return inf


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision about a budget, and the figures behind it.

    Args:
        is_met: True or False at the budget's confidence, or `undecided`.
        interval: Low and high end of score(after) - score(before). Each end alone holds at the
            budget's confidence, so with 95 % both hold together at 90 %.
        num_images: Number of images that both networks were scored on.
        num_needed: Estimated number of images that would decide it; None when decided, or when the
            score is too near the limit for an estimate.
        sampling: The part of the interval that is due to the variation between images; None for
            accuracy, whose exact test does not separate the two parts.
        unseen: The other part of the interval: a change that can occur without showing on any of so
            many images.
    """

    is_met: bool | Literal["undecided"]
    interval: tuple[float, float]
    num_images: int
    num_needed: int | None = None
    sampling: tuple[float, float] | None = None
    unseen: float | None = None


def decide(before: Evidence, after: Evidence, budget: Budget) -> Verdict:
    """Decide whether a pruned network keeps the budget.

    Args:
        before: Per-image evidence of the unpruned network.
        after: Per-image evidence of the pruned network, the same images in the same order.
        budget: The accepted drop and the confidence.

    Returns:
        Met if the low end of the interval of the difference lies at or above `-max_drop`, not met
        if the high end lies below it, else undecided.

    Raises:
        ValueError: If the two were not scored on the same number of images.
    """
    if before.num_images != after.num_images:
        raise ValueError(
            f"before has {before.num_images} images and after {after.num_images}: "
            "score both on the same images"
        )
    low, high = paired_interval(before, after, budget.confidence)
    limit = -budget.max_drop
    is_met: bool | Literal["undecided"] = True if low >= limit else "undecided"
    is_met = False if high < limit else is_met
    needed = _needed(before, after, budget, (low, high)) if is_met == "undecided" else None
    unseen = shown_by(before).unseen(budget.confidence)
    sampling = _sampling(before, after, (low, high), unseen)
    return Verdict(is_met, (low, high), before.num_images, needed, sampling, unseen)


def _sampling(
    before: Evidence, after: Evidence, interval: tuple[float, float], unseen: float
) -> tuple[float, float] | None:
    centre = after.score() - before.score()
    if isinstance(before, CorrectEvidence) or isnan(centre):
        return None
    below, above = centre - interval[0], interval[1] - centre
    return centre - sampling_part(below, unseen), centre + sampling_part(above, unseen)


def foresee(shown: Shown, limit: float, confidence: float, images: str) -> str | None:
    """Describe a test set that is too small to decide about a limit, whatever the network.

    Args:
        shown: The number of images, and how many show each class.
        limit: The largest accepted drop, a share in [0, 1].
        confidence: The confidence of the decision.
        images: The name of the images in the sentence, such as `test images`.

    Returns:
        One sentence; None where the images can decide.
    """
    reach = shown.unseen(confidence)
    if reach <= limit + 1e-12:
        return None
    least = shown.least_images(limit, confidence)
    needed = f"at least {least:,} needed" if least is not None else "no number of them can"
    points = in_points(limit)
    return (
        f"{shown.num_images:,} {images} are too few to rule out a loss above {points} "
        f"({needed}): a network that loses nothing on these may still have lost {100 * reach:.1f} "
        "points on others, so only one that gains enough would be accepted"
    )


def in_points(share: float) -> str:
    """Return a share in words, as points of 0.01."""
    return f"{100 * share:g} point{'s' * (share != 0.01)}"


def _needed(
    before: Evidence, after: Evidence, budget: Budget, interval: tuple[float, float]
) -> int | None:
    difference, limit, count = after.score() - before.score(), -budget.max_drop, before.num_images
    if isnan(difference):
        return None
    if isinstance(before, CorrectEvidence) and isinstance(after, CorrectEvidence):
        changes = lost_and_gained(before, after)
        return images_to_decide(*changes, count, limit, budget.confidence)
    unseen = partial(shown_by(before).unseen, budget.confidence)
    return images_needed(*interval, difference, limit, count, unseen)


def images_needed(
    low: float,
    high: float,
    difference: float,
    limit: float,
    num_images: int,
    unseen: float | Callable[[float], float],
) -> int | None:
    """Estimate how many images would narrow an interval until it excludes the limit.

    The measured difference is taken to stay the same. The interval has two parts, whose squares add
    up: the sampling part shrinks with the root of the number of images, the unseen part (see
    `Shown.unseen`) about in proportion to the number.

    Args:
        low: Low end of the interval.
        high: High end of the interval.
        difference: The measured difference.
        limit: The value that the interval must exclude.
        num_images: The number of images now.
        unseen: The unseen part as a function of the number of images; or its value now, for a score
            over all images alike (2 s / (1 + s), see `Shown.unseen`).

    Returns:
        The number of images, or None if the difference equals the limit.
    """
    margin = difference - limit
    if margin == 0:
        return None
    least = unseen if callable(unseen) else _of_all(unseen, num_images)
    # The end of the interval that has to pass the limit.
    reach = difference - low if margin > 0 else high - difference
    seen = sampling_part(reach, least(num_images))

    def decides(count: int) -> bool:
        return hypot(seen * sqrt(num_images / count), least(count)) <= abs(margin)

    return first(decides, num_images + 1)


def sampling_part(reach: float, unseen: float) -> float:
    """Compute the part of an interval's reach that is due to the variation between images."""
    return sqrt(max(reach**2 - unseen**2, 0.0))


def _of_all(unseen: float, num_images: int) -> Callable[[float], float]:
    """Return 2 s / (1 + s) as a function of the number of images n, where (1 - s)^n is constant."""
    left = 1 - unseen / (2 - unseen)

    def of(count: float) -> float:
        share = 1 - left ** (num_images / count)
        return float(2 * share / (1 + share))

    return of
