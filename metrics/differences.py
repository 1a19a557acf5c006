"""Differences between networks trained with several seeds, paired by seed and by image."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from scipy.stats import t as student_t
from torch import Tensor

from regrow.metrics.evidence import CorrectEvidence, Evidence
from regrow.metrics.intervals import paired_interval

Interval = tuple[float, float]
ROUNDING = 1e-9  # differences of scores that lie closer together are taken as equal


class MeanEvidence(Evidence):
    """The evidence of several networks on the same images; its score is the mean of theirs.

    An image in a set counts for all networks at once, so it remains one image.

    Args:
        parts: The evidence of each network.
    """

    def __init__(self, parts: Sequence[Evidence]) -> None:
        self.parts = list(parts)

    @property
    def num_images(self) -> int:
        """Number of images."""
        return self.parts[0].num_images

    @property
    def shown(self) -> Tensor:
        """Whether each image shows each class, (n, c); the same for all networks."""
        return self.parts[0].shown

    def only(self, classes: Sequence[int]) -> "MeanEvidence":
        """Return the evidence restricted to some classes, of every network."""
        return MeanEvidence([part.only(classes) for part in self.parts])

    def scores(self, counts: Tensor) -> Tensor:
        """Compute the mean score of several sets of images."""
        return torch.stack([part.scores(counts) for part in self.parts]).mean(0)


class PartEvidence(Evidence):
    """The evidence of a subset of the images.

    Args:
        whole: The evidence of all images.
        is_part: Whether each image belongs to the subset.
    """

    def __init__(self, whole: Evidence, is_part: Sequence[bool]) -> None:
        self.whole, self.is_part = whole, torch.tensor([*is_part], dtype=torch.bool)

    @property
    def num_images(self) -> int:
        """Number of images."""
        return int(self.is_part.sum())

    @property
    def shown(self) -> Tensor:
        """Whether each of the images shows each class, (n, c)."""
        return self.whole.shown[self.is_part]

    def only(self, classes: Sequence[int]) -> "PartEvidence":
        """Return the evidence restricted to some classes.

        Raises:
            TypeError: If classes choose among images, as they do for accuracy; see `part_of`.
        """
        whole = self.whole.only(classes)
        if whole.num_images != self.whole.num_images:
            raise TypeError("take the classes of a part that `part_of` gives")
        return PartEvidence(whole, self.is_part.tolist())

    def scores(self, counts: Tensor) -> Tensor:
        """Compute the score of several sets of these images."""
        whole = counts.new_zeros(len(counts), self.whole.num_images)
        whole[:, self.is_part] = counts
        return self.whole.scores(whole)


def part_of(whole: Evidence, is_part: Sequence[bool]) -> Evidence:
    """Return the evidence of a subset of the images.

    Evidence of accuracy stays a `CorrectEvidence`, which the exact test takes.

    Args:
        whole: The evidence of all images.
        is_part: Whether each image belongs to the subset.
    """
    if isinstance(whole, CorrectEvidence):
        return whole.images(torch.tensor([*is_part], dtype=torch.bool))
    return PartEvidence(whole, is_part)


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of two contestants in one figure, over seeds.

    Args:
        mean: The mean difference.
        by_seed: The interval of the mean over seeds; None where their spread is unknown.
        by_image: The interval over images, for these trained networks; None where the figure is no
            score of images.
    """

    mean: float
    by_seed: Interval | None
    by_image: Interval | None = None

    @property
    def verdict(self) -> Literal["higher", "lower", "undecided"]:
        """The direction of the difference, if every known interval excludes zero on one side."""
        known = [interval for interval in (self.by_seed, self.by_image) if interval is not None]
        if self.by_seed is not None and all(low > 0 for low, _ in known):
            return "higher"
        if self.by_seed is not None and all(high < 0 for _, high in known):
            return "lower"
        return "undecided"


def seed_interval(differences: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Compute Student's t interval of the mean of paired differences, one per seed.

    Args:
        differences: One per seed.
        confidence: The interval's confidence, in (0, 1).

    Returns:
        The low and the high end; None where the spread is unknown: with fewer than two seeds, or
        with equal differences, which scores of few images can have by chance.
    """
    count = len(differences)
    if count < 2 or max(differences) - min(differences) < ROUNDING:
        return None
    error = statistics.stdev(differences) / count**0.5
    reach = float(student_t.ppf(0.5 + confidence / 2, count - 1)) * error
    mean = statistics.fmean(differences)
    return mean - reach, mean + reach


def differ(
    values: Sequence[float],
    others: Sequence[float],
    evidence: Sequence[Evidence] = (),
    other_evidence: Sequence[Evidence] = (),
    confidence: float = 0.95,
) -> Difference:
    """Compare the figures of two contestants, paired by seed and, for scores, by image.

    Args:
        values: The first contestant's figures, one per seed.
        others: The second's, of the same seeds in the same order.
        evidence: The per-image evidence behind `values`, one per seed, if they are scores.
        other_evidence: The same behind `others`, of the same images.
        confidence: The confidence of each interval, both of its ends together, in [0, 1).

    Returns:
        The difference `values` minus `others`.
    """
    differences = [value - other for value, other in zip(values, others, strict=True)]
    by_image = None
    if evidence:
        parts = MeanEvidence(other_evidence), MeanEvidence(evidence)
        by_image = paired_interval(*parts, 0.5 + confidence / 2)  # each end alone
    return Difference(
        statistics.fmean(differences), seed_interval(differences, confidence), by_image
    )
