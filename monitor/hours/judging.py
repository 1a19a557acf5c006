"""Judging an hour: constraints and alarms; what moved, how much, and since when."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from regrow.monitor.alarms.false_alarms import FalseAlarms
from regrow.monitor.alarms.risk import level, proportion_interval
from regrow.monitor.alarms.shift import by_block, ranks
from regrow.monitor.baseline import Baseline
from regrow.monitor.bias.judging import BiasRules, judge_bias
from regrow.monitor.bias.observations import Observations
from regrow.monitor.checks import check
from regrow.monitor.draws import draws
from regrow.monitor.files.constraints import Constraints
from regrow.monitor.files.times import HOUR, as_text
from regrow.monitor.files.violations import Violation
from regrow.monitor.hours.collecting import HourCollector
from regrow.monitor.hours.state import NUM_HOURS, State


@dataclass(slots=True)
class Judgement:
    """What an hour is found to be.

    Args:
        alarms: What is not in order: `kind` data, warn or act, `name`, `since`, `effect`.
        violations: The constraints that are not met.
        distances: The distance of each feature from the reference.
        scores: Of each watched score the mean before and now, the effect and the evidence.
        level: The evidence from which on there is an alarm, as a power of ten.
        analysis: The parts of the hour's `analysis.json`.
        clarify: The violations that it has.
        bias: What the report says of bias.
        loss: What it says of the loss on labels; None where there is none.
    """

    alarms: list[dict[str, Any]] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    distances: dict[str, float] = field(default_factory=dict)
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    level: float = 0.0
    analysis: dict[str, Any] = field(default_factory=dict)
    clarify: list[dict[str, str]] = field(default_factory=list)
    bias: dict[str, Any] | None = None
    loss: dict[str, float | None] | None = None


def judge(
    hour: datetime,
    collector: HourCollector,
    constraints: Constraints,
    state: State,
    false_alarms: FalseAlarms,
    num_gaps: int = 0,
) -> Judgement:
    """Judge the pictures of an hour; changes the state.

    Args:
        hour: The start of the hour.
        collector: Its pictures.
        constraints: What is asked of them.
        state: Where the alarms stand.
        false_alarms: How often a false alarm is accepted.
        num_gaps: How many gaps between facets share that rate with the scores.
    """
    made, baseline = Judgement(), collector.baseline
    made.violations, made.distances = check(
        collector.summary,
        baseline.summary,
        constraints,
        collector.num_corrupt,
        collector.not_captured,
    )
    made.analysis |= collector.findings.analysis()
    made.clarify += collector.findings.violations()
    hard = [own for own in made.violations if not own.is_descriptive]
    made.alarms += [_data_alarm(own, hour, state) for own in hard]
    state.first = hour if state.first is None else state.first
    state.num_steps += collector.num_steps
    length = false_alarms.run_length(state.num_steps, hour + HOUR - state.first)
    log_level = level(length, len(baseline.scores) + num_gaps)
    made.level = log_level / math.log(10)
    bets = _bet(collector, state)
    found = [_watch(name, bets[name], collector, state, log_level, made) for name in bets]
    warnings = [alarm for alarm in found if alarm is not None]
    for alarm in warnings:
        alarm["first_alarm"] = state.on.get(f"warn {alarm['name']}", as_text(hour))
    # The largest first; of nearly the same size in the order of the scores, light first.
    made.alarms += sorted(warnings, key=lambda alarm: -round(abs(alarm["effect"] - 0.5), 1))
    _note_hour_(state, hour, made)
    return made


def _data_alarm(own: Violation, hour: datetime, state: State) -> dict[str, Any]:
    since = state.on.get(f"data {own.feature} {own.check}", as_text(hour))
    return {
        "kind": "data",
        "name": own.feature,
        "check": own.check,
        "since": since,
        "effect": None,
        "words": own.description,
    }


@dataclass(slots=True)
class _Bets:
    """What an hour's bets on one score came to.

    Args:
        peak: The logarithm of the largest evidence after any of them.
        total: The sum of the ranks.
        count: How many pictures have the score.
    """

    peak: float = -math.inf
    total: float = 0.0
    count: int = 0


def _bet(collector: HourCollector, state: State) -> dict[str, _Bets]:
    """Bet on every score, in the order of time; changes the state."""
    made = {name: _Bets() for name in collector.baseline.scores}
    for records in collector.in_order():
        _bet_on_(made, collector.watched, records, collector, state)
    _bet_on_(made, *collector.sampled(), collector, state)
    return made


def _bet_on_(
    made: Mapping[str, _Bets],
    names: Sequence[str],
    records: np.ndarray,
    collector: HourCollector,
    state: State,
) -> None:
    references = collector.baseline.scores
    is_blocked = collector.blocks.attribute is not None
    for place, name in enumerate(names):
        own, known = made[name], records[np.isfinite(records["scores"][:, place])]
        times, values = known["time"], known["scores"][:, place]
        u = ranks(references[name], values, draws(known["key"], name))
        own.total += float(u.sum())
        own.count += len(u)
        spread = None
        if is_blocked:
            u, times, spread = by_block(u, times, known["block"])
        logs = state.shifts[name].add_(u, times, spread)
        own.peak = max(own.peak, float(logs.max(initial=-math.inf)))


def _watch(
    name: str,
    bets: _Bets,
    collector: HourCollector,
    state: State,
    log_level: float,
    made: Judgement,
) -> dict[str, Any] | None:
    """Note how a score is; return its alarm, if there is one."""
    baseline, detector = collector.baseline, state.shifts[name]
    effect, own = detector.effect(), detector.evidence
    since, peak = own.since[own.strongest], bets.peak
    made.scores[name] = {
        "before": float(baseline.scores[name].mean()),
        "now": collector.mean(name),
        "rank": bets.total / bets.count if bets.count else None,
        "evidence": peak / math.log(10) if bets.count else None,
    }
    own.limit_(log_level)
    if peak < log_level or effect is None:
        return None
    return {
        "kind": "warn",
        "name": name,
        "since": as_text(datetime.fromtimestamp(since, UTC)),
        "effect": effect.auc,
        "interval": list(effect.interval),
        "count": effect.count,
        "what": "spread" if detector.is_of_spread else "mean",
        "before": made.scores[name]["before"],
        "now": made.scores[name]["now"],
        "evidence": made.scores[name]["evidence"],
    }


def judge_loss(
    hour: datetime,
    baseline: Baseline,
    logs: np.ndarray,
    state: State,
    false_alarms: FalseAlarms,
    made: Judgement,
    num_parts: int = 1,
) -> None:
    """Judge the loss on labels that came in an hour; changes the state and the judgement.

    Args:
        hour: The start of the hour.
        baseline: The promise.
        logs: The evidence after each label of the hour.
        state: Where the alarms stand.
        false_alarms: How often a false alarm is accepted.
        made: What else the hour is found to be.
        num_parts: By how many that rate is shared: gaps between facets have one half.
    """
    detector, promise = state.risk, baseline.promise
    if detector is None or promise is None or not len(logs):
        return
    state.num_labels += len(logs)
    first = state.first or hour
    length = false_alarms.run_length(state.num_labels, hour + HOUR - first)
    log_level = level(length, num_parts)
    own = detector.evidence
    bet = own.strongest
    count, since, risk = int(own.count[bet]), own.since[bet], detector.risk()
    own.limit_(log_level)
    made.loss = {
        "before": promise.risk,
        "now": risk,
        "limit": promise.limit,
        "evidence": float(logs.max()) / math.log(10),
        "level": log_level / math.log(10),
    }
    if logs.max() < log_level or risk is None:
        return
    wrong = min(count, round(min(risk, 1.0) * count))
    made.alarms.append(
        {
            "kind": "act",
            "name": "loss",
            "since": as_text(datetime.fromtimestamp(since, UTC)),
            "effect": risk,
            "interval": list(proportion_interval(wrong, count)),
            "count": count,
            "before": promise.risk,
            "limit": promise.limit,
            "evidence": made.loss["evidence"],
            "first_alarm": state.on.get("act loss", as_text(hour)),
        }
    )


def judge_facets(
    hour: datetime,
    collector: HourCollector,
    labelled: Observations | None,
    rules: BiasRules,
    state: State,
    false_alarms: FalseAlarms,
    made: Judgement,
) -> list[dict[str, Any]]:
    """Judge an hour by facets; changes the state, and the judgement but for its alarms.

    Args:
        hour: The start of the hour.
        collector: Its pictures.
        labelled: The pictures whose labels came in it.
        rules: How bias is judged.
        state: Where the alarms stand.
        false_alarms: How often a false alarm is accepted; labels share it with the loss by half.
        made: What else the hour is found to be.

    Returns:
        The alarms.
    """
    pictures = collector.by_facet
    if pictures is None:
        return []
    state.bias.num_labels += 0 if labelled is None else labelled.num_bets
    time = hour + HOUR - (state.first or hour)
    length = false_alarms.run_length(state.bias.num_labels, time)
    log_levels = (level(length, 2), made.level * math.log(10))
    found = judge_bias(hour, pictures, labelled, rules, state.bias, log_levels)
    for alarm in found.alarms:
        alarm["first_alarm"] = state.on.get(_key(alarm), as_text(hour))
    made.analysis |= found.parts
    made.clarify += found.violations
    made.bias = found.report
    return found.alarms


def note_alarms_(state: State, alarms: Sequence[dict[str, Any]], hour: datetime) -> None:
    """Keep which alarms are on, and since which hour; changes the state."""
    names = [_key(alarm) for alarm in alarms]
    state.on = {name: state.on.get(name, as_text(hour)) for name in names}
    state.last = hour


def _key(alarm: dict[str, Any]) -> str:
    more = f" {alarm['check']}" if alarm["kind"] == "data" else ""
    return f"{alarm['kind']} {alarm['name']}{more}"


def _note_hour_(state: State, hour: datetime, made: Judgement) -> None:
    means = {name: own["rank"] for name, own in made.scores.items()}
    evidence = {name: own["evidence"] for name, own in made.scores.items()}
    entry = {"hour": as_text(hour), "ranks": means, "evidence": evidence, "level": made.level}
    state.history = [*state.history, entry][-NUM_HOURS:]
