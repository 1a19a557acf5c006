"""How networks of several seeds differ: paired by seed, and paired by image."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from scipy.stats import t as student_t
from torch import Tensor

from regrow.metrics.evidence import CorrectEvidence, Evidence
from regrow.metrics.intervals import paired_interval

Interval = tuple[float, float]
ROUNDING = 1e-9  # differences of scores that differ by less are equal


class MeanEvidence(Evidence):
    """The evidence of several networks on the same images, whose score is their mean score.

    An image that is in a set is in it for all of them: it stays one image.

    Args:
        parts: The evidence of each network.
    """

    def __init__(self, parts: Sequence[Evidence]) -> None:
        self.parts = list(parts)

    def update(self, predictions: Any, targets: Any) -> None:
        """Refuse: each part has been updated by itself."""
        raise TypeError("mean evidence is made of evidence that is complete")

    @property
    def num_images(self) -> int:
        """Count the images."""
        return self.parts[0].num_images

    @property
    def shown(self) -> Tensor:
        """Whether each image shows each class, (n, c); it does so for all networks."""
        return self.parts[0].shown

    def only(self, classes: Sequence[int]) -> "MeanEvidence":
        """Give what each part says of some classes."""
        return MeanEvidence([part.only(classes) for part in self.parts])

    def scores(self, counts: Tensor) -> Tensor:
        """Give the mean score of sets of images."""
        return torch.stack([part.scores(counts) for part in self.parts]).mean(0)


class PartEvidence(Evidence):
    """The evidence of some of the images.

    Args:
        whole: The evidence of all.
        is_part: For each image whether it is one of them.
    """

    def __init__(self, whole: Evidence, is_part: Sequence[bool]) -> None:
        self.whole, self.is_part = whole, torch.tensor([*is_part], dtype=torch.bool)

    def update(self, predictions: Any, targets: Any) -> None:
        """Refuse: the whole has been updated."""
        raise TypeError("a part of evidence is made of evidence that is complete")

    @property
    def num_images(self) -> int:
        """Count the images."""
        return int(self.is_part.sum())

    @property
    def shown(self) -> Tensor:
        """Whether each of the images shows each class, (n, c)."""
        return self.whole.shown[self.is_part]

    def only(self, classes: Sequence[int]) -> "PartEvidence":
        """Return what these images say of some classes.

        Raises:
            TypeError: If classes choose among images, as they do for accuracy; see `part_of`.
        """
        whole = self.whole.only(classes)
        if whole.num_images != self.whole.num_images:
            raise TypeError("take the classes of a part that `part_of` gives")
        return PartEvidence(whole, self.is_part.tolist())

    def scores(self, counts: Tensor) -> Tensor:
        """Give the score of sets of these images."""
        whole = counts.new_zeros(len(counts), self.whole.num_images)
        whole[:, self.is_part] = counts
        return self.whole.scores(whole)


def part_of(whole: Evidence, is_part: Sequence[bool]) -> Evidence:
    """Return the evidence of some of the images; that of accuracy stays what the exact test takes.

    Args:
        whole: The evidence of all.
        is_part: For each image whether it is one of them.
    """
    if isinstance(whole, CorrectEvidence):
        return whole.images(torch.tensor([*is_part], dtype=torch.bool))
    return PartEvidence(whole, is_part)


@dataclass(frozen=True, slots=True)
class Difference:
    """How one contestant differs from another in a figure, over seeds.

    Args:
        mean: The mean difference.
        by_seed: Its interval over seeds; None where their spread is unknown.
        by_image: Its interval over images, for these very networks; None where there is none.
    """

    mean: float
    by_seed: Interval | None
    by_image: Interval | None = None

    @property
    def verdict(self) -> Literal["higher", "lower", "undecided"]:
        """Say which, if every interval that there could be agrees."""
        known = [interval for interval in (self.by_seed, self.by_image) if interval is not None]
        if self.by_seed is not None and all(low > 0 for low, _ in known):
            return "higher"
        if self.by_seed is not None and all(high < 0 for _, high in known):
            return "lower"
        return "undecided"


def seed_interval(differences: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Give the interval of the mean of paired differences, one a seed, by Student's t.

    Args:
        differences: One a seed.
        confidence: The interval's confidence, in (0, 1).

    Returns:
        The low and the high end; None where the spread is unknown: for fewer than two seeds, or
        equal differences, which scores of few images have by chance.
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
    """Compare a contestant's figures with another's, seed by seed.

    Args:
        values: Its figures, one a seed.
        others: The other's, the same seeds in the same order.
        evidence: What they were made of, if they are scores of images.
        other_evidence: The other's, the same images.
        confidence: The confidence of both intervals, in [0, 1): of both ends of each together.
    """
    differences = [value - other for value, other in zip(values, others, strict=True)]
    by_image = None
    if evidence:
        parts = MeanEvidence(other_evidence), MeanEvidence(evidence)
        by_image = paired_interval(*parts, 0.5 + confidence / 2)  # each end alone
    return Difference(
        statistics.fmean(differences), seed_interval(differences, confidence), by_image
    )
