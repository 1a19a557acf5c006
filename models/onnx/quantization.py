"""Static INT8 quantisation of an exported graph, by ONNX Runtime's own quantiser."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quant_pre_process,
    quantize_static,
)

from regrow.errors import BadInput
from regrow.models.onnx.embedding import weighted_layers
from regrow.models.onnx.metadata import PRECISION, PREFIX

OLDEST = 13  # the first opset with a scale for each channel
# What ONNX Runtime computes in INT8 on CPUs, or passes on as it is.
COMPUTED = {
    "Conv",
    "Gemm",
    "MatMul",
    "Add",
    "Mul",
    "Relu",
    "Clip",
    "LeakyRelu",
    "Sigmoid",
    "Softmax",
}
COMPUTED |= {"AveragePool", "GlobalAveragePool", "Concat", "Where"}
PASSED_ON = {"MaxPool", "Resize", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"}
PASSED_ON |= {"Slice", "Split", "Gather", "Pad"}
QUANTIZERS = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}


@dataclass(frozen=True, slots=True)
class Quantized:
    """A graph in INT8.

    Args:
        model: The graph; its metadata say that it is one, under `regrow.precision`.
        num_layers: Number of layers with weights.
        num_quantized: Number of those whose weights are INT8.
        num_ends: Number of first and last layers.
        in_float: Number of operators between the layers that have no INT8 kernel, by their type.
    """

    model: onnx.ModelProto
    num_layers: int
    num_quantized: int
    num_ends: int
    in_float: Mapping[str, int]


def quantized(
    model: onnx.ModelProto, batches: Iterable[np.ndarray], *, keeps_ends: bool = False
) -> Quantized:
    """Quantise a graph to INT8: from its first layer to its last, with scales from images.

    Weights get a scale for each channel, activations one for each tensor, from the least to the
    most that they are on the images. What stands before the first layers and after the last ones
    stays in float: preparing images and decoding outputs, such as boxes in pixels.

    Weights take 7 of the 8 bits: on CPUs without VNNI, two products of 8 bits each may exceed the
    16 bits of their sum, so that the same file would give other outputs there.

    Args:
        model: The graph, as `regrow.models.onnx.graph.build_graph` makes it; it is not changed.
        batches: Batches of calibration images as the graph takes them, (b, 3, h, w).
        keeps_ends: Whether first and last layers stay in float: those that read images, and those
            that no other layer reads.

    Returns:
        The graph in INT8, a function of graph and images.

    Raises:
        BadInput: If there are no images, the graph is quantised already, its opset is too old, or
            no operator of it has an INT8 kernel.
    """
    plan = _planned(model, keeps_ends)
    waiting = iter(batches)
    one = next(waiting, None)
    if one is None:
        raise BadInput("INT8: there are no images to calibrate with; give the data a train split")
    reader = _Reader(chain([one], waiting), plan.model.graph.input[0].name)
    made = _quantized(plan.model, reader, plan.chosen)
    _describe_(made, model)
    onnx.checker.check_model(made)
    return Quantized(made, plan.num_layers, plan.num_quantized, plan.num_ends, plan.in_float)


def check_quantizable(model: onnx.ModelProto) -> None:
    """Refuse a graph that cannot be quantised, before there is anything to calibrate with.

    Raises:
        BadInput: If it is quantised already, its opset is too old, or no operator of it has an INT8
            kernel.
    """
    _planned(model, keeps_ends=False)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What becomes INT8: a graph whose nodes have names of their own, and the names of some."""

    model: onnx.ModelProto
    chosen: list[str]
    num_layers: int
    num_quantized: int
    num_ends: int
    in_float: Mapping[str, int]


