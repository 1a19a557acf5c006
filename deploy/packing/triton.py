"""Triton's configuration of a model: `config.pbtxt`, read off its ONNX graph.

Source: Triton Inference Server, `docs/user_guide/model_configuration.md`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import onnx

MAX_BATCH = 8
# Where Triton's name of a type is not that of ONNX.
TYPES = {"FLOAT": "FP32", "DOUBLE": "FP64", "FLOAT16": "FP16", "BFLOAT16": "BF16"}


@dataclass(frozen=True, slots=True)
class Port:
    """An input or an output of a graph.

    Args:
        name: Its name.
        type: Its type, as Triton names it.
        shape: Its dimensions: a number, or the name of a free one.
    """

    name: str
    type: str
    shape: tuple[int | str, ...]


def config_pbtxt(name: str, graph: onnx.GraphProto) -> str:
    """Return the text of `config.pbtxt` for a graph.

    Requests are batched where each output has one row an image. A detector's `selected` has one a
    detection, so Triton could not tell whose they are: there a client's own batch is run as it is.

    Args:
        name: The name of the model, which is that of its folder.
        graph: The graph.
    """
    inputs, outputs = _ports(graph.input), _ports(graph.output)
    first = {port.shape[:1] for port in (*inputs, *outputs)}
    is_batched = len(first) == 1 and _is_free(next(iter(first)))
    lines = [
        f"name: {json.dumps(name)}",
        'platform: "onnxruntime_onnx"',
        f"max_batch_size: {MAX_BATCH if is_batched else 0}",
        *_block("input", inputs, is_batched),
        *_block("output", outputs, is_batched),
    ]
    if is_batched:
        # What waits runs together, and nothing waits for others.
        lines.append("dynamic_batching { max_queue_delay_microseconds: 0 }")
    return "\n".join(lines) + "\n"


def _is_free(first: tuple[int | str, ...]) -> bool:
    """Whether a first dimension is free by a name, so that two of that name are the same."""
    return bool(first) and isinstance(first[0], str) and bool(first[0])


def _ports(values: Sequence[onnx.ValueInfoProto]) -> list[Port]:
    return [
        Port(
            value.name,
            _type_of(value.type.tensor_type.elem_type),
            tuple(
                dim.dim_value if dim.HasField("dim_value") else dim.dim_param
                for dim in value.type.tensor_type.shape.dim
            ),
        )
        for value in values
    ]


def _type_of(number: int) -> str:
    name = onnx.TensorProto.DataType.Name(number)
    return f"TYPE_{TYPES.get(name, name)}"


def _block(kind: str, ports: Sequence[Port], is_batched: bool) -> list[str]:
    """Return the lines of the inputs or outputs; a batch's own dimension is left out."""
    lines = []
    for port in ports:
        shape = port.shape[1:] if is_batched else port.shape
        dims = ", ".join(str(dim) if isinstance(dim, int) else "-1" for dim in shape)
        about = f"name: {json.dumps(port.name)} data_type: {port.type} dims: [ {dims} ]"
        lines.append(f"{kind} [ {{ {about} }} ]")
    return lines
