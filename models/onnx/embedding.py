"""The embedding of a graph: the features from which its last layers predict, as one more output."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import onnx

from regrow.models.onnx.metadata import EMBEDDING, PREFIX

WEIGHTED = ("Gemm", "MatMul", "Conv")
ENLARGING = ("Resize", "Upsample", "ConvTranspose")
POOLING = ("GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax")
# What may stand between pooling and the layer that reads it.
PASSING = ("Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast")
ROUNDING = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True, slots=True)
class Features:
    """A tensor of features in a graph.

    Args:
        tensor: Its name.
        axis: The axis of the channels: 1 of maps, -1 where they come last.
    """

    tensor: str
    axis: int


def features_of(model: onnx.ModelProto) -> Features | None:
    """Return the features from which a graph predicts, None where there are none of a known kind.

    Of a classifier these are what its last layer reads. Where that is no vector of the whole
    picture, as in detectors and segmenters, it is the widest map that a convolution reads before
    anything is enlarged again, of the same width the last one: as a rule the end of the backbone.

    Args:
        model: The graph; its first input is the images, its first output what it predicts.
    """
    layers = list(weighted_layers(model.graph))
    last = _last_before(model.graph, model.graph.output[0].name, layers)
    if last is not None and _reads_a_vector(model.graph, last):
        return Features(last.input[0], 1 if last.op_type == "Conv" else -1)
    return _widest_map(model.graph, layers)


def with_embedding(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """Return a copy of a graph with one more output, `embedding`; None where it has no features.

    The other outputs stay as they are. The metadata of the copy hold the axis of the channels under
    `regrow.embedding`.

    Args:
        model: The graph.
    """
    found = features_of(model)
    if found is None:
        return None
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    graph.node.append(onnx.helper.make_node("Identity", [found.tensor], [EMBEDDING], EMBEDDING))
    known = onnx.shape_inference.infer_shapes(model).graph.value_info
    graph.output.append(onnx.ValueInfoProto(name=EMBEDDING))
    for own in (own for own in known if own.name == found.tensor):
        graph.output[-1].type.CopyFrom(own.type)
    noted = {entry.key: entry.value for entry in made.metadata_props}
    noted[PREFIX + EMBEDDING] = json.dumps({"axis": found.axis})
    onnx.helper.set_model_props(made, noted)
    return made


def weighted_layers(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that weigh an input by constants: the layers, in the order of the graph."""
    constants = _constants(graph)
    for node in graph.node:
        if node.op_type not in WEIGHTED:
            continue
        if node.input[1] in constants and node.input[0] not in constants:
            yield node


def _constants(graph: onnx.GraphProto) -> set[str]:
    made = {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    made |= {weight.name for weight in graph.initializer}
    return made | {node.output[0] for node in _roundings(graph) if node.input[0] in made}


def _roundings(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that turn INT8 into float: a quantised graph has one behind each weight."""
    yield from (node for node in graph.node if node.op_type == "DequantizeLinear")


def _last_before(
    graph: onnx.GraphProto, output: str, layers: list[onnx.NodeProto]
) -> onnx.NodeProto | None:
    """Return the last layer that an output depends on."""
    needed, by_output = {output}, {layer.output[0]: layer for layer in layers}
    for node in reversed(graph.node):
        if needed & {*node.output}:
            if node.output[0] in by_output:
                return by_output[node.output[0]]
            needed |= {*node.input}
    return None


def _reads_a_vector(graph: onnx.GraphProto, layer: onnx.NodeProto) -> bool:
    """Whether a layer reads one vector a picture and no map."""
    if layer.op_type != "Conv":
        return True
    makers = {name: node for node in graph.node for name in node.output}
    maker = makers.get(layer.input[0])
    while maker is not None and maker.op_type in PASSING + ROUNDING:
        maker = makers.get(maker.input[0])
    return maker is not None and maker.op_type in POOLING


def _widest_map(graph: onnx.GraphProto, layers: list[onnx.NodeProto]) -> Features | None:
    enlarged: set[str] = set()
    for node in graph.node:
        if node.op_type in ENLARGING or enlarged & {*node.input}:
            enlarged |= {*node.output}
    shapes = {weight.name: weight.dims for weight in graph.initializer}
    roundings = [node for node in _roundings(graph) if node.input[0] in shapes]
    shapes |= {node.output[0]: shapes[node.input[0]] for node in roundings}
    images = graph.input[0].name
    widest, found = 0, None
    for layer in layers:
        own = layer.input[0]
        if layer.op_type != "Conv" or own in enlarged or own == images:
            continue
        groups = next((a.i for a in layer.attribute if a.name == "group"), 1)
        width = shapes[layer.input[1]][1] * groups if layer.input[1] in shapes else 0
        if width >= max(widest, 1):
            widest, found = width, Features(own, 1)
    return found
