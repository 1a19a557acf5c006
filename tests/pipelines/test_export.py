"""An export, called from Python."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from regrow.data.module import GrowingData
from regrow.deploy.parity import OutputDifference, Parity
from regrow.errors import BadInput
from regrow.files import file_hash
from regrow.models.checkpoint import save
from regrow.models.classification import Classification
from regrow.pipelines.export import add_parity, run_export
from regrow.reporting.report import Report


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Write a network whose classes stand in another order than those of the data."""
    torch.manual_seed(0)
    save(tmp_path / "net.ckpt", Classification(["b", "a"], (16, 16), net_args={"width": 4}))
    return tmp_path / "net.ckpt"


def test_the_score_is_that_of_the_file_in_the_order_of_its_classes(
    tmp_path: Path, data: GrowingData, checkpoint: Path
) -> None:
    run = tmp_path / "run"
    report = run_export(checkpoint, data, run, max_images=5)
    session = onnxruntime.InferenceSession(run / "model.onnx", providers=["CPUExecutionProvider"])
    tests = [item for item in data.snapshot.items if item.split == "test"][:5]
    images = np.stack([np.moveaxis(np.asarray(item.image), -1, 0) for item in tests])
    (given,) = session.run(["probabilities"], {"images": images})
    named = ["ba"[place] for place in given.argmax(1)]
    right = [one == item.target for one, item in zip(named, tests, strict=True)]
    assert report.figures["score"]["value"] == pytest.approx(np.mean(right))
    assert report.figures["classes"] == ["b", "a"]
    assert report.figures["onnx"]["num_images"] == 5
    assert report.figures["parent"] == file_hash(checkpoint)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_images": 0}, "max_images is 0, it must be at least 1, or null for all"),
        ({"tolerance": -0.5}, "tolerance is -0.5, it must lie in [0, 1]"),
        ({"tolerance": float("nan")}, "tolerance is nan, it must lie in [0, 1]"),
        ({"max_score_change": 2}, "max_score_change is 2, it must lie in [0, 1]"),
        (
            {"data": None},
            "{}/data.yaml: not there, so name the data with --config or --data; the data.yaml of "
            "the training can be given to --config",
        ),
        ({"run": "file"}, "{}/file is a file; give another run folder"),
    ],
)
def test_what_cannot_be_used_is_refused_before_a_folder_is_made(
    tmp_path: Path, data: GrowingData, checkpoint: Path, options: dict[str, Any], said: str
) -> None:
    (tmp_path / "file").touch()
    given = {"data": data, "run": "run"} | options
    with pytest.raises(BadInput) as refused:
        run_export(checkpoint, **given | {"run": tmp_path / given["run"]})
    assert str(refused.value) == said.format(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "net.ckpt"]


def test_images_of_another_size_are_refused(
    tmp_path: Path, data: GrowingData, checkpoint: Path
) -> None:
    other = GrowingData(data.source, size=(8, 8), batch_size=8)
    with pytest.raises(BadInput, match=r"is for images of \(16, 16\); set data.size to it$"):
        run_export(checkpoint, other, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("is_equal", "verdict"), [(True, "agrees with"), (False, "does not agree (too far) with")]
)
def test_the_comparison_is_told(tmp_path: Path, is_equal: bool, verdict: str) -> None:
    differences = {"boxes": OutputDifference(0.5, 200.0), "scores": OutputDifference(0.001, 1.0)}
    reason = "" if is_equal else "too far"
    file = tmp_path / "model.onnx"
    parity = Parity(file, is_equal, reason, 0.5, differences, "map", 0.25, 0.75, 12, "CPU")
    report = Report(tmp_path, title="T", command="c", task="detection", classes=["a"])
    add_parity(report, parity)
    page = report.to_markdown()
    assert (
        f"ONNX Runtime (CPU) {verdict} torch on 12 test images: the largest difference is 0.5, "
        "map is 0.2500 there and 0.7500 in torch."
    ) in page
    assert "| boxes | 0.5 | 0.0025 |" in page
    assert "| scores | 0.001 | 0.001 |" in page
    assert report.figures["onnx"]["path"] == "model.onnx"
    assert report.figures["onnx"]["differences"]["boxes"] == {"max_abs": 0.5, "scale": 200.0}
