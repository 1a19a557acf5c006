"""A monitor of each task: its baseline is what the server answers, and clean traffic is clean."""

import base64
import io
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from given import Given
from regrow.data.module import GrowingData
from regrow.data.targets.labels import Boxes, Item, Mask, Target
from regrow.deploy.serving.opener import Opener
from regrow.errors import BadInput, CheckFailed
from regrow.models.checkpoint import file_hash
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.onnx.graph import export_graph
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task
from regrow.monitor.files.captures import Body, Event, event_line
from regrow.pipelines.monitor import monitor, predictor, run_baseline, run_monitor
from regrow.pipelines.serve import promoted_model

SIZE, CLASSES, HOUR = (32, 48), ["a", "b", "c"], datetime(2026, 11, 30, 7, tzinfo=UTC)
TASKS = {"labels": Classification, "boxes": Detection, "masks": Segmentation}


def _task(kind: str) -> Task:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task: Task = TASKS[kind](CLASSES, SIZE, net="fcos" if kind == "boxes" else "small").eval()
        if kind == "boxes":
            torch.nn.init.normal_(task.net.cls_logits.weight, std=0.5)
            torch.nn.init.zeros_(task.net.cls_logits.bias)
    return task


def _picture(number: int) -> np.ndarray:
    draw = np.random.default_rng(number)
    small = draw.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((60, 40), Image.Resampling.BICUBIC))


def _target(kind: str, number: int) -> Target:
    if kind == "labels":
        return CLASSES[number % 3]
    if kind == "boxes":
        return Boxes(np.array([[5, 5, 30, 30]], np.float32), (CLASSES[number % 3],))
    return Mask(np.full((40, 60), number % 3, np.uint8), dict(enumerate(CLASSES)))


def _data(kind: str, split: str = "test", count: int = 24) -> GrowingData:
    items = [
        Item(f"{own}{n}", _picture(place + n), _target(kind, n), own)
        for own, number, place in (("train", 3, 900), ("val", 3, 950), (split, count, 0))
        for n in range(number)
        if own != split or place == 0
    ]
    given = Given(items, CLASSES)
    return GrowingData(given, size=SIZE, batch_size=4, test_share=0, val_share=0)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {kind: export_graph(_task(kind), folder / kind / "model.onnx") for kind in TASKS}


def _capture(folder: Path, model: Path, numbers: list[int], change: Callable[..., Any]) -> Path:
    served, _ = Opener(promoted_model).open(model)
    predict, lines = predictor(served), []
    for place, number in enumerate(numbers):
        pixels = change(_picture(number))
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        answer = {"model": served.sha256, "predictions": [predict(pixels)]}
        event = Event(
            f"e{place}",
            HOUR + timedelta(seconds=place),
            Body("image/png", base64.b64encode(file.getvalue()).decode(), "BASE64"),
            Body("application/json", json.dumps(answer), "JSON"),
        )
        lines.append(event_line(event))
    place_ = folder / "2026/11/30/07"
    place_.mkdir(parents=True)
    (place_ / "a.jsonl").write_text("".join(lines))
    return folder


@pytest.mark.parametrize("kind", TASKS)
def test_clean_traffic_is_clean_and_inverted_pictures_warn(
    models: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    baseline = run_baseline(models[kind], tmp_path / "monitor", _data(kind))
    assert baseline.model == file_hash(models[kind])
    assert (baseline.kind, baseline.split, baseline.num_groups) == (kind, "test", 24)
    assert baseline.promise is not None
    prefix = {"labels": "probability of a", "boxes": "boxes of a", "masks": "share of a"}[kind]
    assert prefix in baseline.scores
    captures = _capture(tmp_path / "clean", models[kind], [*range(200, 300)], np.asarray)
    (report,) = run_monitor(tmp_path / "monitor", captures, now="2026-11-30T09:00:00Z")
    assert report["alarms"] == []
    assert report["counts"]["num_pictures"] == 100
    other = tmp_path / "other"
    run_baseline(models[kind], other, _data(kind))
    dark = _capture(tmp_path / "dark", models[kind], [*range(200, 500)], lambda p: p // 4)
    (report,) = run_monitor(
        other, dark, now="2026-11-30T09:00:00Z", false_alarms="1 in 1000 images"
    )
    assert "brightness" in {alarm["name"] for alarm in report["alarms"]}


@pytest.mark.parametrize("kind", TASKS)
def test_the_truths_of_the_model_itself_have_no_loss(
    models: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    """Labels that are the model's own answers: what is compared is in the same coordinates."""
    served, _ = Opener(promoted_model).open(models[kind])
    predict, items = predictor(served), list[Item]()
    for number in range(24):
        found = predict(_picture(number))
        target: Target
        if kind == "labels":
            target = found["label"]
        elif kind == "boxes":
            sure = [one for one in found["objects"] if one["score"] >= 0.3]
            boxes = np.array([one["box"] for one in sure], np.float32).reshape(-1, 4)
            target = Boxes(boxes, tuple(one["label"] for one in sure))
        else:
            mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["mask"]))))
            target = Mask(mask, dict(enumerate(CLASSES)))
        items += [Item(f"{s}{number}", _picture(number + o), target, s) for s, o in _PARTS]
    data = GrowingData(Given(items, CLASSES), size=SIZE, test_share=0, val_share=0)
    baseline = run_baseline(models[kind], tmp_path / "monitor", data)
    assert baseline.promise is not None
    assert baseline.promise.risk == pytest.approx(0, abs=1e-6)


