"""Intervals of bias metrics, at 95 %, where pictures may depend on each other within blocks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regrow.monitor.alarms.risk import proportion_interval


@dataclass(frozen=True, slots=True)
class Share:
    """A share of one side with its interval.

    Args:
        value: The share, in [0, 1].
        low: The low end.
        high: The high end.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, size: float) -> "Share":
        """Return a share with its exact interval (Clopper and Pearson).

        Source: the variance of a mean of values in [0, 1] is at most that of a proportion (Bhatia
        and Davis, American Mathematical Monthly 107, 2000), so it is an interval of shares too.

        Args:
            value: The share.
            size: Of how many independent parts, see `effective_size`.
        """
        value = min(max(value, 0.0), 1.0)
        return cls(value, *proportion_interval(value * size, size))


def effective_size(total: float, squares: float) -> float:
    """Compute how many equal blocks would give a mean as sure as blocks of different sizes do.

    Source: Kish, Survey Sampling, 1965.

    Args:
        total: The sum of the blocks' sizes.
        squares: The sum of their squares.
    """
    return total * total / squares if squares > 0 else 0.0


def num_independent(groups: Sequence[str]) -> int:
    """Return how many independent pictures are worth as much as groups of dependent ones.

    Of groups of one size it is their number; of unequal ones fewer, as the mean over all pictures
    rests on the large ones.

    Args:
        groups: The group of each picture.
    """
    _, counts = np.unique(groups, return_counts=True)
    return int(effective_size(counts.sum(), (counts**2).sum()))


def difference_interval(first: Share, second: Share) -> tuple[float, float]:
    """Compute the interval of the first share less the second, of independent sides.

    Source: Newcombe, Statistics in Medicine 17, 1998 (his method 10 with exact ends in place of
    Wilson's).
    """
    value = first.value - second.value
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    return max(value - below, -1.0), min(value + above, 1.0)


def ratio_interval(first: Share, second: Share) -> tuple[float, float]:
    """Compute the interval of the first share over the second, of independent sides.

    Source: Zou and Donner, Statistics in Medicine 27, 2008, on the logarithms; where a share is 0,
    the quotients of the ends.
    """
    if not (first.low > 0 and second.low > 0):
        high = first.high / second.low if second.low > 0 else math.inf
        return first.low / second.high, high
    parts = (first.value, first.low, first.high, second.value, second.low, second.high)
    value, low, high, other, other_low, other_high = map(math.log, parts)
    below = math.hypot(value - low, other_high - other)
    above = math.hypot(high - value, other - other_low)
    return math.exp(value - other - below), math.exp(value - other + above)
