"""A bias alarm is a gap on evidence: clean streams raise none, and one that is there is told."""

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regrow.monitor.alarms.risk import level
from regrow.monitor.bias.constraints import BiasConstraints, Key
from regrow.monitor.bias.facets import Subject
from regrow.monitor.bias.judging import BiasFound, BiasRules, judge_bias
from regrow.monitor.bias.metrics import Counts
from regrow.monitor.bias.observations import Observation, Observations
from regrow.monitor.bias.state import BiasState

HOUR = datetime(2026, 11, 30, 7, tzinfo=UTC)
LEVELS = (level(1e5, 2), level(1e5, 20))


def _rules(
    limits: dict[Key, float] | None = None,
    kind: str = "labels",
    chosen: tuple[str, ...] | None = None,
    **own: Any,
) -> BiasRules:
    subject = Subject(kind, ("cat", "dog"), "dog", chosen=chosen)
    return BiasRules(subject, BiasConstraints("dog", limits=limits or {}), **own)


def _hour(
    rules: BiasRules, number: int, count: int, wrong: dict[str, float], seed: int = 0
) -> Observations:
    """Return labelled pictures of an hour: how often those of each camera are answered wrongly."""
    random, made = (
        np.random.default_rng([seed, number]),
        Observations(rules.subject, has_truth=True),
    )
    start = (HOUR + timedelta(hours=number)).timestamp()
    cameras, losses = random.integers(0, len(wrong), count), random.random(count)
    truths = random.random(count) < 0.4
    names = [*wrong]
    for place in range(count):
        camera, truth = names[cameras[place]], bool(truths[place])
        is_wrong = losses[place] < wrong[camera]
        parts = [(truth, not is_wrong), (not truth, is_wrong), (truth, is_wrong)]
        counts = Counts.of(*(float(a and b) for a, b in parts), float(not truth and not is_wrong))
        key = number * count + place + 1
        values = rules.subject.values({}, {"camera": camera})
        made.add(Observation(values, counts, start + place, key))
    return made


def _judged(
    rules: BiasRules, state: BiasState, pictures: Observations, labelled: Observations | None
) -> BiasFound:
    return judge_bias(HOUR, pictures, labelled, rules, state, LEVELS)


def test_40_clean_streams_raise_no_alarm_and_a_camera_that_is_wrong_is_found() -> None:
    rules, found = _rules(), []
    for seed in range(40):
        state = BiasState()
        for number in range(3):
            hour = _hour(rules, number, 300, {"1": 0.1, "2": 0.1, "3": 0.1}, seed)
            found += _judged(rules, state, hour, hour).alarms
    assert found == []
    state = BiasState()
    hours = [_hour(rules, n, 300, {"1": 0.05, "2": 0.05, "3": 0.35}) for n in range(3)]
    alarms = [_judged(rules, state, hour, hour).alarms for hour in hours]
    assert [own["name"] for own in alarms[-1]] == ["bias AD camera=3"]


def test_an_alarm_says_how_much_since_when_and_is_a_violation_of_clarifys() -> None:
    rules, state = _rules(), BiasState()
    hours = [
        _hour(rules, number, 900, {"1": 0.05, "2": 0.05, "3": 0.05 if number < 2 else 0.45})
        for number in range(4)
    ]
    made = [_judged(rules, state, hour, hour) for hour in hours]
    assert [len(own.alarms) for own in made] == [0, 0, 1, 1]
    (alarm,), (violation,) = made[3].alarms, made[3].violations
    assert (alarm["kind"], alarm["facet"], alarm["facet_value"]) == ("act", "camera", "3")
    assert (alarm["now"], alarm["rest"]) == pytest.approx((0.45, 0.05), abs=0.06)
    assert alarm["effect"] == pytest.approx(alarm["now"] - alarm["rest"])
    assert alarm["interval"][0] < alarm["effect"] < alarm["interval"][1]
    assert "2026-11-30T08:50" < alarm["since"] < "2026-11-30T09:05"
    assert alarm["evidence"] > (LEVELS[0] + math.log(3)) / math.log(10)
    assert alarm["words"].startswith("Pictures with camera 3 are answered wrongly more often: 4")
    assert {n: violation[n] for n in ("facet", "facet_value", "metric_name")} == {
        "facet": "camera", "facet_value": "3", "metric_name": "AD"
    }  # fmt: skip
    assert violation["constraint_check_type"] == "bias_drift_check"
    assert "does not meet the constraint requirement: at most 0.05" in violation["description"]