_PARTS = (("train", 1000), ("val", 2000), ("test", 0))


def test_without_test_images_the_validation_split_is_taken_and_said(
    models: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        baseline = run_baseline(models["labels"], tmp_path / "monitor", _data("labels", "val"))
    assert baseline.split == "val"
    assert "the reference is the validation split, which chose the best epoch" in caplog.text


def test_a_large_reference_is_cut_by_names_and_not_by_order(
    models: dict[str, Path], tmp_path: Path
) -> None:
    found = run_baseline(models["labels"], tmp_path / "m", _data("labels"), max_images=20)
    assert found.num_groups == 20
    again = run_baseline(models["labels"], tmp_path / "m", _data("labels"), max_images=20)
    assert again.summary.to_dict() == found.summary.to_dict()
    assert (tmp_path / "m-1" / "baseline.json").is_file()  # the earlier one is moved aside


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"tolerance": 2.0}, "tolerance is 2.0, it must lie in"),
        ({"max_images": 0}, "max_images is 0"),
        ({"split": "val"}, "3 independent pictures, no change could show"),
        ({"data": None}, "so name the data with --config or --data"),
        ({"model": Path("nowhere")}, "nowhere: no such file or folder"),
    ],
)
def test_bad_input_is_one_line(
    models: dict[str, Path], tmp_path: Path, options: dict[str, Any], match: str
) -> None:
    given = {"model": models["labels"], "out": tmp_path / "m", "data": _data("labels")} | options
    if options.get("data", 0) is None:
        (tmp_path / "alone").mkdir()
        given["model"] = Path(tmp_path / "alone" / "model.onnx")
        given["model"].write_bytes(models["labels"].read_bytes())
    with pytest.raises(BadInput, match=match):
        run_baseline(**given)


def test_another_kind_of_data_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="predicts labels, the data has masks"):
        run_baseline(models["labels"], tmp_path / "m", _data("masks"))


def test_a_violation_ends_with_check_failed_each_time(
    models: dict[str, Path], tmp_path: Path
) -> None:
    run_baseline(models["labels"], tmp_path / "m", _data("labels"))
    captures = _capture(tmp_path / "c", models["labels"], [1, 2], lambda p: np.zeros_like(p))
    for _ in range(2):
        with pytest.raises(CheckFailed, match=r"2 violations|1 violation"):
            run_monitor(tmp_path / "m", captures, now="2026-11-30T09:00:00Z")


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ([], "the first word is '', it must be one of baseline, run, report"),
        (["watch"], "the first word is 'watch'"),
        (["run", "nowhere", "--captures=c"], "nowhere: no baseline in it"),
        (["run", ".", "--captures=c", "--now=soon"], "'soon' is no time"),
        (["run", ".", "--captures=c", "--false-alarms=never"], "--false-alarms is 'never'"),
        (["run", ".", "--captures=c", "--block-minutes=0"], "block_minutes is 0"),
        (["report", "nowhere"], "nowhere: no baseline in it"),
    ],
)
def test_words_that_cannot_be_meant_are_one_line(words: list[str], match: str) -> None:
    with pytest.raises(BadInput, match=match):
        monitor(words)
