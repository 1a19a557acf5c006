"""ONNX files in the operators, the input and the precision that are asked for."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from regrow.deploy.exporting import export_verified
from regrow.deploy.parity import check_parity
from regrow.deploy.runtime import OnnxModel, detections, metadata_of
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.onnx.graph import build_graph, export_graph, in_single_precision
from regrow.models.onnx.metadata import metadata
from regrow.models.task import Task


def classifier() -> Classification:
    return Classification(["ant", "bee"], (32, 32))


def images_for(task: Task, count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (count, 3, *task.size), generator=generator, dtype=torch.uint8)


def run(model: onnx.ModelProto, images: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images}), strict=True))


def opset_of(model: onnx.ModelProto) -> list[int]:
    return [entry.version for entry in model.opset_import if entry.domain == ""]


def test_an_export_of_other_operators_says_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.WARNING):
        path = export_graph(classifier().eval(), tmp_path / "m.onnx", opset=17)
    assert opset_of(onnx.load(path)) == [17]
    assert onnx.load(path).ir_version == 8  # ONNX 1.12, with which opset 17 came
    assert not caplog.records
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_file_may_take_floats_and_computes_the_same(task: Task, tmp_path: Path) -> None:
    images = images_for(task)
    path = export_graph(task, tmp_path / "m.onnx", input_type="float32")
    (given,) = onnx.load(path).graph.input
    assert given.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    raw = onnxruntime.InferenceSession(str(path)).run(
        None, {"images": images.numpy().astype(np.float32) / np.float32(255)}
    )
    with torch.no_grad():
        expected = task.decode(task(images))
    for name, found in zip(OnnxModel(path).outputs, raw, strict=True):
        if name != "selected":
            np.testing.assert_allclose(found, expected[name].numpy(), atol=2e-3, err_msg=name)
    # The same through what a user calls, which takes bytes whatever the file takes.
    by_bytes = OnnxModel(path)(images)
    assert all(np.array_equal(by_bytes[n], r) for n, r in zip(by_bytes, raw, strict=True))
    assert metadata_of(path)["input"]["range"] == [0, 1]


@pytest.mark.parametrize("input_type", ["uint8", "float32"])
def test_parity_is_verified_with_either_input(tmp_path: Path, input_type: Any) -> None:
    torch.manual_seed(0)
    net = classifier().eval()
    images = images_for(net, 6)
    loader = [(images, torch.tensor([0, 1] * 3))]
    parity = export_verified(net, tmp_path, loader, input_type=input_type, opset=17)
    assert parity.is_equal
    assert parity.num_images == 6
    assert metadata_of(parity.path)["opset"] == 17


def test_the_file_says_how_it_is_fed_and_read(task: Task, model: onnx.ModelProto) -> None:
    known = metadata({entry.key: entry.value for entry in model.metadata_props})
    assert known["input"]["name"] == model.graph.input[0].name
    assert (known["input"]["type"], known["input"]["colors"]) == ("uint8", "RGB")
    assert known["input"]["shape"] == ["batch", 3, *task.size]
    assert known["input"]["range"] == [0, 255]
    assert "antialiased" in known["input"]["resize"]
    assert known["outputs"].keys() == {output.name for output in model.graph.output}
    assert known["classes"] == ["ant", "bee"]
    json.dumps(known)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_network_in_half_precision_is_exported_in_single(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    half = classifier().eval().to(dtype)
    weights = {name: value.clone() for name, value in half.state_dict().items()}
    pixels = images_for(half)
    found = run(build_graph(half), pixels.numpy())["probabilities"]
    with torch.no_grad():
        single = classifier().eval()
        single.net.load_state_dict(half.net.state_dict())
        single.mean, single.std = half.mean.float(), half.std.float()
        expected = single.decode(single(pixels))["probabilities"]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    # The network itself stays as it was.
    assert half.mean.dtype == dtype
    for name, value in half.state_dict().items():
        assert torch.equal(value, weights[name])
        assert value.dtype == weights[name].dtype


def test_what_is_in_single_or_double_precision_is_not_copied() -> None:
    single = classifier()
    assert in_single_precision(single) is single
    double = classifier().double()
    assert in_single_precision(double) is double


def test_detections_of_a_file_with_floats_are_the_tasks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = Detection(["ant", "bee"], (64, 64), net="fcos", score_threshold=0.0).eval()
    images = images_for(task, 2)
    path = export_graph(task, tmp_path / "m.onnx", input_type="float32")
    found = detections(OnnxModel(path)(images))
    with torch.no_grad():
        expected = task.predict(task(images))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours["scores"][:5], theirs["scores"][:5].numpy(), atol=1e-5)
    loader = [(images, [{"boxes": e["boxes"][:3], "labels": e["labels"][:3]} for e in expected])]
    assert check_parity(task, path, loader).is_equal
