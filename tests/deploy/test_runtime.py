"""An exported model is run, and its detections are gathered, as the standard and arithmetic say."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor

from regrow.deploy.runtime import OnnxModel, default_providers, detections, predictions
from regrow.errors import BadInput
from regrow.models.classification import Classification

Loader = list[tuple[Tensor, Tensor]]


def test_the_file_computes_what_the_standard_says(path: Path, loader: Loader) -> None:
    model = OnnxModel(path, num_threads=1)
    reference = ReferenceEvaluator(str(path))
    for images in (loader[0][0], loader[-1][0]):
        (expected,) = reference.run(["probabilities"], {"images": images.numpy()})
        for given in (images, images.numpy()):
            np.testing.assert_allclose(model(given)["probabilities"], expected, atol=1e-5)


def test_the_file_says_what_it_is(path: Path) -> None:
    model = OnnxModel(path)
    assert (model.classes, model.kind, model.size) == (["a", "b"], "labels", (32, 32))
    assert model.outputs == ["probabilities"]
    assert model.suppression == {}


def test_what_is_no_model_of_ours_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no\.onnx: no such file"):
        OnnxModel(tmp_path / "no.onnx")
    (tmp_path / "torn.onnx").write_bytes(path.read_bytes()[:500])
    with pytest.raises(BadInput, match=r"torn\.onnx: ONNX Runtime cannot load it"):
        OnnxModel(tmp_path / "torn.onnx")
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)
    with pytest.raises(BadInput, match="has no class names, so regrow did not write it"):
        OnnxModel(path)


@pytest.mark.parametrize(
    ("has_gpu", "built", "expected"),
    [(True, True, 2), (True, False, 1), (False, True, 1)],
)
def test_cuda_is_taken_where_both_have_it(
    monkeypatch: pytest.MonkeyPatch, has_gpu: bool, built: bool, expected: int
) -> None:
    cpu = "CPUExecutionProvider"
    available = ["CUDAExecutionProvider", cpu] if built else [cpu]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    found = default_providers()
    assert len(found) == expected
    assert found[-1] == cpu
    if expected == 2:
        assert found[0] == ("CUDAExecutionProvider", {"use_tf32": "0"})


def test_detections_are_gathered_as_worked_by_hand() -> None:
    boxes = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    scores = np.array(
        [[[0.1, 0.9, 0.3], [0.8, 0.2, 0.7]], [[0.5, 0.4, 0.6], [0.0, 0.0, 0.0]]], np.float32
    )
    # Image, class, box: out of order, as a runtime may give them.
    selected = np.array([[0, 1, 2], [1, 0, 0], [0, 0, 1], [0, 1, 0]])
    outputs = {"boxes": boxes, "scores": scores, "selected": selected}
    first, second = detections(outputs)
    np.testing.assert_allclose(first["scores"], [0.9, 0.8, 0.7])
    assert first["labels"].tolist() == [0, 1, 1]
    np.testing.assert_array_equal(first["boxes"], boxes[0, [1, 0, 2]])
    assert second["boxes"].tolist() == [[12, 13, 14, 15]]
    assert [len(image["scores"]) for image in detections(outputs, max_detections=2)] == [2, 1]
    nothing = detections(outputs | {"selected": np.zeros((0, 3), np.int64)})
    assert [image["boxes"].shape for image in nothing] == [(0, 4), (0, 4)]


def test_predictions_are_the_tasks_own_where_nothing_is_suppressed(task: Classification) -> None:
    given = np.array([[0.25, 0.75]], np.float32)
    assert predictions(task, {"probabilities": given}).tolist() == [[0.25, 0.75]]
