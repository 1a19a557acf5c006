"""TensorBoard shows what the reports of the hours say, each hour once."""

import io
import json
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from regrow.monitor.alarms.false_alarms import FalseAlarms
from regrow.monitor.baseline import Baseline
from regrow.monitor.files.captures import Event
from regrow.monitor.hours import curves
from regrow.monitor.hours.curves import alarms_text, write_curves
from regrow.monitor.hours.folders import hour_folder
from regrow.monitor.hours.watching import Settings, Watch

START = datetime(2026, 11, 30, 6, tzinfo=UTC)
Captured = Callable[..., list[Event]]
Write = Callable[..., Path]


def _hour(number: int) -> datetime:
    return START + timedelta(hours=number)


def _run(folder: Path, captures: Path, truth: Path | None = None) -> list[dict[str, Any]]:
    settings = Settings(_hour(24), FalseAlarms(images=1e3))
    return Watch(folder, captures, truth, settings).run()


def _read(folder: Path, run: str) -> EventAccumulator:
    place = str(folder / "tensorboard" / run)
    return EventAccumulator(place, size_guidance={"scalars": 0, "tensors": 0}).Reload()


def _shown(folder: Path, run: str, tag: str) -> list[tuple[int, float]]:
    return [(own.step, own.value) for own in _read(folder, run).Scalars(tag)]


@pytest.fixture
def watched(
    folder: Path, baseline: Baseline, tmp_path: Path, captured: Captured, write: Write
) -> tuple[Path, list[dict[str, Any]]]:
    """Return a monitor of three hours, of which the last is dark, and its reports."""
    for number, light in enumerate((1.0, 1.0, 0.5)):
        write(tmp_path / "captures", captured(_hour(number), light=light))
    reports = _run(folder, tmp_path / "captures")
    write_curves(folder, baseline.examples)
    return folder, reports


