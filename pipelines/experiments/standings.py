"""Where the contestants of a comparison stand: their figures, and how these differ."""

import statistics
from dataclasses import dataclass

from regrow.metrics.differences import Difference, differ
from regrow.models.cost import Cost
from regrow.pipelines.experiments.contestants import Contestant, Result
from regrow.training.evaluation import Evaluation


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
