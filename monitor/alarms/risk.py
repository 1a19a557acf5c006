"""The alarm `act`: whether the loss on labelled pictures is above what was promised.

Source: Podkopaev and Ramdas, Tracking the risk of a deployed model and detecting harmful
distribution shifts, 2110.06177: the null hypothesis is that the risk is at most the upper bound of
the reference's risk plus a tolerance. Here in the form of an e-detector, which restarts.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from regrow.errors import BadInput
from regrow.monitor.alarms.evidence import Evidence

DELTA = 0.005  # the probability that the reference's risk lies above its bound
STAKES = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.8])  # as shares of the largest that is allowed
TOLERANCE = 0.02
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Promise:
    """The largest risk that is accepted.

    Args:
        risk: The mean loss on the reference.
        num_reference: The independent pictures in it.
        limit: The bound of its risk plus the tolerance.
    """

    risk: float
    num_reference: int
    limit: float


def promise(losses: np.ndarray, draws: np.ndarray, tolerance: float = TOLERANCE) -> Promise:
    """Return the largest risk that is accepted: an exact bound of the reference's, and a tolerance.

    The bound of Clopper and Pearson is exact for losses of 0 and 1. One in between counts as 1 with
    a probability of its own size, so that the bound stays exact (Hoeffding's randomised rounding).

    Args:
        losses: The loss of each picture of the reference, in [0, 1], (n,).
        draws: A uniform number in [0, 1) for each, (n,).
        tolerance: How much worse the model may get.

    Raises:
        BadInput: If there is no loss, or one lies outside of [0, 1].
    """
    if not len(losses) or not ((losses >= 0) & (losses <= 1)).all():
        raise BadInput(f"{len(losses)} losses of the reference; give losses in [0, 1]")
    wrong = int((draws < losses).sum())
    limit = min(clopper_pearson(wrong, len(losses), 1 - DELTA) + tolerance, 1.0)
    return Promise(float(losses.mean()), len(losses), limit)


def clopper_pearson(count: float, total: float, confidence: float) -> float:
    """Compute the exact upper bound of a proportion.

    Source: Clopper and Pearson, Biometrika 26, 1934.

    Args:
        count: How often the event was seen.
        total: In how many independent trials.
        confidence: The probability that the bound holds, at least.
    """
    if count >= total:
        return 1.0
    return float(betaincinv(count + 1, total - count, confidence))


def proportion_interval(count: float, total: float) -> tuple[float, float]:
    """Compute the exact 95 % interval of a proportion; [0, 1] of no trials."""
    if not total:
        return 0.0, 1.0
    confidence = (1 + CONFIDENCE) / 2
    low = 1 - clopper_pearson(total - count, total, confidence)
    return low, clopper_pearson(count, total, confidence)


class RiskDetector:
    """The bets that the risk is above a limit.

    Args:
        limit: The largest risk that is accepted, in (0, 1].
        evidence: Where the bets stand; None before the first label.
    """

    def __init__(self, limit: float, evidence: Evidence | None = None) -> None:
        self.limit = limit
        self.evidence = evidence if evidence is not None else Evidence.empty(len(STAKES))

    def add_(self, losses: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Bet on the losses of labelled pictures, or mean losses of blocks, which count alike.

        Args:
            losses: In [0, 1], in the order in which their labels came, (m,).
            times: When each was seen, in seconds since 1970, (m,).

        Returns:
            The logarithm of the evidence after each, (m,): an alarm where it reaches log A.
        """
        return self.evidence.add_(self._log_factors(losses), losses, times)

    def add_sampled_(self, weighted: np.ndarray, count: int, time: float) -> np.ndarray:
        """Bet on all pictures of an hour, of which some were labelled with known probabilities.

        A labelled picture counts its loss z over its probability p, any other one 0: the mean is
        that of the loss of all pictures, whatever decided on the probabilities before the label was
        known. The hour is one step.

        Source: Horvitz and Thompson, JASA 47, 1952.

        Args:
            weighted: z / p of each labelled picture, p in (0, 1], (m,); or of each block with
                labelled pictures the sum of theirs over all pictures that the block has.
            count: How many pictures or blocks the hour has, labelled or not.
            time: The hour, in seconds since 1970.

        Returns:
            The logarithm of the evidence after the hour, (1,).
        """
        labelled = self._log_factors(weighted).sum(axis=0)
        others = (count - len(weighted)) * self._log_factors(np.zeros(1))[0]
        mean = float(weighted.sum()) / max(count, 1)
        return self.evidence.add_(
            (labelled + others)[None], np.array([mean]), np.array([float(time)])
        )

    def risk(self) -> float | None:
        """Return the mean loss since the strongest bet began; None before any label."""
        own, bet = self.evidence, self.evidence.strongest
        return float(own.total[bet] / own.count[bet]) if own.count[bet] else None

    def _log_factors(self, losses: np.ndarray) -> np.ndarray:
        stakes = STAKES / self.limit
        factors: np.ndarray = np.log1p(stakes * (losses[:, None] - self.limit))
        return factors


def level(run_length: float, num_detectors: int = 1) -> float:
    """Return log A, where several detectors together alarm once in a mean run length.

    Args:
        run_length: The wanted mean number of steps before a false alarm.
        num_detectors: How many detectors share it.
    """
    return math.log(max(run_length, 1.0) * max(num_detectors, 1))