def test_an_hour_is_a_step_at_its_own_time(watched: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, _ = watched
    points = _read(folder, "now").Scalars("counts/pictures")
    assert [own.value for own in points] == [60.0] * 3
    assert [own.wall_time for own in points] == [_hour(n).timestamp() for n in range(3)]
    assert [own.step for own in points] == [0, 1, 2]


def test_scores_stand_beside_the_reference_and_their_limit(
    watched: tuple[Path, list[dict[str, Any]]],
) -> None:
    folder, reports = watched
    for run, tag, of in (
        ("now", "mean/brightness", lambda own: own["scores"]["brightness"]["now"]),
        ("before", "mean/brightness", lambda own: own["scores"]["brightness"]["before"]),
        ("now", "rank/brightness", lambda own: own["scores"]["brightness"]["rank"]),
        ("before", "rank/brightness", lambda own: 0.5),
        ("now", "evidence/brightness", lambda own: own["scores"]["brightness"]["evidence"]),
        ("limit", "evidence/brightness", lambda own: own["level"]),
        ("now", "distance/brightness", lambda own: own["distances"]["brightness"]),
    ):
        found = _shown(folder, run, tag)
        assert [value for _, value in found] == pytest.approx([*map(of, reports)]), (run, tag)
    # What is an alarm lies above its limit, and what is none below.
    above = [
        now > limit
        for (_, now), (_, limit) in zip(
            _shown(folder, "now", "evidence/brightness"),
            _shown(folder, "limit", "evidence/brightness"),
            strict=True,
        )
    ]
    warned = [{"brightness"} <= {own["name"] for own in report["alarms"]} for report in reports]
    assert above == warned == [False, False, True]
    kinds = [sum(own["kind"] == "warn" for own in report["alarms"]) for report in reports]
    assert [value for _, value in _shown(folder, "now", "alarms/warn")] == kinds


def test_alarms_are_told_and_pictures_shown_before_and_now(
    watched: tuple[Path, list[dict[str, Any]]],
) -> None:
    folder, reports = watched
    (text,) = _read(folder, "now").Tensors("alarms")
    assert text.step == 2
    told = text.tensor_proto.string_val[0].decode()
    assert told == alarms_text(reports[2])
    assert "`hours/2026/11/30/08/report.html`" in told
    assert told.count("\n* **warn** `") == len(reports[2]["alarms"])
    means = {}
    for run in ("before", "now"):
        rows = _read(folder, run).Images("pictures")
        assert [own.step for own in rows] == [0, 1, 2]
        image = np.asarray(Image.open(io.BytesIO(rows[-1].encoded_image_string)).convert("L"))
        assert (image.shape[1], image.shape[0]) == (rows[-1].width, rows[-1].height)
        means[run] = image.mean()
    assert means["now"] < means["before"]


def test_labels_are_shown_with_their_interval_and_the_loss_with_its_promise(
    folder: Path, baseline: Baseline, tmp_path: Path, captured: Captured, write: Write
) -> None:
    write(tmp_path / "captures", captured(START))
    place = tmp_path / "truth" / f"{_hour(1):%Y/%m/%d/%H}"
    place.mkdir(parents=True)
    lines = [
        {
            "groundTruthData": {"data": "dark" if number % 2 else "light", "encoding": "CSV"},
            "eventMetadata": {"eventId": f"3006-{number:04d}"},
        }
        for number in range(40)
    ]
    (place / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    *_, report = _run(folder, tmp_path / "captures", tmp_path / "truth")
    write_curves(folder, baseline.examples)
    step, quality = 1, report["quality"]
    low, high = quality["interval"]
    for run, value in (("low", low), ("now", quality["value"]), ("high", high)):
        assert _shown(folder, run, "labels/accuracy") == [(step, pytest.approx(value))]
    assert baseline.promise is not None
    assert _shown(folder, "limit", "loss/loss") == [(step, pytest.approx(baseline.promise.limit))]
    (alarm,) = (own for own in report["alarms"] if own["kind"] == "act")
    assert _shown(folder, "now", "loss/evidence") == [(step, pytest.approx(alarm["evidence"]))]
    ((_, level),) = _shown(folder, "limit", "loss/evidence")
    assert level < alarm["evidence"]
    assert "**act** `loss`: " in alarms_text(report)


def test_an_hour_that_is_judged_again_is_shown_once(
    watched: tuple[Path, list[dict[str, Any]]],
    baseline: Baseline,
    tmp_path: Path,
    captured: Captured,
    write: Write,
) -> None:
    folder, _ = watched
    live = _read(folder, "now")
    write(tmp_path / "captures", captured(_hour(1), 10, seed=7, id="late")[:1], "late")
    assert len(_run(folder, tmp_path / "captures")) == 2
    write_curves(folder, baseline.examples)
    expected = [(0, 60.0), (1, 61.0), (2, 60.0)]
    assert _shown(folder, "now", "counts/pictures") == expected
    reloaded = live.Reload().Scalars("counts/pictures")
    assert [(own.step, own.value) for own in reloaded] == expected


def test_the_last_hours_and_the_scores_that_moved_most_are_shown(
    watched: tuple[Path, list[dict[str, Any]]],
    baseline: Baseline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, reports = watched
    monkeypatch.setattr(curves, "NUM_HOURS", 2)
    monkeypatch.setattr(curves, "NUM_PICTURED", 1)
    monkeypatch.setattr(curves, "NUM_SCORES", 3)
    shutil.rmtree(folder / "tensorboard")
    write_curves(folder, baseline.examples)
    own = _read(folder, "now")
    assert [one.step for one in own.Scalars("counts/pictures")] == [1, 2]
    assert len(own.Images("pictures")) == 1
    evidence = {
        name: max(report["scores"][name]["evidence"] for report in reports[1:])
        for name in reports[0]["scores"]
    }
    most = sorted(evidence, key=lambda name: -evidence[name])[:3]
    tags = [tag for tag in own.Tags()["scalars"] if tag.startswith("evidence/")]
    assert {*tags} == {f"evidence/{name}" for name in most}


def test_a_damaged_hour_is_left_out_and_none_writes_nothing(
    watched: tuple[Path, list[dict[str, Any]]], baseline: Baseline, tmp_path: Path
) -> None:
    folder, _ = watched
    (hour_folder(folder, _hour(1)) / "report.json").write_text("{")
    write_curves(folder, baseline.examples)
    steps = [step for step, _ in _shown(folder, "now", "counts/pictures")]
    assert steps == [0, 2]
    # Whole JSON, of which a part is something else.
    whole = json.loads((hour_folder(folder, _hour(0)) / "report.json").read_text())
    for part in ({"scores": {"brightness": None}}, {"alarms": [3]}, {"counts": {"a": []}}):
        text = json.dumps(whole | part)
        (hour_folder(folder, _hour(1)) / "report.json").write_text(text)
        write_curves(folder, baseline.examples)
        assert [step for step, _ in _shown(folder, "now", "counts/pictures")] == [0, 2]
    write_curves(tmp_path / "nothing", baseline.examples)
    assert not (tmp_path / "nothing").exists()


def test_texts_of_strangers_are_no_markup() -> None:
    name = "`x` <img src=x>\n# [a](javascript:alert(1))"
    told: Sequence[dict[str, Any]] = [
        {"kind": "data", "name": name, "words": name, "since": "2026-11-30T07:00:00Z"}
    ]
    report = {"hour": "2026-11-30T07:00:00Z", "message": name, "alarms": told}
    text = alarms_text(report)
    assert text.count("\n") == 2
    outside = "".join(text.split("``")[::2])
    assert "<img" not in outside
    assert "[a]" not in outside.replace("\\[a\\]", "")
