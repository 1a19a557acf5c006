"""Graphs in the operators that are asked for compute the same, or are refused."""

import numpy as np
import onnx
import onnxruntime
import pytest

from regrow.errors import BadInput
from regrow.models.onnx.opset import in_opset
from regrow.models.task import Task


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
    pixels = task.example_images(3).numpy()
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


def test_a_flag_that_changes_what_is_computed_is_not_dropped() -> None:
    # With no axes, the flag makes ReduceMean do nothing, which opset 17 cannot say.
    helper, numbers = onnx.helper, onnx.TensorProto
    node = helper.make_node("ReduceMean", ["x"], ["y"], noop_with_empty_axes=1)
    tensors = [helper.make_tensor_value_info(name, numbers.FLOAT, [2, 2]) for name in "xy"]
    graph = helper.make_graph([node], "g", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    with pytest.raises(BadInput, match="opset 17: .* it can in 18"):
        in_opset(model, 17)
