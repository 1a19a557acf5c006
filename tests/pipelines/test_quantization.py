"""Exports in INT8: what is reported is what the files give, and the budget decides about them."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from quantised import SIZE, accuracy, data_of, made_images, unbalance_

from given import Given
from regrow.data.module import GrowingData
from regrow.data.targets.labels import Item
from regrow.errors import BadInput, CheckFailed
from regrow.metrics.budget import Budget
from regrow.models.checkpoint import save
from regrow.models.classification import Classification
from regrow.pipelines.export import run_export
from regrow.pipelines.quantization import (
    Calibration,
)


@pytest.fixture
def task() -> Classification:
    torch.manual_seed(0)
    task = Classification(["a", "b"], SIZE, net_args={"width": 4}).eval()
    with torch.no_grad():
        task.net.head.weight.mul_(20)
    return task


@pytest.fixture
def checkpoint(tmp_path: Path, task: Classification) -> Path:
    save(tmp_path / "net.ckpt", task)
    return tmp_path / "net.ckpt"


def test_the_report_says_what_the_files_give(
    task: Classification, checkpoint: Path, tmp_path: Path
) -> None:
    data, run = data_of(task), tmp_path / "run"
    budget = Budget(max_drop=0.3)
    figures = run_export(
        checkpoint, data, run, int8=True, budget=budget, reference=checkpoint
    ).figures
    for name, file in {"int8": "model.onnx", "float": "model.float.onnx"}.items():
        own = figures["int8"][name]
        assert own["score"] == pytest.approx(accuracy(run / file, data))
        assert own["bytes"] == (run / file).stat().st_size
        assert own["latency_ms"] > 0
    assert figures["score"]["value"] == figures["int8"]["int8"]["score"]
    assert figures["int8"]["float"]["score"] == 1
    assert figures["int8"]["int8"]["budget"] is None
    # The unpruned network is the same one here, and so is the verdict.
    for name in ("float", "unpruned"):
        assert figures["int8"][name]["budget"]["is_met"] is True
        assert figures["int8"][name]["budget"]["num_images"] == 60
    operators = {node.op_type for node in onnx.load(run / "model.onnx").graph.node}
    assert "QuantizeLinear" in operators
    assert sorted(f.name for f in run.glob("*.onnx")) == ["model.float.onnx", "model.onnx"]
    assert figures["onnx"]["path"] == "model.float.onnx"
    assert figures["int8"]["calibration"] == {"num_images": 24, "classes": ["a", "b"]}
    page = (run / "report.md").read_text()
    assert "From the float network to INT8, accuracy went from 1.0000 to" in page
    assert "| unpruned | 1 |" in page
    assert "10 of 10 layers are INT8" in page
    assert "INT8 was calibrated on 24 training images." in page


def test_a_broken_budget_leaves_no_model(
    task: Classification, checkpoint: Path, tmp_path: Path
) -> None:
    unbalance_(task)
    save(checkpoint, task)
    data, run = data_of(task), tmp_path / "run"
    with pytest.raises(CheckFailed, match=r"budget of 0.01 is broken by INT8 on 60 test images: "):
        run_export(checkpoint, data, run, int8=True)
    assert accuracy(run / "model.float.onnx", data) == 1
    assert accuracy(run / "model.unverified.onnx", data) < 0.95
    assert not (run / "model.onnx").exists()
    page = (run / "report.md").read_text()
    assert "The budget is broken." in page


def test_too_few_images_leave_it_undecided(
    task: Classification, checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, run = data_of(task, num_tests=8), tmp_path / "run"
    with caplog.at_level(logging.INFO, "regrow"):
        figures = run_export(checkpoint, data, run, int8=True, calibration_images=4).figures
    assert figures["int8"]["float"]["budget"]["is_met"] == "undecided"
    assert "Whether the budget of 1 point is met is undecided: 8 test images" in caplog.text
    assert (run / "model.onnx").is_file()
    assert figures["int8"]["calibration"]["num_images"] == 4


def test_calibration_images_are_drawn_by_seed_and_not_augmented(task: Classification) -> None:
    data = data_of(task)
    data.augment = [torch.nn.Identity()]  # never called: it is no transform of images
    one, same, other = (Calibration(data, 16, seed) for seed in (0, 0, 1))
    assert one.indices == same.indices != other.indices
    assert len(set(one.indices)) == 16
    trained = [np.asarray(i.image) for i in data.snapshot.items if i.split == "train"]
    for index in one.indices:
        image, _ = one.examples[(0, index)]
        np.testing.assert_array_equal(image.movedim(0, -1).numpy(), trained[index])
    assert len(Calibration(data, 1000, 0).indices) == 24


def test_images_of_one_class_are_refused(task: Classification) -> None:
    images = made_images(12, 0)
    items = [Item(f"{n}", image, "a", "train") for n, image in enumerate(images[:6])]
    items += [Item(f"{n}", images[n], "ab"[n % 2], ("val", "test")[n > 8]) for n in range(6, 12)]
    data = GrowingData(Given(items), size=SIZE, batch_size=8)
    said = r"^INT8: the 6 training images to calibrate on show a alone, .*; give the data training"
    with pytest.raises(BadInput, match=said):
        Calibration(data, 256, 0)
    said = (
        r"^INT8: the 1 training image to calibrate on show \w alone, .*; raise calibration_images"
    )
    with pytest.raises(BadInput, match=said):
        Calibration(data_of(task), 1, 0)


def test_data_without_training_images_is_refused(
    task: Classification, checkpoint: Path, tmp_path: Path
) -> None:
    items = [Item(f"{n}", i, "ab"[n % 2], "test") for n, i in enumerate(made_images(6, 0))]
    data = GrowingData(Given(items), size=SIZE, batch_size=8)
    with pytest.raises(BadInput, match="no train images in it"):
        run_export(checkpoint, data, tmp_path / "run", int8=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"budget": Budget(0.02)}, "budget has no say without --int8, of which it judges"),
        ({"reference": Path("a.ckpt")}, "reference has no say without --int8, of which it judges"),
        ({"int8": True, "calibration_images": 0}, "calibration_images is 0, it must be at least 1"),
    ],
)
def test_options_that_cannot_be_used_are_refused(
    task: Classification, checkpoint: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput, match=f"^{said}"):
        run_export(checkpoint, data_of(task), tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_what_is_exported_already_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"model\.onnx is an ONNX file: it is exported already, and"):
        run_export(tmp_path / "model.onnx", run=tmp_path / "run", int8=True)


def test_another_network_s_classes_are_refused(
    task: Classification, checkpoint: Path, tmp_path: Path
) -> None:
    other = Classification(["b", "a"], SIZE, net_args={"width": 4})
    save(tmp_path / "other.ckpt", other)
    with pytest.raises(BadInput, match=r"other\.ckpt has other classes than .*net\.ckpt"):
        run_export(
            checkpoint,
            data_of(task),
            tmp_path / "run",
            int8=True,
            reference=tmp_path / "other.ckpt",
        )


def test_images_that_were_seen_decide_nothing(
    task: Classification, checkpoint: Path, tmp_path: Path
) -> None:
    items = [
        Item(f"{split}{n}", image, "ab"[n % 2], split)
        for split in ("train", "val", "test")
        for n, image in enumerate(made_images(6, 0))
    ]
    data = GrowingData(Given(items), size=SIZE, batch_size=8)
    with pytest.raises(BadInput, match="accept_seen"):
        run_export(checkpoint, data, tmp_path / "run", int8=True)
