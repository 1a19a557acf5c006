"""What a pruning run exports in INT8: judged beside the unpruned network in float."""

import json
import logging
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from quantised import SIZE, accuracy, data_of, made_images, unbalance_

from regrow.data.module import GrowingData
from regrow.errors import BadInput, CheckFailed
from regrow.files import file_hash
from regrow.metrics.budget import Budget
from regrow.models.checkpoint import load, save
from regrow.models.classification import Classification
from regrow.models.cost import count_macs
from regrow.models.latency import Clock
from regrow.pipelines.prune import run_pruning
from regrow.pipelines.pruning import exports
from regrow.prune.selection import Selection
from regrow.prune.target import Target
from regrow.training.fit import Fit

QUICK: dict[str, Any] = {
    "search": None,
    "clock": Clock(runtime="torch", rounds=1),
    "num_steps": 1,
    "budget": Budget(0.5),
    "target": Target(macs=0.9),
    "selection": Selection(round_to=1, only=["two.1.first"]),
    "recovery": Fit(epochs=0, devices=1),
}


@pytest.fixture
def task() -> Classification:
    """Return a network half of whose channels in one layer give zero, so that they may go."""
    torch.manual_seed(0)
    task = Classification(["a", "b"], SIZE, net_args={"width": 4})
    with torch.no_grad():
        task.net.head.weight.mul_(20)
        norm = task.net.two[1].first[1]
        norm.weight[:4] = norm.bias[:4] = 0
        for part in task.net.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.momentum = None  # statistics are those of the training images
        images = np.stack(made_images(24, 0))
        task(torch.from_numpy(images).movedim(-1, 1))
    return task.eval()


@pytest.fixture
def checkpoint(tmp_path: Path, task: Classification) -> Path:
    save(tmp_path / "net.ckpt", task)
    return tmp_path / "net.ckpt"


def test_the_pruned_network_is_judged_in_int8_too(
    task: Classification, checkpoint: Path, tmp_path: Path
) -> None:
    data, run = data_of(task), tmp_path / "run"
    figures = run_pruning(checkpoint, data, int8=True, run=run, **QUICK).figures
    found = figures["int8"]
    # The data is what the unpruned network gets right.
    assert found["unpruned"]["score"] == figures["before"]["score"] == 1
    assert found["float"]["score"] == pytest.approx(accuracy(run / "model.float.onnx", data))
    assert found["int8"]["score"] == pytest.approx(accuracy(run / "model.onnx", data))
    for name, file in {"int8": "model.onnx", "float": "model.float.onnx"}.items():
        assert found[name]["bytes"] == (run / file).stat().st_size
    assert found["int8"]["bytes"] < found["float"]["bytes"] < found["unpruned"]["bytes"]
    shapes = {tuple(w.dims) for w in onnx.load(run / "model.float.onnx").graph.initializer}
    pruned = load(run / "pruned.ckpt").net
    assert tuple(pruned.two[1].first[0].weight.shape) == (4, 8, 3, 3)
    assert (4, 8, 3, 3) in shapes
    # Of images that the unpruned network all gets right, those that INT8 gets wrong are the loss.
    low, high = found["unpruned"]["budget"]["interval"]
    assert low < found["int8"]["score"] - 1 < high or found["int8"]["score"] == 1
    assert found["unpruned"]["budget"]["num_images"] == 60
    assert figures["score"]["value"] == figures["after"]["score"], "of the network in float"
    assert sorted(f.name for f in run.glob("*.onnx")) == ["model.float.onnx", "model.onnx"]
    page = (run / "report.md").read_text()
    assert "From the unpruned network to INT8, accuracy went from 1.0000 to" in page
    rows = [line.split(" | ")[0] for line in page.partition("## INT8")[2].splitlines()[4:9]]
    assert [row.strip("| ") for row in rows][2:] == ["unpruned", "float", "INT8"]


