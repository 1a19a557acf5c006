"""The pool of a width search: all that has been found, as plain data from which it goes on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from regrow.plain import MISSHAPEN
from regrow.prune.search.space import Counts


@dataclass(frozen=True, slots=True)
class Candidate:
    """A joint choice of widths that was cut and scored.

    Args:
        counts: How many units leave each group.
        distance: Its distance from the unpruned network; infinite if it could not be cut.
        is_legal: Whether its measured costs are under their ceilings.
        origin: Where it comes from: `minimax`, `ranking`, `knapsack`, `uniform` or `mutation`.
        latency: The share of the reference's time that it takes, if it was measured.
        recovered: Its distance after a short recovery, if it was tried; infinite if that broke it.
    """

    counts: Counts
    distance: float
    is_legal: bool
    origin: str
    latency: float | None = None
    recovered: float | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the sensitivity profile.

    Args:
        group: The place of the group.
        count: How many units leave it, all others staying whole.
        drop: The distance from the unpruned network.
        latency: The share of the time that is left, if it was measured.
    """

    group: int
    count: int
    drop: float
    latency: float | None = None


@dataclass(slots=True)
class Pool:
    """What a search has found.

    Args:
        key: What it is a function of; what was found for another is of no use.
        seconds: The time that has been spent on it.
        points: The profile, in the order in which it was measured.
        candidates: The candidates, in the order in which they were scored.
        correction: The measured time of joint candidates over the predicted one.
    """

    key: dict[str, Any]
    seconds: float = 0.0
    points: list[Point] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    correction: float = 1.0

    @classmethod
    def going_on(cls, key: dict[str, Any], found: Mapping[str, Any] | None) -> "Pool":
        """Return what was found for a key; an empty pool where that was another, or is broken."""
        try:
            if found is None or found["key"] != key:
                return cls(key)
            points = [Point(int(g), int(n), float(d), _number(t)) for g, n, d, t in found["points"]]
            candidates = [
                Candidate(
                    tuple(map(int, n)), float(d), bool(legal), str(origin), _number(t), _number(r)
                )
                for n, d, legal, origin, t, r in found["candidates"]
            ]
            correction = float(found["correction"])
            return cls(key, float(found["seconds"]), points, candidates, correction)
        except (RuntimeError, *MISSHAPEN):  # of a tensor where a number is meant
            return cls(key)

    def to_plain(self, seconds: float) -> dict[str, Any]:
        """Return the pool as plain data.

        Args:
            seconds: The time that has been spent by now.
        """
        return {
            "key": self.key,
            "seconds": seconds,
            "points": [[p.group, p.count, p.drop, p.latency] for p in self.points],
            "candidates": [
                [list(c.counts), c.distance, c.is_legal, c.origin, c.latency, c.recovered]
                for c in self.candidates
            ],
            "correction": self.correction,
        }

    @property
    def best(self) -> Candidate | None:
        """Return the candidate of the least distance under the ceilings; None if there is none."""
        return next(iter(self.ranked()), None)

    def ranked(self) -> list[Candidate]:
        """Return the candidates under the ceilings, best first."""
        legal = [c for c in self.candidates if c.is_legal and c.distance < inf]
        return sorted(legal, key=lambda c: (c.distance, c.counts))

    def contenders(self, count: int) -> list[Candidate]:
        """Return the best candidates under the ceilings, the minimax one always among them.

        Args:
            count: How many at most, at least two.

        Returns:
            The best one, the minimax one unless it is not legal, then the others, best first.
        """
        best, *others = self.ranked()
        others.sort(key=lambda c: c.origin != "minimax")
        return [best, *others][:count]

    def tried(self) -> list[Candidate]:
        """Return the candidates that were tried, best first by what they came to."""
        pairs = [(c.recovered, c) for c in self.candidates if c.recovered is not None]
        return [c for _, c in sorted(pairs, key=lambda p: (p[0], p[1].distance, p[1].counts))]


def curve(points: Sequence[tuple[int, float]], ladder: Sequence[int]) -> dict[int, float]:
    """Return the values of all legal widths: linear between measured ones, and never falling.

    Args:
        points: Numbers of units with what was measured; that of 0 is among them.
        ladder: The numbers of units that may go, ascending.
    """
    known = sorted(points)
    values: dict[int, float] = {}
    highest = -inf
    for count in ladder:
        below = max((p for p in known if p[0] <= count), key=lambda p: p[0])
        above = min((p for p in known if p[0] >= count), key=lambda p: p[0], default=None)
        if above is None:  # as steep as before it, or as the last measured ones
            value = below[1] * count / below[0] if below[0] else 0.0
        elif above[0] == below[0]:
            value = below[1]
        else:
            part = (count - below[0]) / (above[0] - below[0])
            value = below[1] + part * (above[1] - below[1])
        highest = max(highest, value)
        values[count] = highest
    return values


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
