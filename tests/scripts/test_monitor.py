"""Monitoring as a user does it: baseline, captures of the served model, runs, report."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from regrow.data.images.decoding import decode
from regrow.deploy.serving.opener import Opener
from regrow.monitor.files.captures import Body, Event, event_line
from regrow.pipelines.monitoring.baseline import predictor
from regrow.pipelines.serve import promoted_model
from regrow.scripts import monitor

Trained = Callable[..., Path]
HOUR = datetime(2026, 11, 30, 7, tzinfo=UTC)


def _captured(model: Path, pictures: list[Path], folder: Path) -> Path:
    """Write captures of the test pictures, as a server that was asked for them."""
    served, _ = Opener(promoted_model).open(model)
    predict, lines = predictor(served), []
    for number, file in enumerate(pictures):
        answer = {"model": served.sha256, "predictions": [predict(decode(file))]}
        event = Event(
            f"event-{number}",
            HOUR + timedelta(seconds=number),
            Body("image/png", base64.b64encode(file.read_bytes()).decode(), "BASE64"),
            Body("application/json", json.dumps(answer), "JSON"),
            inference_id=f"{file.parent.name}-{number}",
        )
        lines.append(event_line(event))
    place = folder / "endpoint" / "AllTraffic" / "2026" / "11" / "30" / "07"
    place.mkdir(parents=True)
    (place / "captures.jsonl").write_text("".join(lines))
    return folder


def _truth(captures: Path, folder: Path, *, is_right: bool) -> Path:
    lines = []
    for line in next(captures.rglob("*.jsonl")).read_text().splitlines():
        name = json.loads(line)["eventMetadata"]["inferenceId"]
        label = name.split("-")[0]
        wrong = {"red": "green", "green": "red"}[label]
        truth = {"data": label if is_right else wrong, "encoding": "CSV"}
        content: dict[str, Any] = {"groundTruthData": truth, "eventMetadata": {"eventId": name}}
        lines.append(json.dumps(content) + "\n")
    place = folder / "2026" / "11" / "30" / "08"
    place.mkdir(parents=True)
    (place / "labels.jsonl").write_text("".join(lines))
    return folder


def test_a_model_is_watched_from_its_baseline_to_an_alarm(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, folder = trained("dense"), tmp_path / "monitor"
    assert monitor.main(["baseline", str(model.parent), f"--out={folder}", "--attributions=0"]) == 0
    assert "on 24 test images" in capsys.readouterr().out
    pictures = sorted((tmp_path / "data" / "images" / "test").rglob("*.png")) * 3
    captures = _captured(model, pictures, tmp_path / "captures")
    words = ["run", str(folder), "--captures", str(captures)]
    assert monitor.main([*words, "--now", "2026-11-30T07:59:00Z"]) == 0
    told = capsys.readouterr().out
    assert "no new captures" in told
    assert "72 captures of hours that have not ended" in told
    assert monitor.main([*words, "--now", "2026-11-30T09:30:00Z"]) == 0
    told = capsys.readouterr().out
    assert "nothing has changed in 72 pictures" in told
    assert told.endswith(f"{folder / 'report.html'}\n")
    right = _truth(captures, tmp_path / "right", is_right=True)
    now = ["--now", "2026-11-30T09:30:00Z"]
    assert monitor.main([*words, *now, "--ground-truth", str(right)]) == 0
    report = json.loads((folder / "report.json").read_text())
    assert report["quality"]["num_labels"] == 72
    assert report["quality"]["value"] == 1.0
    # The same labels, all of them changed.
    wrong = _truth(captures, tmp_path / "wrong", is_right=False)
    assert monitor.main([*words, *now, "--ground-truth", str(wrong)]) == 3
    assert "the loss is above its promise" in capsys.readouterr().err
    assert monitor.main(["report", str(folder)]) == 0
    assert "2026-11-30T07:00:00Z: " in capsys.readouterr().out
    shown = EventAccumulator(str(folder / "tensorboard" / "now")).Reload()
    # The hour of the pictures, and that of the labels.
    assert [own.value for own in shown.Scalars("counts/pictures")] == [72, 0]
    assert [own.wall_time for own in shown.Scalars("labels/accuracy")] == [
        (HOUR + timedelta(hours=1)).timestamp()
    ]
    damaged = folder / "hours/2026/11/30/07/report.json"
    damaged.write_text(json.dumps(json.loads(damaged.read_text()) | {"remarks": {"kind": 3}}))
    assert monitor.main(["report", str(folder)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {damaged}: damaged; remove this hour's folder")
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["run"], ["run", "nowhere", "--captures", "nowhere"]])
def test_bad_input_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert monitor.main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
