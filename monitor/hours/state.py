"""State of the alarms between two hours: a few numbers a score, saved with each hour."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from regrow.errors import BadInput
from regrow.monitor.alarms.evidence import Evidence
from regrow.monitor.alarms.risk import STAKES, RiskDetector
from regrow.monitor.alarms.shift import NUM_BETS, ShiftDetector
from regrow.monitor.baseline import Baseline
from regrow.monitor.bias.state import BiasState
from regrow.monitor.files.times import as_text, parse_time
from regrow.monitor.hours.folders import REMOVE, read_of_hour
from regrow.plain import MISSHAPEN

STATE = "state.json"
NUM_HOURS = 72  # that the page shows


class State:
    """Where the alarms stand.

    Args:
        baseline: What is compared with.
        facets: The facets that are looked at; None for all.
    """

    def __init__(self, baseline: Baseline, facets: Sequence[str] | None = None) -> None:
        self.bias = BiasState(facets)
        self.model = baseline.model
        self.shifts = {
            name: ShiftDetector(baseline.num_independent(name)) for name in baseline.scores
        }
        limit = None if baseline.promise is None else baseline.promise.limit
        self.risk = None if limit is None else RiskDetector(limit)
        self.first: datetime | None = None
        self.last: datetime | None = None
        self.num_steps = self.num_labels = 0
        self.on: dict[str, str] = {}  # what is not in order, and since which hour
        self.history: list[dict[str, Any]] = []
        self.sampled_hours: list[str] = []  # whose sampled labels have been bet on

    def to_dict(self) -> dict[str, Any]:
        """Return the state as plain data, exactly."""
        return {
            "model": self.model,
            "shifts": {name: own.evidence.to_list() for name, own in self.shifts.items()},
            "risk": None if self.risk is None else self.risk.evidence.to_list(),
            "first": None if self.first is None else as_text(self.first),
            "last": None if self.last is None else as_text(self.last),
            "num_steps": self.num_steps,
            "num_labels": self.num_labels,
            "on": self.on,
            "history": self.history,
            "sampled_hours": self.sampled_hours,
            "bias": self.bias.to_dict(),
        }

    @classmethod
    def read(cls, file: Path, baseline: Baseline, facets: Sequence[str] | None = None) -> "State":
        """Read the state after an hour.

        Args:
            file: The file.
            baseline: What is compared with.
            facets: The facets that are looked at; None for all.

        Raises:
            BadInput: If it is damaged, or of another baseline.
        """
        content = read_of_hour(file)
        made = cls(baseline, facets)
        if isinstance(content, dict) and content.get("model", made.model) != made.model:
            raise BadInput(f"{file}: is of another baseline; give the new one its own folder")
        try:
            made._take(content)
        except (BadInput, *MISSHAPEN) as error:
            raise BadInput(f"{file}: damaged; {REMOVE}") from error
        return made

    def _take(self, content: Mapping[str, Any]) -> None:
        for name, own in self.shifts.items():
            own.evidence = Evidence.from_list(content["shifts"][name], NUM_BETS)
        if self.risk is not None:
            self.risk.evidence = Evidence.from_list(content["risk"], len(STAKES))
        first, last = content["first"], content["last"]
        self.first = None if first is None else parse_time(first)
        self.last = None if last is None else parse_time(last)
        self.num_steps, self.num_labels = int(content["num_steps"]), int(content["num_labels"])
        self.on = {str(name): str(since) for name, since in content["on"].items()}
        self.history = [dict(one) for one in content["history"]][-NUM_HOURS:]
        self.sampled_hours = [*map(str, content["sampled_hours"])]
        self.bias = BiasState.from_dict(content.get("bias"), self.bias.chosen)
