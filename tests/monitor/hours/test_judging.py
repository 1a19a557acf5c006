"""An hour is judged by its evidence; alarms keep the hour in which they came on."""

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from regrow.data.images.conversion import Decoding
from regrow.monitor.alarms.false_alarms import FalseAlarms
from regrow.monitor.alarms.risk import Promise
from regrow.monitor.baseline import Baseline
from regrow.monitor.files.captures import Event
from regrow.monitor.files.constraints import CONSTRAINTS, Constraints
from regrow.monitor.hours import judging
from regrow.monitor.hours.collecting import Blocks, HourCollector
from regrow.monitor.hours.judging import Judgement, judge, judge_loss, note_alarms_
from regrow.monitor.hours.state import State
from regrow.monitor.summary import Summary
from regrow.monitor.texture import TEXTURE

HOUR = datetime(2026, 11, 30, 7, tzinfo=UTC)
RATE = FalseAlarms(images=1e5)
Captured = Callable[..., list[Event]]


def judged(
    baseline: Baseline, events: list[Event], state: State, hour: datetime = HOUR, **asked: Any
) -> Judgement:
    collector = HourCollector(baseline, Blocks(), Decoding())
    for event in events:
        collector.add(event)
    constraints = Constraints(**{"features": ()} | asked)
    return judge(hour, collector.finish(), constraints, state, RATE)


def test_an_hour_like_the_reference_is_in_order(baseline: Baseline, captured: Captured) -> None:
    state = State(baseline)
    made = judged(baseline, captured(HOUR), state)
    assert made.alarms == []
    assert made.level == pytest.approx(math.log10(1e5 * len(baseline.scores)))
    assert (state.first, state.num_steps) == (HOUR, 60)
    assert [*made.scores] == [*baseline.scores]
    own = made.scores["brightness"]
    assert own["before"] == pytest.approx(np.mean(baseline.scores["brightness"]))
    assert 0.3 < own["rank"] < 0.7
    assert own["evidence"] < made.level


def test_a_baseline_from_before_a_feature_was_there_is_used_without_it(
    baseline: Baseline, captured: Captured, tmp_path: Path
) -> None:
    known = {n: own for n, own in baseline.summary.features.items() if n not in TEXTURE}
    scores = {name: own for name, own in baseline.scores.items() if name not in TEXTURE}
    assert len(scores) == len(baseline.scores) - len(TEXTURE)
    summary = Summary(known, baseline.summary.num_items)
    replace(baseline, summary=summary, scores=scores).write(tmp_path)
    old, asked = Baseline.read(tmp_path), Constraints.read(tmp_path / CONSTRAINTS)
    made = judged(old, captured(HOUR), State(old), features=asked.features)
    assert (made.alarms, made.violations) == ([], [])
    assert [*made.scores] == [*scores]


def test_a_change_is_told_with_its_size_and_the_hour_it_was_first_told(
    baseline: Baseline, captured: Captured
) -> None:
    state, second = State(baseline), HOUR + timedelta(hours=1)
    alarms = judged(baseline, captured(HOUR, light=0.5), state).alarms
    assert {alarm["kind"] for alarm in alarms} == {"warn"}
    sizes = [round(abs(alarm["effect"] - 0.5), 1) for alarm in alarms]
    assert sizes == sorted(sizes, reverse=True)
    found = {alarm["name"]: alarm for alarm in alarms}["brightness"]
    assert found["effect"] < 0.3
    assert (found["what"], found["now"] < found["before"]) == ("mean", True)
    assert found["evidence"] >= math.log10(1e5 * len(baseline.scores))
    note_alarms_(state, alarms, HOUR)
    again = judged(baseline, captured(second, light=0.5), state, second).alarms
    later = {alarm["name"]: alarm for alarm in again}["brightness"]
    assert later["first_alarm"] == found["first_alarm"] == "2026-11-30T07:00:00Z"
    assert later["count"] > found["count"]


def test_broken_data_is_told_at_once_with_the_hour_it_began(
    baseline: Baseline, captured: Captured
) -> None:
    state, second = State(baseline), HOUR + timedelta(hours=1)
    for hour in (HOUR, second):
        made = judged(baseline, captured(hour), state, hour, sides=(1, 13))
        (alarm,) = [one for one in made.alarms if one["kind"] == "data"]
        assert (alarm["name"], alarm["check"]) == ("width", "categorical_values_check")
        assert alarm["words"] == "from 16 to 16 pixels, outside 1 to 13"
        assert alarm["since"] == "2026-11-30T07:00:00Z"
        note_alarms_(state, made.alarms, hour)
    descriptive = [own for own in made.violations if own.is_descriptive]
    assert {own.check for own in descriptive} == {"extra_column_check"}


