"""Evidence of a change, collected by bets that restart: an e-detector.

Source: Shin, Ramdas and Rinaldo, E-detectors: a nonparametric framework for sequential change
detection, 2309.09111. Each bet multiplies its wealth M by a factor L whose mean is at most 1 while
nothing has changed: M <- L max(M, 1). The mean number of steps before the mean wealth of several
bets first reaches A is at least A, whenever and how often one looks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# How far above the alarm's level wealth is kept, so that an alarm ends when the change does.
HEADROOM = math.log(100.0)


@dataclass(slots=True)
class Evidence:
    """The wealth of bets, and since when each has bet without a restart.

    Args:
        log_wealth: The logarithm of each bet's wealth.
        since: When each bet last restarted, in seconds since 1970.
        count: The steps since then.
        total: The sum since then of what is bet on.
        squares: The sum of its squares.
    """

    log_wealth: np.ndarray
    since: np.ndarray
    count: np.ndarray
    total: np.ndarray
    squares: np.ndarray

    @classmethod
    def empty(cls, num_bets: int) -> "Evidence":
        """Return the evidence before the first step."""
        zeros = [np.zeros(num_bets) for _ in range(5)]
        return cls(*zeros)

    def add_(self, log_factors: np.ndarray, values: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Bet on some steps.

        Args:
            log_factors: The logarithm of each step's factor, (steps, bets).
            values: What is bet on, whose mean shows the size of a change, (steps,).
            times: When each step was, in seconds since 1970, (steps,).

        Returns:
            The logarithm of the mean wealth after each step, (steps,).
        """
        steps = len(log_factors)
        if not steps:
            return np.zeros(0)
        # With W = log max(M, 1), W <- max(W + log L, 0): a walk that is reflected at 0, so it is
        # the walk less its lowest point so far.
        start = np.maximum(self.log_wealth, 0)
        walk = start + np.cumsum(log_factors, axis=0)
        lowest = np.minimum(np.minimum.accumulate(walk, axis=0), 0)
        reflected = walk - lowest
        before = np.vstack([start, reflected[:-1]])
        logs = before + log_factors
        self._note_restarts_(before <= 0, values, times)
        self.log_wealth = logs[-1].copy()
        return _log_mean(logs)

    def _note_restarts_(
        self, is_restart: np.ndarray, values: np.ndarray, times: np.ndarray
    ) -> None:
        steps = len(values)
        sums = np.concatenate([[0.0], np.cumsum(values)])
        squares = np.concatenate([[0.0], np.cumsum(values**2)])
        for bet in range(is_restart.shape[1]):
            places = np.flatnonzero(is_restart[:, bet])
            if len(places):
                first = places[-1]
                self.since[bet] = times[first]
                self.count[bet] = self.total[bet] = self.squares[bet] = 0.0
            else:
                first = 0
            self.count[bet] += steps - first
            self.total[bet] += sums[-1] - sums[first]
            self.squares[bet] += squares[-1] - squares[first]

    def limit_(self, log_level: float) -> None:
        """Keep no more wealth than a hundred times an alarm's level, so that alarms end."""
        np.minimum(self.log_wealth, log_level + HEADROOM, out=self.log_wealth)

    @property
    def strongest(self) -> int:
        """Return the bet with the most wealth."""
        return int(np.argmax(self.log_wealth))

    def to_list(self) -> list[list[float]]:
        """Return the state as plain data, exactly."""
        return [own.tolist() for own in self._parts()]

    @classmethod
    def from_list(cls, content: Sequence[Sequence[float]], num_bets: int) -> "Evidence":
        """Return the evidence that plain data holds.

        Raises:
            ValueError: If it holds none of so many bets.
        """
        parts = [np.array(own, dtype=np.float64) for own in content]
        if len(parts) != 5 or any(own.shape != (num_bets,) for own in parts):
            raise ValueError("no evidence of so many bets")
        if not all(np.isfinite(own).all() for own in parts):
            raise ValueError("evidence that is not finite")
        return cls(*parts)

    def _parts(self) -> list[np.ndarray]:
        return [self.log_wealth, self.since, self.count, self.total, self.squares]


def _log_mean(logs: np.ndarray) -> np.ndarray:
    largest = logs.max(axis=1)
    mean: np.ndarray = largest + np.log(np.exp(logs - largest[:, None]).mean(axis=1))
    return mean