def test_a_state_between_hours_changes_nothing() -> None:
    rules = _rules({("camera", "3", "DPPL"): 0.1})
    whole, parts = BiasState(), BiasState()
    for number in range(3):
        hour = _hour(rules, number, 400, {"1": 0.05, "3": 0.4})
        found = [_judged(rules, state, hour, hour) for state in (whole, parts)]
        assert found[0] == found[1]
        parts = BiasState.from_dict(parts.to_dict())
    assert found[0].alarms
    assert parts.to_dict() == whole.to_dict()


def test_shares_of_predictions_warn_only_where_a_limit_was_promised() -> None:
    hour = [_hour(_rules(), 0, 4000, {"1": 0.0, "3": 1.0})]  # 40 % and 60 % of dogs
    for limit, names in ((0.05, ["bias DPPL camera=3"]), (0.3, []), (None, [])):
        rules = _rules(None if limit is None else {("camera", "3", "DPPL"): limit})
        found = _judged(rules, BiasState(), hour[0], None)
        assert [own["name"] for own in found.alarms] == names
        assert rules.num_warnings == (limit is not None)
    rules = _rules({("camera", "3", "DPPL"): 0.05})
    (alarm,) = _judged(rules, BiasState(), hour[0], None).alarms
    assert alarm["kind"] == "warn"
    assert alarm["effect"] == pytest.approx(-0.2, abs=0.06)  # the rest less those of the camera
    assert "are predicted to show dog more often: 6" in alarm["words"]
    assert _rules({("camera", "3", "DPPL"): 0.1}, chosen=("site",)).num_warnings == 0


def test_few_pictures_are_no_alarm_however_wrong_they_are() -> None:
    rules = _rules(smallest=30)
    state = BiasState()
    pictures = _hour(rules, 0, 40, {"1": 0.0, "3": 1.0})
    found = _judged(rules, state, pictures, pictures)
    assert found.alarms == []
    few = found.report["facets"]["camera"]["3"]
    assert 0 < few["pictures"] < 30
    assert few["wrong"] is None


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_what_is_no_share_of_wrong_answers_is_called_loss(kind: str) -> None:
    rules = _rules({("camera", "3", "DPPL"): 0.05}, kind)
    state, hour = BiasState(), _hour(rules, 0, 4000, {"1": 0.0, "3": 1.0})
    words = {own["metric"]: own["words"] for own in _judged(rules, state, hour, hour).alarms}
    assert "camera 3 have a larger loss than the others: 1.00 against 0.00" in words["AD"]
    assert ("of their area" in words["DPPL"]) == (kind == "masks")


def test_facets_that_cannot_be_are_told() -> None:
    rules = _rules(chosen=("camera", "kamera", "brightness", "id"))
    pictures = Observations(rules.subject, has_truth=False)
    for number in range(40):
        values = {"camera": "1", "id": f"{number}"}
        pictures.add(Observation(values, Counts(1), 0.0, number + 1))
    found = _judged(rules, BiasState(rules.subject.chosen), pictures, None)
    assert found.report["left_out"] == {
        "id": "it has more than 20 values",
        "kamera": "no picture has it so far",
        "brightness": "the reference has no terciles of it",
    }
    assert found.report["facets"] == {}


def test_an_hour_without_pictures_or_labels_is_none() -> None:
    rules = _rules()
    empty = Observations(rules.subject, has_truth=False)
    found = _judged(rules, BiasState(), empty, Observations(rules.subject, has_truth=True))
    assert (found.alarms, found.violations, found.parts) == ([], [], {})


def test_rules_are_those_of_the_baselines_file(tmp_path: Path) -> None:
    rules = BiasRules.read(tmp_path, "labels", ("cat", "dog"), ("camera",), 5)
    assert (rules.subject.label, rules.subject.chosen, rules.smallest) == ("dog", ("camera",), 5)
    assert rules.constraints == BiasConstraints("dog")