def test_the_history_holds_the_last_hours_alone(
    baseline: Baseline, captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "NUM_HOURS", 2)
    state, events = State(baseline), captured(HOUR, 3)
    for number in range(3):
        made = judged(baseline, events, state, HOUR + timedelta(hours=number))
    assert [own["hour"] for own in state.history] == [
        "2026-11-30T08:00:00Z",
        "2026-11-30T09:00:00Z",
    ]
    assert state.history[-1]["ranks"]["brightness"] == made.scores["brightness"]["rank"]
    assert state.first == HOUR


def test_scores_that_no_answer_has_are_no_evidence(baseline: Baseline, captured: Captured) -> None:
    events = [replace(event, output=None) for event in captured(HOUR)]
    own = judged(baseline, events, State(baseline)).scores["confidence"]
    assert (own["now"], own["rank"], own["evidence"]) == (None, None, None)


def risky(baseline: Baseline) -> tuple[Baseline, State]:
    promised = replace(baseline, promise=Promise(0.1, 400, 0.2))
    return promised, State(promised)


def bet(state: State, losses: list[float]) -> np.ndarray:
    assert state.risk is not None
    times = HOUR.timestamp() + np.arange(len(losses), dtype=float)
    return state.risk.add_(np.array(losses), times)


def judged_loss(
    baseline: Baseline, state: State, logs: np.ndarray, hour: datetime = HOUR
) -> Judgement:
    made = Judgement()
    judge_loss(hour, baseline, logs, state, RATE, made)
    return made


def test_a_loss_above_the_promise_is_an_alarm_with_its_exact_interval(baseline: Baseline) -> None:
    promised, state = risky(baseline)
    logs = bet(state, [1.0, 1.0, 1.0, 0.0] * 15)
    made = judged_loss(promised, state, logs)
    (alarm,) = made.alarms
    assert (alarm["kind"], alarm["name"], alarm["count"]) == ("act", "loss", 60)
    assert (alarm["effect"], alarm["before"], alarm["limit"]) == (0.75, 0.1, 0.2)
    wanted = binomtest(45, 60).proportion_ci(0.95, "exact")
    assert alarm["interval"] == pytest.approx([wanted.low, wanted.high])
    assert alarm["since"] == alarm["first_alarm"] == "2026-11-30T07:00:00Z"
    assert alarm["evidence"] == pytest.approx(logs.max() / math.log(10))
    assert made.loss is not None
    assert (made.loss["before"], made.loss["now"], made.loss["limit"]) == (0.1, 0.75, 0.2)
    assert made.loss["evidence"] == alarm["evidence"]
    assert made.loss["level"] == pytest.approx(math.log10(RATE.images or 0))
    note_alarms_(state, [alarm], HOUR)
    (later,) = judged_loss(promised, state, bet(state, [1.0]), HOUR + timedelta(hours=5)).alarms
    assert later["first_alarm"] == "2026-11-30T07:00:00Z"
    assert state.num_labels == 61


def test_losses_as_promised_labels_that_are_none_and_no_promise_are_no_alarm(
    baseline: Baseline,
) -> None:
    promised, state = risky(baseline)
    made = judged_loss(promised, state, bet(state, [1.0, *[0.0] * 9] * 6))
    assert made.alarms == []
    assert made.loss is not None
    # The loss is that since the strongest bet began, and there is no evidence against it.
    assert (made.loss["evidence"] or 0) < (made.loss["level"] or 0)
    assert state.num_labels == 60
    assert judged_loss(promised, state, np.zeros(0)) == Judgement()
    bare = replace(baseline, promise=None)
    assert judged_loss(bare, State(bare), np.full(3, 99.0)) == Judgement()


def test_an_alarm_that_ended_begins_anew(baseline: Baseline) -> None:
    state, width = State(baseline), {"kind": "data", "name": "width", "check": "a"}
    warn = {"kind": "warn", "name": "width"}
    hours = [HOUR + timedelta(hours=n) for n in range(4)]
    note_alarms_(state, [width, warn], hours[0])
    note_alarms_(state, [warn, {**width, "check": "b"}], hours[1])
    note_alarms_(state, [width, warn], hours[2])
    assert state.on == {
        "data width a": "2026-11-30T09:00:00Z",
        "warn width": "2026-11-30T07:00:00Z",
    }
    assert state.last == hours[2]
