"""Graphs in INT8: weights within half a step, the ends and the decoding in float, told errors."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from regrow.errors import BadInput
from regrow.models.classification import Classification
from regrow.models.onnx.graph import build_graph
from regrow.models.onnx.metadata import metadata
from regrow.models.onnx.quantization import check_quantizable, quantized
from regrow.models.task import Task

# The layers that nothing reads but the decoding, by kind, and the one that reads images.
LAST = {"labels": 1, "boxes": 3, "masks": 1}


def batches_for(task: Task, count: int = 4, seed: int = 3) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [draw.integers(0, 256, (2, 3, *task.size), dtype=np.uint8) for _ in range(count)]


def weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}


def layers(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [n for n in model.graph.node if n.op_type in ("Conv", "Gemm")]


def dequantized(model: onnx.ModelProto) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return each INT8 weight in float, and its scales, by the output of its DequantizeLinear."""
    known, found = weights(model), {}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in known:
            numbers, scales, zeros = (known[name] for name in node.input)
            if numbers.dtype == np.int8:
                (axis,) = [a.i for a in node.attribute if a.name == "axis"]
                shape = [-1 if place == axis else 1 for place in range(numbers.ndim)]
                shifted = numbers.astype(np.float64) - zeros.reshape(shape)
                found[node.output[0]] = shifted * scales.reshape(shape), scales.reshape(shape)
    return found


def run(model: onnx.ModelProto, images: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"images": images})


def test_each_weight_is_within_half_a_step_of_its_channel(
    task: Task, model: onnx.ModelProto
) -> None:
    made = quantized(model, batches_for(task))
    known, small = weights(model), dequantized(made.model)
    before = {node.name: known[node.input[1]] for node in layers(model)}
    assert made.num_layers == made.num_quantized == len(before) > 5
    for node in layers(made.model):
        weight, scales = small[node.input[1]]
        assert len(scales.ravel()) == len(before[node.name])
        assert (np.abs(weight - before[node.name]) <= scales / 2 * (1 + 1e-5)).all()
        # Seven of eight bits: no step is smaller than the largest weight's sixty-fourth part.
        assert (np.abs(weight / scales) < 64.5).all()


def test_the_answers_stay_near(task: Task, model: onnx.ModelProto) -> None:
    made, (images, *_) = quantized(model, batches_for(task)).model, batches_for(task, 1, seed=8)
    for output, wanted, found in zip(
        model.graph.output, run(model, images), run(made, images), strict=True
    ):
        if wanted.dtype == np.float32:
            gap, scale = np.abs(wanted - found).max(), max(1, np.abs(wanted).max())
            assert 0 < gap < 0.05 * scale, output.name
    assert weights(made).keys() != weights(model).keys()
    assert made.ByteSize() < 0.4 * model.ByteSize()


