"""How contestants of several seeds differ: paired by seed, and paired by image."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from scipy.stats import t as student_t
from torch import Tensor

from regrow.models.cost import Cost
from regrow.models.evaluation import Evaluation
from regrow.models.evidence import Evidence, paired_interval
from regrow.prune.contestants import Contestant, Result

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

    def only(self, classes: Sequence[int]) -> "MeanEvidence":
        """Give what each part says of some classes."""
        return MeanEvidence([part.only(classes) for part in self.parts])

    def scores(self, counts: Tensor) -> Tensor:
        """Give the mean score of sets of images."""
        return torch.stack([part.scores(counts) for part in self.parts]).mean(0)


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
        confidence: The confidence of both intervals, in (0, 1).
    """
    differences = [value - other for value, other in zip(values, others, strict=True)]
    by_image = None
    if evidence:
        parts = MeanEvidence(other_evidence), MeanEvidence(evidence)
        by_image = paired_interval(*parts, confidence)
    return Difference(
        statistics.fmean(differences), seed_interval(differences, confidence), by_image
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """All that is known of one contestant.

    Args:
        contestant: Who.
        results: One a seed.
        tests: Its evaluation on test images, one a seed.
        cost: What its network of the first seed costs; the latency is that of one image.
        batch_ms: Time of a batch, in milliseconds.
        memory: The most memory that a batch needs, in bytes.
    """

    contestant: Contestant
    results: tuple[Result, ...]
    tests: tuple[Evaluation, ...]
    cost: Cost
    batch_ms: float
    memory: int

    @property
    def name(self) -> str:
        """Give its name."""
        return self.contestant.name

    @property
    def train(self) -> list[float]:
        """Give its scores on training images."""
        return [result.train for result in self.results]

    @property
    def val(self) -> list[float]:
        """Give its scores on validation images."""
        return [result.val for result in self.results]

    @property
    def gaps(self) -> list[float]:
        """Give by how much its scores on training images exceed those on validation images."""
        return [result.train - result.val for result in self.results]

    @property
    def test(self) -> list[float]:
        """Give its scores on test images."""
        return [test.value for test in self.tests]

    @property
    def spent(self) -> float:
        """Give the share of the budget that it spent, averaged over seeds."""
        return statistics.fmean(result.compute / result.budget for result in self.results)

    def against(self, other: "Standing", confidence: float = 0.95) -> dict[str, Difference]:
        """Compare with another: `train`, `val`, `gap`, and `test`, the last also over images.

        Args:
            other: The other, of the same seeds.
            confidence: The confidence of each interval, in (0, 1).
        """
        mine, others = ([test.evidence for test in side.tests] for side in (self, other))
        return {
            "train": differ(self.train, other.train, confidence=confidence),
            "val": differ(self.val, other.val, confidence=confidence),
            "gap": differ(self.gaps, other.gaps, confidence=confidence),
            "test": differ(self.test, other.test, mine, others, confidence),
        }
