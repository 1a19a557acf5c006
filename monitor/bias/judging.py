"""Judging bias in an hour: metrics that describe it, and alarms on evidence that grows.

Of many metrics two are bet on. AD, how much more often a value's pictures are answered wrongly than
the rest, is harm, and needs labels: `act`. DPPL, how much more often the label is predicted of
them, needs none: `warn`; it is bet on only where the reference has promised a limit, since nothing
is wrong with two cameras that see different things.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from regrow.monitor.bias.constraints import WATCHED, BiasConstraints, Key
from regrow.monitor.bias.facets import DERIVED, MOST_VALUES, WORDS, Subject
from regrow.monitor.bias.gaps import GapDetector, GapEffect
from regrow.monitor.bias.measuring import SMALLEST, measure
from regrow.monitor.bias.observations import Observations
from regrow.monitor.bias.state import BiasState
from regrow.monitor.files.times import as_text
from regrow.text import printable

LONGEST = 60  # characters of a value in the name of an alarm
KINDS = {"AD": "act", "DPPL": "warn"}


@dataclass(frozen=True, slots=True)
class BiasRules:
    """How bias is judged.

    Args:
        subject: What is compared.
        constraints: What is accepted.
        smallest: The pictures on either side, below which there is no metric and no alarm.
    """

    subject: Subject
    constraints: BiasConstraints
    smallest: int = SMALLEST

    @classmethod
    def read(
        cls,
        folder: Path,
        kind: str,
        classes: tuple[str, ...],
        chosen: tuple[str, ...] | None = None,
        smallest: int = SMALLEST,
    ) -> "BiasRules":
        """Return the rules for a model, by the constraints of its baseline.

        Args:
            folder: The folder of the baseline.
            kind: What the model predicts: `labels`, `boxes` or `masks`.
            classes: Its classes.
            chosen: The facets that are looked at; None for all.
            smallest: The pictures on either side, below which there is no metric and no alarm.

        Raises:
            BadInput: If the constraints cannot be read.
        """
        own = BiasConstraints.read(folder, classes)
        return cls(Subject(kind, classes, own.label, own.edges, chosen), own, smallest)

    @property
    def num_warnings(self) -> int:
        """Return how many gaps are bet on without labels."""
        keys = self.constraints.limits
        return sum(key[2] == "DPPL" and self.subject.is_wanted(key[0]) for key in keys)


@dataclass(slots=True)
class BiasFound:
    """What is found of bias in an hour.

    Args:
        alarms: Gaps that are larger than what is accepted.
        violations: The same as SageMaker's file has them.
        parts: The parts of the hour's `analysis.json`.
        report: What the report says.
    """

    alarms: list[dict[str, Any]] = field(default_factory=list)
    violations: list[dict[str, str]] = field(default_factory=list)
    parts: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)


def judge_bias(
    hour: datetime,
    pictures: Observations,
    labelled: Observations | None,
    rules: BiasRules,
    state: BiasState,
    log_levels: tuple[float, float],
) -> BiasFound:
    """Judge the pictures of an hour, and the labels that came in it; changes the state.

    Args:
        hour: The start of the hour.
        pictures: Its pictures.
        labelled: The pictures whose labels came in it.
        rules: How bias is judged.
        state: Where the alarms stand.
        log_levels: The logarithms of the evidence from which on there is an alarm, where one gap
            alone is bet on: with labels, and for any of the gaps without.
    """
    for part in (pictures, labelled):
        if part is not None:
            state.seen.merge(part.seen)
    custom = state.seen.facets()
    state.keep_(custom)
    here = {*pictures.facets, *(labelled.facets if labelled is not None else ())}
    facets = sorted(name for name in here if name in custom or name in DERIVED)
    measured = measure(pictures, labelled, facets, rules.constraints, rules.smallest)
    found = BiasFound(parts=measured.parts)
    peaks = {
        **_bet("DPPL", pictures, facets, rules, state),
        **({} if labelled is None else _bet("AD", labelled, facets, rules, state)),
    }
    log_levels = (log_levels[0] + math.log(max(state.num_gaps("AD"), 1)), log_levels[1])
    for key, peak in peaks.items():
        own = state.gaps[key]
        log_level = log_levels[WATCHED.index(key[2])]
        effect, is_large = own.effect(), own.num_pictures >= rules.smallest
        own.evidence.limit_(log_level)
        if peak >= log_level and effect is not None and is_large:
            found.alarms.append(_alarm(key, own, effect, peak, rules.subject))
            found.violations.append(_violation(key, own, effect))
    found.report = {
        "label": rules.subject.label,
        "smallest_group": rules.smallest,
        "edges": {name: [*own] for name, own in rules.subject.edges.items()},
        "facets": measured.facets,
        "left_out": _left_out(rules.subject, state),
        "levels": [own / math.log(10) for own in log_levels],
    }
    return found


def _left_out(subject: Subject, state: BiasState) -> dict[str, str]:
    """Return the facets that are none, and why; those asked for that nothing has too."""
    found = {name: f"it has more than {MOST_VALUES} values" for name in state.seen.crowded()}
    for name in subject.chosen or ():
        if name in WORDS and name not in subject.edges:
            found[name] = "the reference has no terciles of it"
        elif name not in DERIVED and name not in state.seen.values:
            found[name] = "no picture has it so far"
    return found


def _bet(
    metric: str, pictures: Observations, facets: Sequence[str], rules: BiasRules, state: BiasState
) -> dict[Key, float]:
    """Bet on the gaps of a metric; return the most evidence that there was for each."""
    peaks = {}
    for facet in facets:
        if facet not in pictures.facets:
            continue
        stream = pictures.stream(facet, "predicted" if metric == "DPPL" else "right")
        if metric == "AD":
            stream = replace(stream, values=1 - stream.values)
        for value, code in pictures.values(facet).items():
            key = (facet, value, metric)
            limit = rules.constraints.limits.get(key)
            limit = rules.constraints.gap if limit is None and metric == "AD" else limit
            if limit is not None:
                peaks[key] = state.detector(key, limit).add_(stream, code)
    return peaks


def _alarm(
    key: Key, own: GapDetector, effect: GapEffect, peak: float, subject: Subject
) -> dict[str, Any]:
    facet, value, metric = key
    interval = [*effect.interval] if metric == "AD" else [-effect.interval[1], -effect.interval[0]]
    return {
        "kind": KINDS[metric],
        "name": f"bias {metric} {printable(f'{facet}={value}', LONGEST)}",
        "facet": facet,
        "facet_value": value,
        "metric": metric,
        "since": as_text(datetime.fromtimestamp(effect.since, UTC)),
        "effect": _value(metric, effect),
        "interval": interval,
        "count": effect.count,
        "now": effect.kind,
        "rest": effect.rest,
        "limit": own.limit,
        "evidence": peak / math.log(10),
        "words": _words(key, effect, subject),
    }


def _value(metric: str, effect: GapEffect) -> float:
    """Return the metric: AD is the loss of the kind less that of the rest, DPPL the other way."""
    gap = effect.kind - effect.rest
    return gap if metric == "AD" else -gap


def _violation(key: Key, own: GapDetector, effect: GapEffect) -> dict[str, str]:
    facet, value, metric = key
    words = f"Value {_value(metric, effect):.4g} does not meet the constraint requirement"
    return {
        "facet": facet,
        "facet_value": value,
        "metric_name": metric,
        "constraint_check_type": "bias_drift_check",
        "description": f"{words}: at most {own.limit:.4g} is accepted",
    }


def _words(key: Key, effect: GapEffect, subject: Subject) -> str:
    """Return in a sentence what an alarm says."""
    facet, value, metric = key
    side = "more" if effect.kind > effect.rest else "less"
    shares = f"{effect.kind:.0%} against {effect.rest:.0%} of the others"
    pictures = f"Pictures with {facet.replace('_', ' ')} {value or '(empty)'}"
    if metric == "DPPL" and subject.kind == "masks":
        return f"{pictures} are predicted to be {subject.label} on {side} of their area: {shares}."
    if metric == "DPPL":
        return f"{pictures} are predicted to show {subject.label} {side} often: {shares}."
    if subject.kind == "labels":
        return f"{pictures} are answered wrongly {side} often: {shares}."
    shares = f"{effect.kind:.2f} against {effect.rest:.2f}"
    return f"{pictures} have a larger loss than the others: {shares}."
