"""ONNX Runtime and torch are compared, and any difference that counts is seen."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torchmetrics
from torch import Tensor

from regrow.deploy.parity import OutputDifference, check_parity
from regrow.deploy.runtime import OnnxModel, predictions
from regrow.errors import BadInput
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.onnx.graph import export_graph
from regrow.models.segmentation import Segmentation

Loader = list[tuple[Tensor, Tensor]]
Break = Callable[[Path, str, Callable[[np.ndarray], np.ndarray]], Path]


def accuracy(task: Classification, loader: Loader) -> float:
    with torch.no_grad():
        right = [(task(images)["logits"].argmax(1) == labels) for images, labels in loader]
    return float(torch.cat(right).double().mean())


def test_a_faithful_graph_agrees(task: Classification, path: Path, loader: Loader) -> None:
    task.net.stem.train()
    modes = [module.training for module in task.modules()]
    found = check_parity(task, path, loader)
    assert [module.training for module in task.modules()] == modes
    task.eval()
    assert found.is_equal
    assert found.reason == ""
    assert found.num_images == 9
    assert found.path == path
    assert found.max_abs_diff < 1e-5
    assert found.score_name == "accuracy"
    assert found.torch_score == pytest.approx(accuracy(task, loader))
    assert found.score == found.torch_score
    assert 0 < found.score < 1
    assert found.provider in onnxruntime.get_available_providers()


def test_a_changed_weight_is_caught(
    task: Classification, path: Path, loader: Loader, break_: Break
) -> None:
    change = np.zeros((2, 16), np.float32)
    change[0, 0] = 1.0
    found = check_parity(task, break_(path, "head.weight", lambda w: w + change), loader)
    # The same change in torch, by torch alone.
    broken = Classification(task.classes, task.size, net_args={"width": 4}).eval()
    broken.load_state_dict(task.state_dict())
    with torch.no_grad():
        broken.net.head.weight += torch.from_numpy(change)
        gaps = [(task(i)["logits"].softmax(1) - broken(i)["logits"].softmax(1)) for i, _ in loader]
    expected = float(torch.cat(gaps).abs().max())
    assert expected > 1e-3
    assert not found.is_equal
    assert found.max_abs_diff == pytest.approx(expected, abs=1e-5)
    assert found.differences["probabilities"].max_abs == found.max_abs_diff
    assert found.reason.startswith("probabilities differs by ")


def test_a_tiny_change_is_told_by_the_tolerance(
    task: Classification, path: Path, loader: Loader, break_: Break
) -> None:
    break_(path, "head.bias", lambda bias: bias + np.float32([0.002, 0]))
    # A softmax of two moves by at most a quarter of what its logit moves by.
    assert 1e-4 < check_parity(task, path, loader).max_abs_diff <= 0.25 * 0.002 + 1e-6
    assert not check_parity(task, path, loader).is_equal
    assert check_parity(task, path, loader, tolerance=1e-3).is_equal


def test_exchanged_classes_change_the_score(
    task: Classification, path: Path, loader: Loader, break_: Break
) -> None:
    for name in ("head.weight", "head.bias"):
        break_(path, name, lambda rows: rows[::-1].copy())
    right = accuracy(task, loader)
    found = check_parity(task, path, loader, tolerance=1.0)
    assert found.score == pytest.approx(1 - right)
    assert not found.is_equal
    assert found.reason.startswith(f"the score is {1 - right:.4f} in ONNX Runtime and {right:.4f}")
    change = abs(1 - 2 * right) + 1e-6
    assert check_parity(task, path, loader, tolerance=1.0, max_score_change=change).is_equal


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_never_agrees(
    task: Classification, path: Path, loader: Loader, break_: Break, value: float
) -> None:
    break_(path, "head.bias", lambda bias: np.full_like(bias, value))
    found = check_parity(task, path, loader, tolerance=1e9, max_score_change=1.0)
    assert not found.is_equal
    assert found.max_abs_diff == math.inf


def test_another_shape_never_agrees(path: Path, loader: Loader) -> None:
    class Wider(Classification):
        def decode(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"probabilities": super().decode(outputs)["probabilities"][..., None]}

    wider = Wider(["a", "b"], (32, 32), net_args={"width": 4})
    found = check_parity(wider, path, loader, max_score_change=1.0)
    assert not found.is_equal
    assert found.max_abs_diff == math.inf


def test_so_many_images_and_no_more(task: Classification, path: Path, loader: Loader) -> None:
    for most, expected in ((6, 6), (4, 4), (100, 9)):
        assert check_parity(task, path, iter(loader), max_images=most).num_images == expected
    six = [(loader[0]), (loader[1][0][:2], loader[1][1][:2])]
    assert check_parity(task, path, loader, max_images=6).score == pytest.approx(
        accuracy(task, six)
    )


def test_no_images_are_no_comparison(task: Classification, path: Path, loader: Loader) -> None:
    for images, most in (([], None), (loader, 0)):
        with pytest.raises(BadInput, match="no held-out images to compare on"):
            check_parity(task, path, images, max_images=most)


def test_no_other_process_is_asked(
    task: Classification, path: Path, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*given: Any, **options: Any) -> None:
        raise RuntimeError("connection closed by peer")

    monkeypatch.setattr(torchmetrics.metric, "jit_distributed_available", lambda: True)
    monkeypatch.setattr(torchmetrics.metric, "gather_all_tensors", gone)
    assert check_parity(task, path, loader).is_equal


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Classification(["b", "a"], (32, 32)), "its classes are .*'a', 'b'.* the network's .*'b'"),
        (Classification(["a", "b"], (32, 48)), r"its size are \(32, 32\), the .* \(32, 48\)"),
        (Segmentation(["a", "b"], (32, 32)), "its kind are labels, the network's masks"),
    ],
)
def test_the_graph_of_another_network_is_refused(
    path: Path, loader: Loader, other: Any, message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        check_parity(other, path, loader)


def test_a_difference_is_a_share_of_its_scale() -> None:
    assert OutputDifference(0.01, 100.0).relative == pytest.approx(1e-4)


def test_a_detector_is_compared_by_what_it_serves(tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = Detection(["a", "b"], (32, 32)).eval()
    for rows in task.class_rows():  # scores that lie apart, so that their order is certain
        torch.nn.init.normal_(task.net.get_submodule(rows.layer).weight)
    path = export_graph(task, tmp_path / "model.onnx")
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        expected = task.predict(task(images))
    found = predictions(task, OnnxModel(path)(images))
    for ours, theirs in zip(expected, found, strict=True):
        assert len(ours["boxes"]) > 0
        for name in ("boxes", "scores", "labels"):
            torch.testing.assert_close(
                theirs[name].to(ours[name].dtype), ours[name], atol=1e-3, rtol=0
            )
    targets = [{"boxes": i["boxes"][:3], "labels": i["labels"][:3]} for i in expected]
    parity = check_parity(task, path, [(images, targets)])
    assert parity.is_equal, parity.reason
    assert parity.score_name == "map50"
    assert parity.differences.keys() == {"boxes", "scores"}
    stricter = Detection(["a", "b"], (32, 32), score_threshold=0.5)
    with pytest.raises(BadInput, match=r"its thresholds are .*0\.05.* the network's .*0\.5"):
        check_parity(stricter, path, [(images, targets)])


@pytest.mark.parametrize(
    ("side", "thresholds"),
    [
        (32, {"score_threshold": 0.02, "iou_threshold": 0.1, "max_detections": 4}),
        # Scores lie between 0.06 and 0.09.
        (96, {"score_threshold": 0.075, "iou_threshold": 1.0, "max_detections": 1000}),
        # 1,152 scores, of which the 1,000 best are looked at.
        (192, {"score_threshold": 0.0, "iou_threshold": 1.0, "max_detections": 1400}),
    ],
)
def test_a_graph_suppresses_by_the_thresholds_of_its_task(
    tmp_path: Path, side: int, thresholds: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    task = Detection(["a", "b"], (side, side), **thresholds).eval()
    for rows in task.class_rows():
        torch.nn.init.normal_(task.net.get_submodule(rows.layer).weight)
    model = OnnxModel(export_graph(task, tmp_path / "model.onnx"))
    images = task.example_images(2)
    with torch.no_grad():
        expected = task.predict(task(images))
    found = predictions(task, model(images), max_detections=thresholds["max_detections"])
    for ours, theirs in zip(expected, found, strict=True):
        assert len(ours["boxes"]) == len(theirs["boxes"]) > 0
        torch.testing.assert_close(theirs["scores"].float(), ours["scores"], atol=1e-4, rtol=0)


def test_a_file_holds_no_path_of_the_machine_that_wrote_it(path: Path) -> None:
    content = path.read_bytes()
    assert b".py" not in content
    assert str(Path.cwd()).encode() not in content


def test_small_outputs_are_compared_as_they_are(tmp_path: Path, break_: Break) -> None:
    torch.manual_seed(0)
    task = Segmentation(["a", "b"], (32, 32), net_args={"width": 4}).eval()
    torch.nn.init.normal_(task.net.head.weight, std=1e-5)
    torch.nn.init.constant_(task.net.head.bias, 1e-6)
    path = export_graph(task, tmp_path / "model.onnx")
    break_(path, "head.bias", lambda bias: bias + 5e-5)
    images = task.example_images(2)
    # The difference is large beside these logits, and nothing beside 1.
    parity = check_parity(task, path, [(images, torch.zeros(2, 32, 32, dtype=torch.uint8))])
    assert parity.max_abs_diff == pytest.approx(5e-5, rel=0.1)
    assert parity.is_equal


def test_masks_are_compared_by_their_logits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = Segmentation(["a", "b"], (32, 32), net_args={"width": 4}).eval()
    path = export_graph(task, tmp_path / "model.onnx")
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        masks = task(images)["logits"].argmax(1).to(torch.uint8)
    assert torch.equal(predictions(task, OnnxModel(path)(images)), masks)
    parity = check_parity(task, path, [(images, masks)])
    assert parity.is_equal
    assert parity.score == parity.torch_score == 1.0
    assert parity.differences.keys() == {"logits"}
