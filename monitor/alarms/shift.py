"""The alarm `warn`: whether a score still looks like its frozen reference, without labels.

Each score becomes u, its rank among the reference: uniform on [0, 1] while nothing changed. Bets
on the mean of u find shifts; bets on |2u - 1|, whose mean is then 1/2, find a change of spread. The
reference is a sample, so both means may be off; each bet pays for the most by which they are off,
but for a small probability d (`rank_error`, `spread_error`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from regrow.monitor.alarms.evidence import Evidence

DELTA = 0.005  # the probability that the reference is off by more than is paid for
PART = DELTA / 3  # of each of the three inequalities that this rests on
THETA = 0.9  # any number in (0, 1) is right; near this one the remainder is least
STAKES = (0.06, 0.12, 0.25, 0.5, 1.0, 1.9)
BETS = np.array([sign * stake for stake in STAKES for sign in (1, -1)])
NUM_BETS = 2 * len(BETS)  # on the mean, then on the spread
FEWEST = 20  # scores of a reference: with fewer no change could ever show
CONFIDENCE = 0.95
CHUNK = 2**11  # steps that are bet on at a time, so that they stay in the processor's cache


@dataclass(frozen=True, slots=True)
class Effect:
    """The size of a change.

    Args:
        auc: The probability that a picture of now has a larger score than one of the reference;
            1/2 where nothing has changed.
        interval: Its 95 % interval, which describes and decides nothing.
        count: The pictures, or blocks of them, that it is of.
    """

    auc: float
    interval: tuple[float, float]
    count: int


def rank_error(num_reference: int) -> float:
    """Compute by how much the mean rank may be off because the reference is a sample.

    Given the reference, the mean of u is that of n independent values, each of which is the mean of
    a uniform number, shrunk by n / (n + 1) towards 1/2. So E exp(t (mean - 1/2)) <= exp(t^2 / 24n),
    as for a uniform number, and Chernoff's bound is 2 exp(-6 n e^2). Ties change nothing. That is a
    third of the variance that the inequality of Dvoretzky, Kiefer and Wolfowitz would pay for,
    which holds for all ranks at once.

    Source: Chernoff, Annals of Mathematical Statistics 23, 1952; for the uniform distribution
    sinh(x) / x <= exp(x^2 / 6), term by term.

    Args:
        num_reference: The independent pictures in it: of frames of videos, the videos.
    """
    return math.sqrt(math.log(2 / PART) / (6 * num_reference))


def spread_error(num_reference: int) -> float:
    """Compute by how much the mean of |2u - 1| may be off because the reference is a sample.

    To first order it is off by the mean of n numbers 2 min(v, 1 - v) - 1/2, v uniform, which is a
    uniform number again: as `rank_error`. What is left lies in [0, 2 D^2], where D is the largest
    difference of the two distribution functions: only between the medians of the reference and of
    its distribution do their signs differ. P(D > x) <= 2 exp(-2 n x^2) (Massart, Annals of
    Probability 18, 1990) gives E exp(2 n THETA D^2) <= 2^THETA / (1 - THETA), and Markov's
    inequality the rest, also for ties, which average over D.

    Args:
        num_reference: The independent pictures in it: of frames of videos, the videos.
    """
    left = (math.log(1 / PART) + THETA * math.log(2) - math.log(1 - THETA)) / THETA
    return rank_error(num_reference) + left / num_reference


def ranks(reference: np.ndarray, scores: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Compute the rank of scores among a reference, in (0, 1): uniform if they are alike.

    Source: the probability integral transform with ties broken at random, as in conformal
    prediction (Vovk et al., Algorithmic Learning in a Random World, 2005).

    Args:
        reference: The scores of the reference, ascending, (n,).
        scores: The scores, (m,).
        draws: A uniform number in [0, 1) for each, which breaks ties, (m,).
    """
    below = np.searchsorted(reference, scores, side="left")
    equal = np.searchsorted(reference, scores, side="right") - below
    found: np.ndarray = (below + draws * (equal + 1)) / (len(reference) + 1)
    return found


