"""The run of a monitor: by the closed hour, idempotent, and told of everything that is odd."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from regrow.errors import BadInput
from regrow.monitor.alarms.false_alarms import FalseAlarms
from regrow.monitor.files.captures import Event
from regrow.monitor.files.cloudwatch import CLOUDWATCH
from regrow.monitor.files.violations import NAMES
from regrow.monitor.hours import watching
from regrow.monitor.hours.collecting import Blocks
from regrow.monitor.hours.folders import done_hours, hour_folder
from regrow.monitor.hours.labelling import USED
from regrow.monitor.hours.watching import Settings, Watch

START = datetime(2026, 11, 30, 6, tzinfo=UTC)
RATE = FalseAlarms(images=1e5)
Captured = Callable[..., list[Event]]
Write = Callable[..., Path]


def _hour(number: int) -> datetime:
    return START + timedelta(hours=number)


def _run(
    folder: Path, captures: Path, truth: Path | None = None, until: int = 24, **own: Any
) -> list[dict[str, Any]]:
    settings = Settings(_hour(until), RATE, **own)
    return Watch(folder, captures, truth, settings).run()


def _files(folder: Path) -> dict[str, bytes]:
    hours = folder / "hours"
    return {str(f.relative_to(hours)): f.read_bytes() for f in hours.rglob("*") if f.is_file()}


def _kinds(report: dict[str, Any]) -> set[str]:
    return {alarm["kind"] for alarm in report["alarms"]}


def test_an_hour_leaves_its_files(
    folder: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    write(tmp_path / "captures", captured(START))
    (report,) = _run(folder, tmp_path / "captures")
    place = hour_folder(folder, START)
    assert place == folder / "hours" / "2026" / "11" / "30" / "06"
    clarify = [f"clarify/{name}" for name in NAMES]
    named = ("report.json", "report.html", "state.json", "statistics.json")
    for name in (*named, *NAMES, *clarify):
        assert (place / name).is_file(), name
    assert json.loads((place / "report.json").read_text()) == json.loads(json.dumps(report))
    assert (folder / "report.html").read_bytes() == (place / "report.html").read_bytes()
    assert (report["status"], report["alarms"]) == ("Completed", [])
    assert report["counts"]["num_pictures"] == 60
    names = [one["name"] for one in json.loads((place / "statistics.json").read_text())["features"]]
    assert {"brightness", "confidence", "predicted_class", "metadata camera"} <= {*names}
    assert json.loads((place / NAMES[0]).read_text()) == {"violations": []}


def test_only_closed_hours_are_judged_and_each_once(
    folder: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    for number in range(3):
        write(tmp_path / "captures", captured(_hour(number)))
    assert len(_run(folder, tmp_path / "captures", until=2)) == 2
    before = _files(folder)
    assert _run(folder, tmp_path / "captures", until=2) == []
    assert _files(folder) == before
    (report,) = _run(folder, tmp_path / "captures", until=3)
    assert report["hour"] == "2026-11-30T08:00:00Z"
    assert done_hours(folder) == [_hour(0), _hour(1), _hour(2)]


def test_hours_that_ended_before_a_time_are_not_judged(
    folder: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    for number in range(4):
        write(tmp_path / "captures", captured(_hour(number)))
    half_past = _hour(1) + timedelta(minutes=30)
    first, _ = _run(folder, tmp_path / "captures", until=3, since=half_past)
    # The hour that was under way then is judged whole, and those before are not.
    assert done_hours(folder) == [_hour(1), _hour(2)]
    assert first["counts"]["num_pictures"] == 60
    assert _run(folder, tmp_path / "captures", until=3, since=_hour(3)) == []


def test_hour_by_hour_and_backfill_give_the_same_files(
    folder: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    for number in range(4):
        write(tmp_path / "captures", captured(_hour(number), light=1.0 if number < 2 else 0.6))
        _run(folder, tmp_path / "captures", until=number + 1)
    _run(other, tmp_path / "captures")
    assert _files(folder) == _files(other)


def test_any_split_of_the_captures_into_files_gives_the_same_results(
    folder: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    other, events = tmp_path / "other", captured(START, 90)
    shutil.copytree(folder, other)
    write(tmp_path / "one", events)
    for part in range(4):
        write(tmp_path / "many", events[part::4][::-1], f"part{part}")
    _run(folder, tmp_path / "one")
    _run(other, tmp_path / "many")
    same = {"statistics.json", "summary.json", *NAMES, "state.json", "examples.json"}
    for name in same:
        one, many = (hour_folder(own, START) / name for own in (folder, other))
        assert one.read_bytes() == many.read_bytes(), name


def test_a_late_file_judges_its_hour_and_the_later_ones_again(
    folder: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    captures, other = tmp_path / "captures", tmp_path / "other"
    shutil.copytree(folder, other)
    for number in range(3):
        write(captures, captured(_hour(number)))
    _run(folder, captures)
    late = captured(_hour(1), 20, seed=7)
    late = [replace(e, id=f"late{e.id}") for e in late]
    # It lies under another hour than its events.
    file = write(tmp_path / "late", late)
    place = captures / "endpoint" / "AllTraffic" / "2026" / "12" / "01" / "00"
    place.mkdir(parents=True)
    shutil.copy(file, place / "late.jsonl")
    reports = _run(folder, captures)
    assert [report["hour"][11:13] for report in reports] == ["07", "08"]
    assert reports[0]["counts"]["num_pictures"] == 80
    _run(other, captures)
    assert _files(folder) == _files(other)


def test_events_that_come_weeks_late_are_told(
    folder: Path, tmp_path: Path, captured: Captured, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "captures", captured(_hour(24 * 20)))
    _run(folder, tmp_path / "captures", until=24 * 30)
    write(tmp_path / "captures", captured(START, 5))
    assert _run(folder, tmp_path / "captures", until=24 * 30) == []
    assert "5 events that came more than a week late, left out" in caplog.text


def test_a_killed_run_goes_on_with_the_same_files(
    folder: Path,
    tmp_path: Path,
    captured: Captured,
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other, calls = tmp_path / "other", []
    shutil.copytree(folder, other)
    for number in range(3):
        write(tmp_path / "captures", captured(_hour(number)))
    real = watching.write_violations

    def dying(*words: Any) -> None:
        calls.append(words)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*words)

    monkeypatch.setattr(watching, "write_violations", dying)
    with pytest.raises(KeyboardInterrupt):
        _run(folder, tmp_path / "captures")
    assert done_hours(folder) == [START]
    assert len(_run(folder, tmp_path / "captures")) == 2
    monkeypatch.setattr(watching, "write_violations", real)
    _run(other, tmp_path / "captures")
    assert _files(folder) == _files(other)


def test_darker_pictures_warn_and_say_since_when(
    folder: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    for number in range(4):
        write(tmp_path / "captures", captured(_hour(number), light=1.0 if number < 2 else 0.6))
    reports = _run(folder, tmp_path / "captures")
    assert [_kinds(report) for report in reports] == [set(), set(), {"warn"}, {"warn"}]
    assert all(report["status"] == "Completed" for report in reports)
    alarms = {alarm["name"]: alarm for alarm in reports[3]["alarms"]}
    alarm = alarms["brightness"]
    assert alarm["effect"] < 0.35
    assert alarm["interval"][0] < alarm["effect"] < alarm["interval"][1]
    assert "2026-11-30T07:30" < alarm["since"] < "2026-11-30T08:20"
    assert alarm["first_alarm"] == "2026-11-30T08:00:00Z"
    assert alarm["now"] < alarm["before"]
    page = (folder / "report.html").read_text()
    assert "What moved" in page
    assert "brightness" in page


def test_blocks_of_one_camera_count_once(
    folder: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    """One dark scene for a minute is many frames, and one step."""
    scene = captured(START, 1, light=0.5)[0]
    frames = [
        replace(scene, id=f"f{n}", time=START + timedelta(milliseconds=200 * n)) for n in range(200)
    ]
    write(tmp_path / "captures", frames)
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (alone,) = _run(folder, tmp_path / "captures")
    (together,) = _run(other, tmp_path / "captures", blocks=Blocks("camera"))
    assert _kinds(alone) == {"warn"}
    assert _kinds(together) == set()


def test_broken_data_is_a_violation_at_once(
    folder: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    events = captured(START)
    body = events[0].input
    assert body is not None
    events[0] = replace(events[0], input=replace(body, data=body.data[:40]))
    write(tmp_path / "captures", events)
    write(tmp_path / "captures", captured(_hour(1)))
    first, second = _run(folder, tmp_path / "captures")
    assert (first["status"], _kinds(first)) == ("CompletedWithViolations", {"data"})
    assert "1 picture of 60 cannot be decoded" in first["alarms"][0]["words"]
    assert first["alarms"][0]["since"] == "2026-11-30T06:00:00Z"
    assert second["status"] == "Completed"
    stored = json.loads((hour_folder(folder, START) / NAMES[1]).read_text())["violations"]
    assert {one["feature_name"] for one in stored} >= {"image"}


def test_captures_of_another_model_are_refused_and_nothing_is_lost(
    folder: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    write(tmp_path / "captures", captured(START))
    write(tmp_path / "captures", captured(_hour(1), model="ffff"))
    with pytest.raises(BadInput, match="are of the model ffff, the baseline is of ab12ab12"):
        _run(folder, tmp_path / "captures")
    assert done_hours(folder) == [START]
    # A few of another model, as at a swap, are left out.
    mixed = [*captured(_hour(1), 30), *captured(_hour(1), 10, model="ffff", seed=1)]
    mixed = [replace(event, id=f"{n}") for n, event in enumerate(mixed)]
    write(tmp_path / "captures", mixed)
    (report,) = _run(folder, tmp_path / "captures")
    assert report["counts"]["num_pictures"] == 30
    assert report["counts"]["num_of_other_models"] == 10


def test_hours_without_captures_are_told(
    folder: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    (tmp_path / "captures").mkdir()
    assert _run(folder, tmp_path / "captures") == []
    write(tmp_path / "captures", captured(START))
    write(tmp_path / "captures", captured(_hour(4)))
    reports = _run(folder, tmp_path / "captures")
    assert [one["missing_hours"]["count"] for one in reports] == [0, 3]
    assert reports[1]["missing_hours"]["first"] == "2026-11-30T07:00:00Z"
    assert "3 hours before this one had no captures" in (folder / "report.html").read_text()


def test_a_clock_that_goes_back_and_one_that_runs_ahead_are_told(
    folder: Path, tmp_path: Path, captured: Captured, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    events = captured(START)
    # Twice in one file.
    write(tmp_path / "captures", [*events[40:], *events[20:40], *events[:20]])
    write(tmp_path / "captures", captured(_hour(24 * 365), 3))
    (report,) = _run(folder, tmp_path / "captures")
    assert report["counts"]["num_pictures"] == 60
    assert report["remarks"]["files in which the clock goes back"]["count"] == 1
    assert "3 events from later than now" in caplog.text


def test_an_event_captured_twice_counts_once(
    folder: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    write(tmp_path / "captures", captured(START))
    write(tmp_path / "captures", captured(START), "again")
    (report,) = _run(folder, tmp_path / "captures")
    assert report["counts"]["num_pictures"] == 60
    assert report["remarks"]["events captured twice, counted once"]["count"] == 60


def test_captures_without_inputs_or_without_outputs_are_no_violation(
    folder: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    write(tmp_path / "captures", [replace(e, input=None) for e in captured(START)])
    write(tmp_path / "captures", [replace(e, output=None) for e in captured(_hour(1))])
    reports = _run(folder, tmp_path / "captures")
    assert [report["alarms"] for report in reports] == [[], []]
    assert reports[0]["scores"]["brightness"]["now"] is None
    assert reports[1]["scores"]["confidence"]["now"] is None


def test_edited_constraints_are_read_and_nonsense_is_refused(
    folder: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    write(tmp_path / "captures", captured(START))
    file = folder / "constraints.json"
    asked = json.loads(file.read_text())
    asked["image_constraints"]["max_side"] = 10
    file.write_text(json.dumps(asked))
    (report,) = _run(folder, tmp_path / "captures")
    assert {alarm["name"] for alarm in report["alarms"]} == {"width", "height"}
    file.write_text(json.dumps({**asked, "features": 3}))
    with pytest.raises(BadInput, match=r"constraints\.json: features is 3, it must be a list"):
        _run(folder, tmp_path / "captures")


def _labels(folder: Path, hour: datetime, rows: Sequence[tuple[Any, ...]], name: str = "a") -> None:
    place = folder / hour.strftime("%Y/%m/%d/%H")
    place.mkdir(parents=True, exist_ok=True)
    lines = []
    for id_, data, *probability in rows:
        truth = {"data": data, "encoding": "CSV"}
        truth |= {"probability": probability[0]} if probability else {}
        content = {"groundTruthData": truth, "eventMetadata": {"eventId": id_}, "eventVersion": "0"}
        lines.append(json.dumps(content) + "\n")
    (place / f"{name}.jsonl").write_text("".join(lines))


def _answers(events: Sequence[Event], *, is_right: bool = True) -> list[tuple[str, str]]:
    found = []
    for event in events:
        assert event.output is not None
        label = event.output.json()["predictions"][0]["label"]
        wrong = {"dark": "light", "light": "dark"}[label]
        found.append((event.name, label if is_right else wrong))
    return found


def test_labels_are_joined_late_by_either_id_and_everything_odd_is_counted(
    folder: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    events = captured(START)
    write(tmp_path / "captures", events)
    rows = _answers(events[:20]) + [(e.id, _answers([e])[0][1]) for e in events[20:30]]
    rows += [("unknown-1", "dark"), ("unknown-2", "dark"), rows[0], (events[40].id, "cat")]
    _labels(tmp_path / "labels", _hour(3), rows)
    reports = _run(folder, tmp_path / "captures", tmp_path / "labels")
    assert [report["hour"][11:13] for report in reports] == ["06", "09"]
    assert reports[0]["quality"] is None
    quality, told = reports[1]["quality"], reports[1]["label_remarks"]
    assert (quality["num_labels"], quality["value"], quality["coverage"]) == (30, 1.0, 0.5)
    assert told["labels of ids unknown in the week before, left out"]["count"] == 2
    assert told["labels given twice, of which the last counts"]["count"] == 1
    assert told["labels that do not fit their answer, left out"]["count"] == 1
    assert _run(folder, tmp_path / "captures", tmp_path / "labels") == []


def test_a_model_that_is_wrong_makes_an_act_alarm_that_labels_are_bet_on_once(
    folder: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    events = captured(START)
    write(tmp_path / "captures", events)
    _labels(tmp_path / "labels", _hour(1), _answers(events[:50], is_right=False))
    reports = _run(folder, tmp_path / "captures", tmp_path / "labels")
    (alarm,) = reports[1]["alarms"]
    assert (alarm["kind"], alarm["name"], alarm["effect"]) == ("act", "loss", 1.0)
    assert reports[1]["status"] == "CompletedWithViolations"
    assert reports[1]["quality"]["value"] == 0
    # The same labels again are told, and change no evidence.
    state = json.loads((hour_folder(folder, _hour(1)) / "state.json").read_text())
    _labels(tmp_path / "labels", _hour(2), _answers(events[:50], is_right=False))
    (again,) = _run(folder, tmp_path / "captures", tmp_path / "labels")
    assert (
        again["label_remarks"][
            "labels of pictures or blocks labelled in an earlier hour, scored but not bet on again"
        ]["count"]
        == 50
    )
    after = json.loads((hour_folder(folder, _hour(2)) / "state.json").read_text())
    assert after["risk"] == state["risk"]


EVIL = "<img src=x onerror=alert(1)>" + "3" * 900


def _two_cameras(
    captured: Captured, hour: datetime, count: int = 150
) -> tuple[list[Event], list[Event]]:
    good = captured(hour, count)
    good = [
        replace(
            event, id=f"4{event.id}", inference_id="", attributes={"camera": "4", "run": str(n)}
        )
        for n, event in enumerate(good)
    ]
    return good, captured(hour, count, seed=9, attributes={"camera": EVIL})


def test_a_camera_that_is_answered_wrongly_more_often_is_told(
    folder: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    good, bad = _two_cameras(captured, START)
    write(tmp_path / "captures", good + bad)
    rows = _answers(good) + _answers(bad[:90], is_right=False) + _answers(bad[90:])
    _labels(tmp_path / "labels", _hour(1), rows)
    first, second = _run(folder, tmp_path / "captures", tmp_path / "labels")
    assert first["bias"]["facets"]["camera"]["4"]["pictures"] == 150
    assert first["bias"]["left_out"] == {"run": "it has more than 20 values"}
    alarm = next(own for own in second["alarms"] if "facet" in own)
    assert alarm["name"].startswith("bias AD camera=<img src=x")
    assert (alarm["kind"], alarm["facet_value"]) == ("act", EVIL)
    assert len(alarm["name"]) < 130
    assert second["status"] == "CompletedWithViolations"
    assert "some pictures are answered worse" in second["message"]
    place = hour_folder(folder, _hour(1))
    violations = json.loads((place / "clarify" / NAMES[0]).read_text())["violations"]
    assert [(own["facet"], own["metric_name"]) for own in violations] == [("camera", "AD")]
    analysis = json.loads((place / "analysis.json").read_text())
    found = analysis["post_training_bias_metrics"]["facets"]["camera"]
    assert {row["value_or_threshold"] for row in found} == {"4", EVIL}
    assert '"MetricName": "bias_metric_AD"' in (place / CLOUDWATCH).read_text()
    page = (folder / "report.html").read_text()
    assert "<img src=x" not in page
    assert "are answered wrongly more often" in page
    assert "Kinds of pictures" in page


def test_bias_does_not_depend_on_files_nor_on_when_hours_are_judged(
    folder: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    for number in range(2):
        good, bad = _two_cameras(captured, _hour(number), 40)
        write(tmp_path / "one", good + bad)
        for part in range(3):
            write(tmp_path / "many", (good + bad)[part::3][::-1], f"part{part}")
        rows = _answers(good) + _answers(bad, is_right=number < 1)
        _labels(tmp_path / "labels", _hour(number + 1), rows)
        _run(folder, tmp_path / "one", tmp_path / "labels", until=number + 2)
    _run(other, tmp_path / "many", tmp_path / "labels")
    for name in ("analysis.json", "state.json", *NAMES, *(f"clarify/{own}" for own in NAMES)):
        for number in range(2):
            one, many = (hour_folder(own, _hour(number)) / name for own in (folder, other))
            assert one.read_bytes() == many.read_bytes(), name


def test_only_facets_that_are_asked_for_are_looked_at(
    folder: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    write(tmp_path / "captures", [*_two_cameras(captured, START)[0], *captured(START, 40)])
    (report,) = _run(folder, tmp_path / "captures", facets=("camera", "kamera"), smallest_group=5)
    assert {*report["bias"]["facets"]} == {"camera"}
    assert report["bias"]["left_out"] == {"kamera": "no picture has it so far"}
    assert report["bias"]["smallest_group"] == 5


def test_an_analysis_edited_to_nonsense_is_one_line(
    folder: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    write(tmp_path / "captures", captured(START))
    (folder / "analysis.json").write_text('{"post_training_bias_metrics": {"gap": "wide"}}')
    with pytest.raises(BadInput, match=r"analysis\.json: gap is 'wide', it must lie in \[0, 1\]"):
        _run(folder, tmp_path / "captures")


def test_sampled_labels_count_by_their_probability(
    folder: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    events = captured(START)
    write(tmp_path / "captures", events)
    wrong = [(*row, 0.5) for row in _answers(events[:30], is_right=False)]
    _labels(tmp_path / "labels", _hour(1), wrong)
    more = [(*row, 0.5) for row in _answers(events[30:40], is_right=False)]
    _labels(tmp_path / "labels", _hour(2), more)
    reports = _run(folder, tmp_path / "captures", tmp_path / "labels")
    (alarm,) = reports[1]["alarms"]
    assert (alarm["kind"], alarm["effect"]) == ("act", 1.0)  # 30 of 60, each for two
    late = "sampled labels of hours that have been judged already, scored but not bet on"
    assert reports[2]["label_remarks"][late]["count"] == 10


def test_labels_outside_of_the_folders_of_hours_come_when_they_are_seen(
    folder: Path, tmp_path: Path, captured: Captured, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    events = captured(START)
    write(tmp_path / "captures", events)
    _labels(tmp_path / "labels", START, _answers(events))
    (tmp_path / "flat").mkdir()
    shutil.copy(tmp_path / "labels/2026/11/30/06/a.jsonl", tmp_path / "flat" / "truth.jsonl")
    (report,) = _run(folder, tmp_path / "captures", tmp_path / "flat")
    assert report["quality"]["value"] == 1.0
    write(tmp_path / "captures", captured(_hour(1)))
    (report,) = _run(folder, tmp_path / "captures", tmp_path / "flat")
    assert report["quality"] is None
    # Where that is forgotten, they count as new: scored again, but not bet on.
    (folder / "labels.json").write_text("[")
    reports = _run(folder, tmp_path / "captures", tmp_path / "flat")
    assert "labels.json: damaged; labels outside" in caplog.text
    assert [report["quality"] and report["quality"]["num_labels"] for report in reports] == [
        None,
        60,
    ]


def test_labels_of_a_block_are_bet_on_once_whenever_they_come(
    folder: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    events = captured(START)  # one a minute, all of one camera
    write(tmp_path / "captures", events)
    _labels(tmp_path / "labels", _hour(1), _answers([*events[:10], *events[40:50]]))
    _labels(tmp_path / "labels", _hour(2), _answers(events[10:20]))
    blocks = Blocks("camera", 30)
    reports = _run(folder, tmp_path / "captures", tmp_path / "labels", blocks=blocks)
    assert [report["quality"]["num_labels"] for report in reports[1:]] == [20, 10]
    told = reports[2]["label_remarks"]
    assert {kind: own["count"] for kind, own in told.items()} == {USED: 10}
    state = json.loads((hour_folder(folder, _hour(2)) / "state.json").read_text())
    assert state["num_labels"] == 2


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"model": "x"}'])
def test_a_damaged_state_is_one_line(
    folder: Path, tmp_path: Path, captured: Captured, write: Write, text: str
) -> None:
    write(tmp_path / "captures", captured(START))
    _run(folder, tmp_path / "captures")
    (hour_folder(folder, START) / "state.json").write_text(text)
    write(tmp_path / "captures", captured(_hour(1)))
    with pytest.raises(BadInput, match=r"state\.json: (damaged|not JSON|is of another baseline)"):
        _run(folder, tmp_path / "captures")


def test_a_damaged_report_is_one_line(
    folder: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    write(tmp_path / "captures", captured(START))
    _run(folder, tmp_path / "captures")
    (hour_folder(folder, START) / "report.json").write_text("{}")
    with pytest.raises(BadInput, match="damaged; remove this hour"):
        _run(folder, tmp_path / "captures")
