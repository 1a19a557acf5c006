"""State of the alarms on bias between two hours."""

from collections.abc import Iterable, Mapping
from typing import Any

from regrow.monitor.bias.constraints import WATCHED, Key
from regrow.monitor.bias.facets import DERIVED, Seen
from regrow.monitor.bias.gaps import GapDetector


class BiasState:
    """Where the alarms on bias stand.

    Args:
        chosen: The facets that are looked at; None for all.
    """

    def __init__(self, chosen: Iterable[str] | None = None) -> None:
        self.chosen = None if chosen is None else tuple(chosen)
        self.seen = Seen(self.chosen)
        self.gaps: dict[Key, GapDetector] = {}
        self.num_labels = 0  # that were bet on

    def detector(self, key: Key, limit: float) -> GapDetector:
        """Return the bets on a gap; where its limit was edited, they begin anew."""
        own = self.gaps.get(key)
        if own is None or own.limit != limit:
            own = self.gaps[key] = GapDetector(limit, is_two_sided=key[2] == "DPPL")
        return own

    def keep_(self, facets: Iterable[str]) -> None:
        """Forget the bets on what turned out to be no facet."""
        known = {*facets, *DERIVED}
        self.gaps = {key: own for key, own in self.gaps.items() if key[0] in known}

    def num_gaps(self, metric: str) -> int:
        """Return how many gaps of a metric are bet on."""
        return sum(key[2] == metric for key in self.gaps)

    def to_dict(self) -> dict[str, Any]:
        """Return the state as plain data, exactly."""
        gaps = [[*key, own.to_dict()] for key, own in sorted(self.gaps.items())]
        return {"seen": self.seen.to_dict(), "gaps": gaps, "num_labels": self.num_labels}

    @classmethod
    def from_dict(
        cls, content: Mapping[str, Any] | None, chosen: Iterable[str] | None = None
    ) -> "BiasState":
        """Return the state that plain data holds; of none, that before the first hour.

        Raises:
            ValueError: If it holds another thing, or another error that such data brings.
        """
        made = cls(chosen)
        if content is None:
            return made
        made.seen = Seen.from_dict(content["seen"], chosen)
        made.num_labels = int(content["num_labels"])
        for facet, value, metric, own in content["gaps"]:
            if metric not in WATCHED:
                raise ValueError("no metric that is bet on")
            found = GapDetector.from_dict(own, is_two_sided=metric == "DPPL")
            made.gaps[str(facet), str(value), metric] = found
        return made