class ShiftDetector:
    """The bets on one score.

    Args:
        num_reference: The independent pictures in the reference.
        evidence: Where the bets stand; None before the first picture.
    """

    def __init__(self, num_reference: int, evidence: Evidence | None = None) -> None:
        self.num_reference = num_reference
        self.evidence = evidence if evidence is not None else Evidence.empty(NUM_BETS)

    def add_(
        self, u: np.ndarray, times: np.ndarray, spread: np.ndarray | None = None
    ) -> np.ndarray:
        """Bet on some ranks.

        Args:
            u: The ranks in their order, or the mean rank of each block of them, (m,).
            times: When each was, in seconds since 1970, (m,).
            spread: The mean of |2u - 1| in each block; None where each rank is its own block.

        Returns:
            The logarithm of the evidence after each, (m,): an alarm where it reaches log A.
        """
        parts = [np.zeros(0)]
        for start in range(0, len(u), CHUNK):
            part = slice(start, start + CHUNK)
            wide = None if spread is None else spread[part]
            factors = log_factors(u[part], self.num_reference, wide)
            parts.append(self.evidence.add_(factors, u[part], times[part]))
        return np.concatenate(parts)

    def effect(self) -> Effect | None:
        """Return the size of the change since the strongest bet began; None before any picture."""
        own, bet = self.evidence, self.evidence.strongest
        count = own.count[bet]
        if count < 1:
            return None
        auc = own.total[bet] / count
        variance = max(own.squares[bet] / count - auc * auc, 0.0) / count
        error = math.sqrt(variance + 1 / (12 * self.num_reference))
        reach = float(ndtri((1 + CONFIDENCE) / 2)) * error
        interval = (max(0.0, auc - reach), min(1.0, auc + reach))
        return Effect(float(auc), interval, int(count))

    @property
    def is_of_spread(self) -> bool:
        """Whether the strongest bet is one on the spread."""
        return self.evidence.strongest >= len(BETS)


def log_factors(u: np.ndarray, num_reference: int, spread: np.ndarray | None = None) -> np.ndarray:
    """Compute the logarithm of each bet's factor at each rank, (m, bets).

    Args:
        u: The ranks, or their means by block, (m,).
        num_reference: The independent pictures in the reference.
        spread: The mean of |2u - 1| by block; None computes it of `u`.
    """
    stakes = np.abs(BETS)
    wide = np.abs(2 * u - 1) if spread is None else spread
    mean = np.log1p(BETS * (u[:, None] - 0.5)) - np.log1p(stakes * rank_error(num_reference))
    width = np.log1p(BETS * (wide[:, None] - 0.5)) - np.log1p(stakes * spread_error(num_reference))
    return np.hstack([mean, width])


def by_block(
    u: np.ndarray, times: np.ndarray, blocks: Sequence[str] | np.ndarray
) -> tuple[np.ndarray, ...]:
    """Return the mean rank, the time of the last picture, and the mean |2u - 1| of each block.

    Pictures of one block, such as frames of one video, depend on each other; their mean has the
    same mean as each of them while nothing has changed, and counts as one step.

    Args:
        u: The ranks in the order of their time, (m,).
        times: When each was, (m,).
        blocks: The name of the block of each, or its key.

    Returns:
        Three arrays, (blocks,), in the order in which the blocks end.
    """
    if not len(u):
        return np.zeros(0), np.zeros(0), np.zeros(0)
    _, inverse = np.unique(np.asarray(blocks), return_inverse=True)
    counts = np.bincount(inverse)
    last = np.zeros(len(counts), dtype=np.int64)
    last[inverse] = np.arange(len(u))
    order = np.argsort(last)
    means = np.bincount(inverse, weights=u) / counts
    spreads = np.bincount(inverse, weights=np.abs(2 * u - 1)) / counts
    return means[order], times[last[order]], spreads[order]
