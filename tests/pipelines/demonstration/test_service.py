"""The demo's second half: pictures by day are clean, those at night warn, and all of it is told."""

import base64
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from regrow.data.config import data_beside, write_data_file
from regrow.deploy.serving.opener import Opener
from regrow.errors import BadInput
from regrow.models.classification import Classification
from regrow.models.onnx.graph import export_graph
from regrow.monitor.files.captures import Body, Event, event_line
from regrow.monitor.hours.telling import moved_scores
from regrow.pipelines.demonstration import service
from regrow.pipelines.demonstration.service import ask_served, watch
from regrow.pipelines.demonstration.traffic import Sent
from regrow.pipelines.monitoring.baseline import predictor
from regrow.pipelines.serve import promoted_model

TIME = "2026-11-30T07:30:00Z"
NAMES = [str(digit) for digit in range(10)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network for the sample's digits, with their `data.yaml` beside it."""
    folder = tmp_path_factory.mktemp("model")
    source = {"class_path": "regrow.data.sample.Digits", "init_args": {}}
    write_data_file(folder, {"data": {"source": source, "size": [32, 32], "batch_size": 64}})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Classification(NAMES, (32, 32), net_args={"width": 4}).eval()
    return export_graph(net, folder / "model.onnx")


@pytest.fixture
def camera(model: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Put a server into this process that captures all but one answer; give the words it got."""
    served, _ = Opener(promoted_model).open(model)
    predict, words = predictor(served), []

    @contextmanager
    def begun(line: Sequence[str], log_file: Path) -> Iterator[str]:
        words[:] = line
        yield line[line.index("--capture") + 1]

    def send(folder: str, pictures: Iterable[tuple[str, np.ndarray]]) -> Sent:
        sent, lines = Sent(seconds=1.5), []
        for name, pixels in pictures:
            sent.requests += 1
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            answer = {"model": served.sha256, "predictions": [predict(pixels)]}
            body = Body("image/png", base64.b64encode(file.getvalue()).decode(), "BASE64")
            told = Body("application/json", json.dumps(answer), "JSON")
            lines.append(event_line(Event(f"event {name}", datetime.now(UTC), body, told, name)))
        sent.answers, sent.refusal = sent.requests - 1, "503 full"
        (Path(folder) / name.partition("/")[0]).with_suffix(".jsonl").write_text("".join(lines[1:]))
        return sent

    monkeypatch.setattr(service, "served", begun)
    monkeypatch.setattr(service, "send", send)
    return words


def ask(model: Path, folder: Path) -> tuple[dict[str, Any], str]:
    """Return what was counted, and what was printed."""
    (folder / "captured").mkdir()
    console = Console(file=io.StringIO(), width=100, markup=False)
    figures = ask_served(model, folder, console) | watch(model, folder, console)
    return figures, console.file.getvalue()


def test_the_warning_comes_with_the_night(model: Path, camera: list[str], tmp_path: Path) -> None:
    figures, printed = ask(model, tmp_path)
    assert camera[:5] == [str(model), "--port", "0", "--capture", str(tmp_path / "captured")]
    count = len(data_beside(model).snapshot.indices("val"))
    assert count > 200
    asked = {name: figures[name] for name in ("requests", "answers", "captured")}
    assert asked == {"requests": 2 * count, "answers": 2 * count - 2, "captured": 2 * count - 2}
    day, night = figures["hours"]
    assert day["alarms"] == []
    alarms = {alarm["name"]: alarm for alarm in night["alarms"]}
    assert {alarm["kind"] for alarm in alarms.values()} == {"warn"}
    assert alarms["brightness"]["effect"] < 0.1
    times = [datetime.fromisoformat(hour["hour"]) for hour in (day, night)]
    assert times[1] - times[0] == timedelta(hours=1)
    assert times[1] + timedelta(hours=1) <= datetime.now(UTC)
    # The change is dated to when it came, give or take a few pictures.
    since = datetime.fromisoformat(alarms["brightness"]["since"])
    assert abs(since - times[1]) < timedelta(minutes=5)
    assert f"{count} sent, {count - 1} answered, 1.5 s, the first refusal: 503 full" in printed
    assert f"{2 * count - 2} requests were captured" in printed
    assert "the demo pretends that an hour has passed" in printed
    assert f"--now {times[1]:%Y-%m-%dT%H:%M:%SZ}" in printed
    page = tmp_path / "monitor" / "report.html"
    assert f"what to do: {page}" in printed
    assert "brightness" in page.read_text()
    row = next(line for line in printed.splitlines() if line.startswith("│ brightness"))
    low, high = f"{alarms['brightness']['now']:.4g}", f"{alarms['brightness']['before']:.4g}"
    assert row.index(high) < row.index(low)


def test_of_many_scores_those_of_pictures_and_of_answers_are_shown() -> None:
    names = ["brightness", "contrast", "red", "green", "blue", "confidence", "probability of 1"]
    warnings = [
        {"kind": "warn", "name": n, "before": 0.5, "now": 0.25, "effect": 0.125, "since": TIME}
        for n in names
    ]
    console = Console(file=io.StringIO(), width=100)
    console.print(service._moved(moved_scores(warnings)))
    printed = console.file.getvalue()
    assert [name in printed for name in names] == [True] * 4 + [False] + [True] * 2
    assert "And 1 more score" in printed
    assert "2026-11-30 07:30:00" in printed
    assert "12 %" in printed


def test_a_warning_of_bias_is_no_row_of_the_table(
    model: Path, camera: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "label 9 is predicted for 40% of the pictures with camera 3, of the others for 5%"
    bias = {"kind": "warn", "name": "DPPL camera=3", "facet": "camera", "words": words}
    report = {"hour": TIME, "message": "Completed: 1 warning in 5 pictures", "alarms": [bias]}
    monkeypatch.setattr(service, "run", lambda words: [report])
    figures, printed = ask(model, tmp_path)
    assert figures["hours"] == [report, report]
    assert "What moved" not in printed
    console = Console(file=io.StringIO(), width=100)
    moved = {
        "kind": "warn",
        "name": "red",
        "before": 0.5,
        "now": 0.25,
        "effect": 0.1,
        "since": TIME,
    }
    console.print(service._moved(moved_scores([bias, moved])))
    assert "DPPL" not in console.file.getvalue()


def test_nothing_captured_is_one_line(model: Path, tmp_path: Path) -> None:
    (tmp_path / "captured").mkdir()
    with pytest.raises(BadInput, match="nothing was captured; see .*serve.log"):
        watch(model, tmp_path, Console(file=io.StringIO()))
