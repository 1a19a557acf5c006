"""Gaps: bets that pictures of one kind differ from the rest by more than is accepted.

A step is a pair: the mean of what is bet on over a run of pictures of the kind, and that over the
run of others before or after it. Their difference has the gap as its mean, whatever the numbers of
both are. Z = (1 + difference) / 2 lies in [0, 1], and its mean is at most (1 + limit) / 2 while the
gap is within its limit; bets on it are those of `regrow.monitor.alarms.risk`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from regrow.monitor.alarms.evidence import Evidence
from regrow.monitor.alarms.risk import CONFIDENCE, STAKES, clopper_pearson
from regrow.monitor.bias.observations import Stream
from regrow.monitor.draws import draws

GAP = 0.05  # that is accepted besides what the reference shows
CHUNK = 2**15  # steps that are bet on at a time, so that memory is bounded
Carry = tuple[bool, float, float]  # an open run: whether it is of the kind, its length, its sum


@dataclass(frozen=True, slots=True)
class Steps:
    """Pairs of runs.

    Args:
        kind: The mean over the pictures of the kind, (m,).
        rest: The mean over the others, (m,).
        times: When each pair was complete, in seconds since 1970, (m,).
    """

    kind: np.ndarray
    rest: np.ndarray
    times: np.ndarray


def pair_runs(stream: Stream, code: int, carry: Carry | None = None) -> tuple[Steps, Carry | None]:
    """Pair runs of pictures of one value with runs of others.

    Pictures of a block depend on each other, so a block counts once, by its mean; one that has
    pictures of both sides is a pair of its own.

    Args:
        stream: The pictures in the order of their time.
        code: The number of the value.
        carry: The run that was left open before.

    Returns:
        The pairs, and the run that is left open.
    """
    is_kind, means, times, is_pure, others = _by_block(stream, code)
    runs, left = _pure_runs(is_kind[is_pure], means[is_pure], times[is_pure], carry)
    mixed = ~is_pure
    parts = (
        np.concatenate([runs.kind, means[mixed]]),
        np.concatenate([runs.rest, others[mixed]]),
        np.concatenate([runs.times, times[mixed]]),
    )
    order = np.argsort(parts[2], kind="stable")
    return Steps(*(own[order] for own in parts)), left


def _by_block(stream: Stream, code: int) -> tuple[np.ndarray, ...]:
    """Return by block, in the order in which they end: whether it is of the kind, its mean and end.

    Then whether it has one side only, and of one with both the mean of the others.
    """
    is_kind, inverse = stream.codes == code, stream.blocks
    last = np.zeros(inverse.max(initial=-1) + 1, dtype=np.int64)
    last[inverse] = np.arange(len(inverse))
    sides = []
    for chosen in (is_kind, ~is_kind):
        counts = np.bincount(inverse[chosen], minlength=len(last))
        sums = np.bincount(inverse[chosen], stream.values[chosen], len(last))
        sides.append((counts, sums / np.maximum(counts, 1)))
    (num_kind, kind), (num_rest, rest) = sides
    order = np.argsort(last)
    found = (
        num_kind > 0,
        np.where(num_kind > 0, kind, rest),
        stream.times[last],
        (num_kind == 0) | (num_rest == 0),
        rest,
    )
    return tuple(own[order] for own in found)


def _pure_runs(
    is_kind: np.ndarray, means: np.ndarray, times: np.ndarray, carry: Carry | None
) -> tuple[Steps, Carry | None]:
    if not len(is_kind):
        return Steps(np.zeros(0), np.zeros(0), np.zeros(0)), carry
    lengths, sums = np.ones(len(means)), means
    if carry is not None:
        is_kind = np.concatenate([[carry[0]], is_kind])
        lengths, sums = np.concatenate([[carry[1]], lengths]), np.concatenate([[carry[2]], sums])
        times = np.concatenate([times[:1], times])
    starts = np.concatenate([[0], np.flatnonzero(np.diff(is_kind.astype(np.int8))) + 1])
    total, length = np.add.reduceat(sums, starts), np.add.reduceat(lengths, starts)
    ends = np.concatenate([starts[1:], [len(is_kind)]]) - 1
    num_pairs = len(starts) // 2
    first, second = slice(0, 2 * num_pairs, 2), slice(1, 2 * num_pairs, 2)
    mean = total / length
    of_kind = is_kind[starts[first]]
    steps = Steps(
        np.where(of_kind, mean[first], mean[second]),
        np.where(of_kind, mean[second], mean[first]),
        times[ends[second]],
    )
    if len(starts) % 2 == 0:
        return steps, None
    return steps, (bool(is_kind[starts[-1]]), float(length[-1]), float(total[-1]))


@dataclass(frozen=True, slots=True)
class GapEffect:
    """The size of a gap.

    Args:
        kind: The mean over pictures of the kind.
        rest: The mean over the others.
        interval: The 95 % interval of the first less the second, which describes, decides nothing.
        count: The pairs that it is of.
        since: When the bet began, in seconds since 1970.
    """

    kind: float
    rest: float
    interval: tuple[float, float]
    count: int
    since: float


class GapDetector:
    """The bets on one gap: the mean over pictures of a kind less that over the others.

    Args:
        limit: The largest gap that is accepted, in [0, 1].
        is_two_sided: Whether it is held to the limit downwards too.
    """

    def __init__(self, limit: float, *, is_two_sided: bool) -> None:
        self.limit = limit
        self.signs = (1, -1) if is_two_sided else (1,)
        self.evidence = Evidence.empty(len(STAKES) * len(self.signs))
        self.sums = np.zeros(len(STAKES) * len(self.signs))  # of the kind, since each bet began
        self.carry: Carry | None = None
        self.num_pictures = 0  # of the kind

    def add_(self, stream: Stream, code: int) -> float:
        """Bet on pictures of a facet.

        Args:
            stream: The pictures in the order of their time.
            code: The number of the value.

        Returns:
            The logarithm of the most evidence that there was: an alarm where it reaches log A.
        """
        self.num_pictures += int((stream.codes == code).sum())
        steps, self.carry = pair_runs(stream, code, self.carry)
        peak = -math.inf
        for start in range(0, len(steps.times), CHUNK):
            part = slice(start, start + CHUNK)
            kind = steps.kind[part]
            z = (1 + kind - steps.rest[part]) / 2
            logs = self.evidence.add_(self._log_factors(z), z, steps.times[part])
            self._note_sums_(kind)
            peak = max(peak, float(logs.max()))
        return peak

    def _log_factors(self, z: np.ndarray) -> np.ndarray:
        most = (1 + self.limit) / 2
        sides = [z if sign > 0 else 1 - z for sign in self.signs]
        return np.hstack([np.log1p(STAKES / most * (own[:, None] - most)) for own in sides])

    def _note_sums_(self, kind: np.ndarray) -> None:
        """Add the means of the kind; a bet that has restarted counts from there."""
        sums = np.concatenate([[0.0], np.cumsum(kind[::-1])])
        for bet, count in enumerate(self.evidence.count.astype(int)):
            if count <= len(kind):
                self.sums[bet] = sums[count]
            else:
                self.sums[bet] += sums[-1]

    def effect(self) -> GapEffect | None:
        """Return the size of the gap since the strongest bet began; None before any pair."""
        own, bet = self.evidence, self.evidence.strongest
        count = own.count[bet]
        if count < 1:
            return None
        mean, kind = own.total[bet] / count, float(self.sums[bet] / count)
        gap = 2 * mean - 1
        error = 2 * math.sqrt(max(own.squares[bet] / count - mean * mean, 0.0) / count)
        reach = float(ndtri((1 + CONFIDENCE) / 2)) * error
        interval = (max(gap - reach, -1.0), min(gap + reach, 1.0))
        return GapEffect(kind, float(kind - gap), interval, int(count), float(own.since[bet]))

    def to_dict(self) -> dict[str, Any]:
        """Return the state as plain data, exactly."""
        return {
            "limit": self.limit,
            "num_pictures": self.num_pictures,
            "bets": self.evidence.to_list(),
            "sums": self.sums.tolist(),
            "carry": None if self.carry is None else [*self.carry],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], *, is_two_sided: bool) -> "GapDetector":
        """Return the bets that plain data holds.

        Raises:
            ValueError: If it holds none, or another error of a kind that such data brings.
        """
        made = cls(float(content["limit"]), is_two_sided=is_two_sided)
        count = len(made.sums)
        made.num_pictures = int(content["num_pictures"])
        made.evidence = Evidence.from_list(content["bets"], count)
        made.sums = np.array(content["sums"], dtype=np.float64)
        is_whole = made.sums.shape == (count,) and bool(np.isfinite(made.sums).all())
        if not is_whole or not 0 <= made.limit <= 1:
            raise ValueError("no bets on a gap")
        if content["carry"] is not None:
            is_kind, length, total = content["carry"]
            made.carry = (bool(is_kind), float(length), float(total))
            if not (math.isfinite(made.carry[1]) and 0 <= made.carry[2] <= made.carry[1] + 1e-6):
                raise ValueError("no open run")
        return made


def gap_bounds(stream: Stream, code: int, purpose: str, delta: float) -> tuple[float, float]:
    """Compute exact bounds of the gap of a reference.

    A block counts once on each side, by its mean; what lies between 0 and 1 counts as 1 with a
    probability of its own size, so that the bounds of Clopper and Pearson stay exact.

    Args:
        stream: The pictures of the reference.
        code: The number of the value.
        purpose: What the random numbers are drawn for.
        delta: The probability that the gap lies outside.

    Returns:
        The least and the largest gap: -1 and 1 where a side has no pictures.
    """
    is_kind, means, _, is_pure, others = _by_block(stream, code)
    chances = draws(np.arange(len(means), dtype=np.uint64), purpose)
    confidence = 1 - delta / 4  # two ends of two shares
    ends = []
    for own in (np.where(is_kind, means, np.nan), np.where(is_kind & is_pure, np.nan, others)):
        count = int(np.isfinite(own).sum())
        ones = int((chances < own).sum())
        if not count:
            return -1.0, 1.0
        low = 1 - clopper_pearson(count - ones, count, confidence)
        ends.append((low, clopper_pearson(ones, count, confidence)))
    return ends[0][0] - ends[1][1], ends[0][1] - ends[1][0]