def test_the_same_images_make_the_same_file_and_leave_the_graph(
    task: Task, model: onnx.ModelProto
) -> None:
    before = model.SerializeToString()
    one, other = (quantized(model, batches_for(task)).model for _ in range(2))
    assert one.SerializeToString() == other.SerializeToString()
    assert model.SerializeToString() == before
    darker = [batch // 4 for batch in batches_for(task)]
    assert quantized(model, darker).model.SerializeToString() != one.SerializeToString()


def test_the_ends_can_stay_in_float(task: Task, model: onnx.ModelProto) -> None:
    made = quantized(model, batches_for(task), keeps_ends=True)
    known = weights(made.model)
    floats = [node.name for node in layers(made.model) if node.input[1] in known]
    assert len(floats) == 1 + LAST[task.kind] == made.num_layers - made.num_quantized
    first = layers(model)[0]
    assert floats[0] == first.name
    np.testing.assert_array_equal(
        known[layers(made.model)[0].input[1]], weights(model)[first.input[1]]
    )


def test_what_decodes_stays_in_float(task: Task, model: onnx.ModelProto) -> None:
    made = quantized(model, batches_for(task)).model
    makers = {name: node.op_type for node in made.graph.node for name in node.output}
    rounded = {makers[n.input[0]] for n in made.graph.node if n.op_type == "QuantizeLinear"}
    assert "Conv" in rounded
    decoding = {"Softmax", "Exp", "Sqrt", "Sigmoid", "Min", "Sub", "Unsqueeze"}
    assert not rounded & decoding


def test_the_metadata_stay_and_say_the_precision(task: Task, model: onnx.ModelProto) -> None:
    made = quantized(model, batches_for(task)).model
    known = {entry.key: entry.value for entry in made.metadata_props}
    before = {entry.key: entry.value for entry in model.metadata_props}
    assert known == {**before, "regrow.precision": json.dumps("int8")}
    assert metadata(known)["precision"] == "int8"
    assert made.producer_name == "regrow"
    assert made.opset_import[0] == model.opset_import[0]


def test_operators_without_a_kernel_are_counted() -> None:
    task = Classification(["a", "b"], (16, 16), net_args={"width": 4}).eval()
    made = quantized(build_graph(task), batches_for(task))
    # The mean over the map before the last layer.
    assert made.in_float == {"ReduceMean": 1}


def test_a_graph_that_is_quantised_is_refused(task: Task, model: onnx.ModelProto) -> None:
    made = quantized(model, batches_for(task)).model
    with pytest.raises(BadInput, match="quantised already: it has DequantizeLinear, Quantize"):
        quantized(made, batches_for(task))


def test_without_images_nothing_is_quantised(model: onnx.ModelProto) -> None:
    with pytest.raises(BadInput, match=r"^INT8: there are no images to calibrate with"):
        quantized(model, [])


@pytest.mark.parametrize("opset", [14, 17, 20])
def test_other_operators_are_quantised_too(opset: int) -> None:
    torch.manual_seed(0)
    task = Classification(["a", "b"], (16, 16), net_args={"width": 4}).eval()
    model, (images, *_) = build_graph(task, opset=opset), batches_for(task, 1)
    made = quantized(model, batches_for(task)).model
    assert [o.version for o in made.opset_import if o.domain == ""] == [opset]
    np.testing.assert_allclose(run(made, images)[0], run(model, images)[0], atol=0.02)


def small_graph(node: onnx.NodeProto, weight: np.ndarray, opset: int = 18) -> onnx.ModelProto:
    shape = ["batch", 3, 8, 8]
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight.astype(np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def test_a_network_of_other_operators_is_refused_by_their_names() -> None:
    node = helper.make_node("ConvTranspose", ["images", "w"], ["out"])
    model = small_graph(node, np.ones((3, 4, 2, 2)))
    with pytest.raises(BadInput, match="no INT8 kernel .* ConvTranspose; export it in float"):
        quantized(model, [np.ones((1, 3, 8, 8), np.float32)])
    with pytest.raises(BadInput, match="no INT8 kernel .* ConvTranspose; export it in float"):
        check_quantizable(model)


def test_a_network_of_ends_alone_cannot_keep_them() -> None:
    node = helper.make_node("Conv", ["images", "w"], ["out"])
    model = small_graph(node, np.ones((4, 3, 1, 1)))
    check_quantizable(model)
    images = [np.ones((1, 3, 8, 8), np.float32)]
    assert quantized(model, images).num_quantized == 1
    with pytest.raises(BadInput, match="first and last layers only, and these stay in float"):
        quantized(model, images, keeps_ends=True)


def test_operators_that_are_too_old_are_refused() -> None:
    node = helper.make_node("Conv", ["images", "w"], ["out"])
    model = small_graph(node, np.ones((4, 3, 1, 1)), opset=12)
    with pytest.raises(BadInput, match="opset 12 has no scale for each channel; use opset 13 or"):
        quantized(model, [np.ones((1, 3, 8, 8), np.float32)])
