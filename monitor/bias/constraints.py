"""Constraints on bias: what `analysis.json` of the baseline says, perhaps edited by a person.

SageMaker's rule is that a metric may not be farther from no bias than its value in this file. Of
the two metrics that alarms watch, regrow writes besides the `limit` that is meant: an exact bound
of the reference's gap, and what is accepted above it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regrow.errors import BadInput
from regrow.monitor.bias.facets import WORDS
from regrow.monitor.bias.gaps import GAP
from regrow.monitor.files.analysis import ANALYSIS, read_analysis

PRE, POST = "pre_training_bias_metrics", "post_training_bias_metrics"
EDGES = "facet_edges"  # regrow's own part: where terciles begin and end
WATCHED = ("AD", "DPPL")  # what alarms are about
MOST = 64  # facets in the file, and values of one
Key = tuple[str, str, str]  # facet, value, metric


@dataclass(frozen=True, slots=True)
class BiasConstraints:
    """What is accepted.

    Args:
        label: The class that is set against the rest.
        edges: Where brightness and the size of objects go from one tercile to the next.
        gap: The largest AD that is accepted where the file says nothing of a facet.
        values: The metrics of the reference.
        limits: The largest AD, and the largest DPPL to either side, that are accepted.
    """

    label: str
    edges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    gap: float = GAP
    values: Mapping[Key, float] = field(default_factory=dict)
    limits: Mapping[Key, float] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, classes: Sequence[str]) -> "BiasConstraints":
        """Read the file of a baseline; of one without it, there is no reference to compare with.

        Args:
            folder: The folder of the baseline.
            classes: The classes of the model, of which the last is the label by default.

        Raises:
            BadInput: If it holds something else; the line names the key.
        """
        parts = read_analysis(folder)
        try:
            return _constraints(parts, classes)
        except BadInput as error:
            raise BadInput(
                f"{folder / ANALYSIS}: {error}; correct it, or make it again with "
                "scripts/monitor.py baseline"
            ) from error


def _constraints(parts: Mapping[str, Any], classes: Sequence[str]) -> BiasConstraints:
    post = parts.get(POST, {})
    label = post.get("label_value_or_threshold", classes[-1])
    if label not in classes:
        known = ", ".join(classes[:20])
        raise BadInput(
            f"label_value_or_threshold is {str(label)[:80]!r}, it must be a class: {known}"
        )
    values, limits = dict[Key, float](), dict[Key, float]()
    for part in (parts.get(PRE, {}), post):
        for key, metric in _metrics(part):
            value = _value(metric)
            if value is not None:
                values[key] = value
            if key[2] in WATCHED and (value is not None or "limit" in metric):
                limit = metric.get("limit", None if value is None else min(abs(value), 1.0))
                limits[key] = _share(limit, f"{key[0]}={key[1]}: {key[2]}: limit")
    edges = {str(name): _edges(name, own) for name, own in parts.get(EDGES, {}).items()}
    return BiasConstraints(label, edges, _share(post.get("gap", GAP), "gap"), values, limits)


def _metrics(part: Mapping[str, Any]) -> Iterator[tuple[Key, Mapping[str, Any]]]:
    """Yield each metric of a part with its key."""
    facets = part.get("facets", {})
    if not isinstance(facets, dict) or len(facets) > MOST:
        raise BadInput(f"facets is {str(facets)[:80]!r}, it must be an object of {MOST} at most")
    for facet, rows in facets.items():
        if not isinstance(rows, list) or len(rows) > MOST:
            raise BadInput(f"{facet[:80]}: {str(rows)[:80]!r} must be a list of {MOST} at most")
        for row in rows:
            metrics = row.get("metrics") if isinstance(row, dict) else None
            if not isinstance(metrics, list) or "value_or_threshold" not in row:
                raise BadInput(f"{facet[:80]}: a row without value_or_threshold and metrics")
            for metric in metrics:
                if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
                    raise BadInput(f"{facet[:80]}: a metric without a name: {str(metric)[:80]!r}")
                yield (facet, str(row["value_or_threshold"]), metric["name"]), metric


def _value(metric: Mapping[str, Any]) -> float | None:
    """Return the value of a metric; None where it has none, as SageMaker writes errors."""
    value = metric.get("value")
    if value is None or value in ("Infinity", "-Infinity"):
        return None if value is None else float(value)
    number = _number(value)
    if number is None:
        raise BadInput(f"{metric['name'][:80]}: value is {str(value)[:80]!r}, it must be a number")
    return number


def _number(value: Any) -> float | None:
    """Return a finite number; None of anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _share(value: Any, name: str) -> float:
    number = _number(value)
    if number is None or not 0 <= number <= 1:
        raise BadInput(f"{name} is {str(value)[:80]!r}, it must lie in [0, 1]")
    return number


def _edges(name: str, given: Any) -> tuple[float, float]:
    if name not in WORDS:
        raise BadInput(f"{EDGES}: {name[:80]!r} is none of {', '.join(WORDS)}")
    numbers = [_number(own) for own in given] if isinstance(given, list) else []
    low, high = numbers if len(numbers) == 2 else (None, None)
    if low is None or high is None or low >= high:
        raise BadInput(f"{EDGES}: {name} is {str(given)[:80]!r}, it must be two rising numbers")
    return low, high
