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
from regrow.errors import BadInput
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.onnx.graph import build_graph, export_graph, in_single_precision, metadata
from regrow.models.onnx.opset import in_opset
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task

TASKS = {
    "labels": lambda: Classification(["ant", "bee"], (32, 32)),
    "boxes": lambda: Detection(["ant", "bee"], (64, 64), net="fcos", score_threshold=0.0),
    "masks": lambda: Segmentation(["ant", "bee"], (32, 32)),
}


@pytest.fixture(scope="module", params=list(TASKS))
def task(request: pytest.FixtureRequest) -> Task:
    torch.manual_seed(0)
    return TASKS[request.param]().eval()


@pytest.fixture(scope="module")
def model(task: Task) -> onnx.ModelProto:
    return build_graph(task)


def images_for(task: Task, count: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (count, 3, *task.size), generator=generator, dtype=torch.uint8)


def run(model: onnx.ModelProto, images: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"images": images}), strict=True))


def opset_of(model: onnx.ModelProto) -> list[int]:
    return [entry.version for entry in model.opset_import if entry.domain == ""]


@pytest.mark.parametrize("opset", [16, 17, 18, 19, 21])
def test_a_file_has_the_operators_asked_for_and_the_same_outputs(
    task: Task, model: onnx.ModelProto, opset: int
) -> None:
    other = in_opset(model, opset)
    assert opset_of(other) == [opset]
    onnx.checker.check_model(other, full_check=True)
    pixels = images_for(task).numpy()
    expected = run(model, pixels)
    for name, found in run(other, pixels).items():
        np.testing.assert_allclose(found, expected[name], atol=1e-4, err_msg=name)


@pytest.mark.parametrize("opset", [-1, 0, 6, 9, 11, 13, 10**6])
def test_operators_that_cannot_be_had_are_refused_with_those_that_can(
    task: Task, model: onnx.ModelProto, opset: int
) -> None:
    with pytest.raises(BadInput, match=rf"opset {opset}: .* it can in \d+ to \d+") as caught:
        in_opset(model, opset)
    low, high = map(int, str(caught.value).rsplit("it can in ", 1)[1].split(" to "))
    assert low <= 18 <= high
    if opset < 18:  # the range is told to its end
        assert opset_of(in_opset(model, low)) == [low]


def test_an_export_of_other_operators_says_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.WARNING):
        path = export_graph(TASKS["labels"]().eval(), tmp_path / "m.onnx", opset=17)
    assert opset_of(onnx.load(path)) == [17]
    assert onnx.load(path).ir_version == 8  # ONNX 1.12, with which opset 17 came
    assert not caplog.records
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_flag_that_changes_what_is_computed_is_not_dropped() -> None:
    # With no axes, the flag makes ReduceMean do nothing, which opset 17 cannot say.
    helper, numbers = onnx.helper, onnx.TensorProto
    node = helper.make_node("ReduceMean", ["x"], ["y"], noop_with_empty_axes=1)
    tensors = [helper.make_tensor_value_info(name, numbers.FLOAT, [2, 2]) for name in "xy"]
    graph = helper.make_graph([node], "g", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    with pytest.raises(BadInput, match="opset 17: .* it can in 18"):
        in_opset(model, 17)


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
    classifier = TASKS["labels"]().eval()
    images = images_for(classifier, 6)
    loader = [(images, torch.tensor([0, 1] * 3))]
    parity = export_verified(classifier, tmp_path, loader, input_type=input_type, opset=17)
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
    half = TASKS["labels"]().eval().to(dtype)
    weights = {name: value.clone() for name, value in half.state_dict().items()}
    pixels = images_for(half)
    found = run(build_graph(half), pixels.numpy())["probabilities"]
    with torch.no_grad():
        single = TASKS["labels"]().eval()
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
    single = TASKS["labels"]()
    assert in_single_precision(single) is single
    double = TASKS["labels"]().double()
    assert in_single_precision(double) is double


def test_detections_of_a_file_with_floats_are_the_tasks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = TASKS["boxes"]().eval()
    images = images_for(task, 2)
    path = export_graph(task, tmp_path / "m.onnx", input_type="float32")
    found = detections(OnnxModel(path)(images))
    with torch.no_grad():
        expected = task.predict(task(images))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours["scores"][:5], theirs["scores"][:5].numpy(), atol=1e-5)
    loader = [(images, [{"boxes": e["boxes"][:3], "labels": e["labels"][:3]} for e in expected])]
    assert check_parity(task, path, loader).is_equal