def test_a_budget_that_int8_alone_breaks_fails_the_run_and_loses_nothing(
    task: Classification, checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unbalance_(task)
    save(checkpoint, task)
    data, run = data_of(task), tmp_path / "run"
    options = QUICK | {"budget": Budget(0.25)}
    with (
        caplog.at_level(logging.INFO, "regrow"),
        pytest.raises(CheckFailed, match=r"budget of 0\.25 is broken by INT8 on 60 test images: "),
    ):
        run_pruning(checkpoint, data, int8=True, run=run, **options)
    figures = json.loads((run / "report.json").read_text())
    assert figures["budget"]["is_met"] is True
    assert figures["int8"]["unpruned"]["budget"]["is_met"] is False
    assert not (run / "model.onnx").exists()
    assert (run / "pruned.ckpt").is_file()
    assert "From unpruned: The budget is broken." in caplog.text
    assert not (run / "progress.ckpt").exists()


def test_a_pruned_network_is_fine_tuned_where_int8_breaks_it(
    task: Classification, checkpoint: Path, tmp_path: Path
) -> None:
    """One that no fine-tuning saves: both decisions count, and all files stay."""
    unbalance_(task)
    save(checkpoint, task)
    data, run = data_of(task), tmp_path / "run"
    options = QUICK | {"budget": Budget(0.25), "int8": True, "qat_epochs": 2, "qat_lr": 1e-4}
    with pytest.raises(CheckFailed, match=r"broken by INT8 .* before fine-tuning; see "):
        run_pruning(checkpoint, data, run=run, **options)
    found = json.loads((run / "report.json").read_text())["int8"]
    files = ["model.float.onnx", "model.tuned.unverified.onnx", "model.unverified.onnx"]
    assert sorted(file.name for file in run.glob("*.onnx")) == files
    assert found["int8"]["score"] == pytest.approx(accuracy(run / files[1], data))
    before = found["before_fine_tuning"]["int8"]
    assert before["score"] == pytest.approx(accuracy(run / files[2], data))
    pruned, tuned = load(run / "pruned.ckpt"), load(run / "int8.ckpt")
    assert count_macs(tuned) == count_macs(pruned) < count_macs(task)
    assert tuned.provenance.parent == file_hash(run / "pruned.ckpt")
    assert not tuned.net.head.weight.equal(pruned.net.head.weight)
    with pytest.raises(BadInput, match="qat_epochs has no say without int8"):
        run_pruning(checkpoint, data, run=run, **options | {"int8": False})


def test_each_point_of_a_front_has_its_int8(
    task: Classification, checkpoint: Path, tmp_path: Path
) -> None:
    data, run = data_of(task), tmp_path / "run"
    options = {**QUICK, "target": Target(), "budget": Budget(1.0)}
    report = run_pruning(checkpoint, data, targets=[0.95, 0.9], int8=True, run=run, **options)
    points = report.figures["points"]
    for point, name in zip(points, ("0.95", "0.9"), strict=True):
        file = run / name / "model.onnx"
        assert point["int8"]["score"] == pytest.approx(accuracy(file, data))
        assert point["int8"]["bytes"] == file.stat().st_size
        # The unpruned network gets all images right.
        assert point["int8"]["change"] == pytest.approx(accuracy(file, data) - 1)
    assert points[0]["int8"]["bytes"] > points[1]["int8"]["bytes"]
    table = (run / "report.md").read_text().partition("## INT8")[2]
    assert "\n| 0.95 | " in table
    assert "\n| 0.9 | " in table


def test_a_run_that_is_stopped_in_int8_goes_on(
    task: Classification, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = data_of(task), tmp_path / "run"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    original = exports.quantize_verified
    monkeypatch.setattr(exports, "quantize_verified", stop)
    with pytest.raises(KeyboardInterrupt):
        run_pruning(checkpoint, data, int8=True, run=run, **QUICK)
    monkeypatch.setattr(exports, "quantize_verified", original)
    figures = run_pruning(checkpoint, data, int8=True, run=run, resume=True, **QUICK).figures
    assert figures["int8"]["int8"]["score"] == pytest.approx(accuracy(run / "model.onnx", data))
    assert figures["after"]["macs"] == count_macs(load(run / "pruned.ckpt"))


def test_int8_is_timed_by_a_clock_of_the_users(
    task: Classification, checkpoint: Path, tmp_path: Path
) -> None:
    """One that counts bytes, and takes images of float32 alone."""
    data, run = data_of(task), tmp_path / "run"
    code = shlex.quote("import os, sys; print(os.path.getsize(sys.argv[1]) / 1000)")
    command = f"{shlex.quote(sys.executable)} -ISc {code} {{onnx}}"
    options = QUICK | {"clock": Clock(command=command, runs=2, input_type="float32")}
    figures = run_pruning(checkpoint, data, int8=True, run=run, **options).figures["int8"]
    page = (run / "report.md").read_text()
    assert {i.type.tensor_type.elem_type for i in onnx.load(run / "model.onnx").graph.input} == {1}
    for name, file in {"int8": "model.onnx", "float": "model.float.onnx"}.items():
        own = figures[name]
        assert own["times"] == [own["latency_ms"]] * 2
        assert own["latency_ms"] == pytest.approx((run / file).stat().st_size / 1000, abs=0.2)
    assert "run 2 times on each file, in turns: for INT8 from" in page
    assert "No run of one network is within those of the other." in page


class Transposed(torch.nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.up = torch.nn.ConvTranspose2d(3, num_classes, 2, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.up(images).mean((2, 3))


def test_what_int8_cannot_do_is_refused_before_any_work(
    task: Classification, checkpoint: Path, tmp_path: Path, data: GrowingData
) -> None:
    run = tmp_path / "run"
    with pytest.raises(BadInput, match="calibration_images is 0, it must be at least 1"):
        run_pruning(checkpoint, data, int8=True, calibration_images=0, run=run, **QUICK)
    with pytest.raises(BadInput, match="the 1 training image to calibrate on show . alone"):
        run_pruning(checkpoint, data, int8=True, calibration_images=1, run=run, **QUICK)
    own = Classification(["a", "b"], SIZE, net=f"{__name__}.Transposed")
    save(checkpoint, own)
    with pytest.raises(BadInput, match="no INT8 kernel for what the network weighs with: ConvT"):
        run_pruning(checkpoint, data, int8=True, run=run, allow=[own.net_package], **QUICK)
    assert not run.exists()


def test_without_int8_the_file_is_in_float(
    task: Classification, checkpoint: Path, tmp_path: Path
) -> None:
    data, run = data_of(task), tmp_path / "run"
    figures = run_pruning(checkpoint, data, export=True, run=run, **QUICK).figures
    assert "int8" not in figures
    assert [file.name for file in run.glob("*.onnx")] == ["model.onnx"]
    kinds = {w.data_type for w in onnx.load(run / "model.onnx").graph.initializer}
    assert onnx.TensorProto.INT8 not in kinds
    assert np.isclose(accuracy(run / "model.onnx", data), figures["after"]["score"])