def _planned(model: onnx.ModelProto, keeps_ends: bool) -> _Plan:
    _refuse(model)
    given = onnx.ModelProto()
    given.CopyFrom(model)
    name_nodes_(given.graph)
    layers = [layer.name for layer in weighted_layers(given.graph)]
    inside, first, last = _between(given, set(layers))
    ends = first | last if keeps_ends else set()
    chosen = [n.name for n in inside if n.op_type in COMPUTED | PASSED_ON and n.name not in ends]
    left = Counter(node.op_type for node in inside if node.op_type not in COMPUTED | PASSED_ON)
    num_quantized = len({*chosen} & {*layers})
    if not num_quantized:
        raise BadInput(_nothing_to_quantize(given.graph, keeps_ends and bool(layers)))
    return _Plan(
        given, chosen, len(layers), num_quantized, len(first | last), dict(sorted(left.items()))
    )


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Calibration images, as the quantiser asks for them."""

    def __init__(self, batches: Iterable[np.ndarray], name: str) -> None:
        self.batches, self.name = iter(batches), name

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch by the name of the input; None after the last."""
        batch = next(self.batches, None)
        return None if batch is None else {self.name: batch}


def _quantized(model: onnx.ModelProto, reader: _Reader, nodes: list[str]) -> onnx.ModelProto:
    with TemporaryDirectory(prefix="regrow-int8-") as folder:
        ready, made = Path(folder) / "ready.onnx", Path(folder) / "int8.onnx"
        quant_pre_process(model, ready, skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            ready,
            made,
            reader,
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=nodes,
        )
        return onnx.load(made)


def _refuse(model: onnx.ModelProto) -> None:
    found = sorted({node.op_type for node in model.graph.node} & QUANTIZERS)
    if found:
        raise BadInput(f"INT8: the graph is quantised already: it has {', '.join(found)}")
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if opset < OLDEST:
        raise BadInput(
            f"INT8: opset {opset} has no scale for each channel; use opset {OLDEST} or later"
        )


def name_nodes_(graph: onnx.GraphProto) -> None:
    """Give each node a name of its own, in place: the quantiser is told nodes by name."""
    taken = Counter(node.name for node in graph.node)
    for place, node in enumerate(graph.node):
        if not node.name or taken[node.name] > 1:
            node.name = f"{node.op_type}_{place}_of_all"


def _between(
    model: onnx.ModelProto, layers: set[str]
) -> tuple[list[onnx.NodeProto], set[str], set[str]]:
    """Return the nodes from the first layers to the last, and the names of those layers."""
    nodes, known = list(model.graph.node), onnx.shape_inference.infer_shapes(model).graph
    after, first = _reached([(n.name, {*n.input}, {*n.output}) for n in nodes], layers)
    before, last = _reached([(n.name, {*n.output}, {*n.input}) for n in reversed(nodes)], layers)
    types = {value.name: value.type.tensor_type.elem_type for value in known.value_info}
    floats = {name for name, number in types.items() if number == onnx.TensorProto.FLOAT}
    between = [node for node in nodes if node.name in after & before]
    return [n for n in between if {*n.output} & floats or n.name in layers], first, last


def _reached(
    nodes: Iterable[tuple[str, set[str], set[str]]], layers: set[str]
) -> tuple[set[str], set[str]]:
    """Return the nodes that are layers or depend on some, and the layers that depend on none.

    Args:
        nodes: Name, tensors that it depends on and tensors that depend on it, each node after those
            that it depends on.
        layers: The names of the layers.
    """
    tensors: set[str] = set()  # that depend on a layer
    reached, ends = set(), set()
    for name, sources, results in nodes:
        depends = bool(tensors & sources)
        if name in layers and not depends:
            ends.add(name)
        if name in layers or depends:
            reached.add(name)
            tensors |= results
    return reached, ends


def _nothing_to_quantize(graph: onnx.GraphProto, has_ends_only: bool) -> str:
    if has_ends_only:
        return "INT8: the network has first and last layers only, and these stay in float"
    constants = {weight.name for weight in graph.initializer if len(weight.dims) > 1}
    weighing = sorted({node.op_type for node in graph.node if constants & {*node.input}})
    return (
        f"INT8: ONNX Runtime has no INT8 kernel for what the network weighs with: "
        f"{', '.join(weighing) or 'nothing'}; export it in float"
    )


def _describe_(made: onnx.ModelProto, model: onnx.ModelProto) -> None:
    """Give a graph the metadata of the one it was made from, and its precision."""
    made.producer_name, made.producer_version = model.producer_name, model.producer_version
    noted = {entry.key: entry.value for entry in model.metadata_props}
    noted[PREFIX + PRECISION] = json.dumps("int8")
    onnx.helper.set_model_props(made, noted)
