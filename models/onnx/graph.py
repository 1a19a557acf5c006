"""Export to ONNX: the graph of a task from images to decoded outputs, with metadata.

A detector's graph ends with the standard NonMaxSuppression operator, so a runtime finds objects
without code of ours. The metadata of the file holds what a runtime needs besides: how images are
prepared, the meaning of the outputs, class names in row order, thresholds.
"""

import copy
import json
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.files import write_atomic
from regrow.models.modes import copied, evaluating
from regrow.models.onnx.metadata import PREFIX, InputType
from regrow.models.onnx.opset import in_opset
from regrow.models.task import Task

OPSET = 18
MAX_BYTES = 2**31 - 1  # limit of one protobuf message
# Scores per image that are considered, as in `regrow.models.nets.detector.suppress`.
MAX_CANDIDATES = 1000
BATCH = "batch"  # the name of the dimension that may have any length
# As `regrow.data.images.transforms.resize` does it.
RESIZE = "bilinear and antialiased (Pillow's BILINEAR; OpenCV's INTER_LINEAR is not antialiased)"
# The meaning of the outputs of the three tasks, for the metadata.
MEANINGS = {
    "probabilities": "float32 (batch, classes): of each class, summing to 1",
    "logits": "float32 (batch, classes, height, width): of each pixel, before the softmax",
    "mask": "(batch, height, width): the number of each pixel's most probable class",
    "boxes": "float32 (batch, places, 4): left, top, right, bottom in pixels of the resized image",
    "scores": "float32 (batch, classes, places): of each class at each place, from 0 to 1",
    "selected": "int64 (detections, 3): image, class and place of each detection that is left "
    "when overlapping ones are dropped; read boxes and scores there",
}


class Decoded(nn.Module):
    """Module for the exporter: from images to decoded outputs, in a fixed order.

    Args:
        task: The task.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the decoded outputs, and `candidates` (b, c, k) if boxes are to be suppressed."""
        decoded = dict(self.task.decode(self.task(images)))
        if suppression_of(self.task):
            decoded["candidates"] = _best(decoded["scores"])
        return decoded


def export_graph(
    task: Task, path: Path, *, opset: int = OPSET, input_type: InputType = "uint8"
) -> Path:
    """Check the ONNX graph of a task and write it to one file, atomically.

    The input is `images`, RGB (b, 3, h, w) with any b: uint8, or float32 in [0, 1] for runtimes
    without uint8 inputs. The outputs are those of the task's `decode`, and for detection also
    `selected`, int64 (n, 3): image, class and box of each detection that is left after
    suppression, see `regrow.deploy.runtime.detections`. The file's metadata holds JSON under
    `regrow.input`, `regrow.outputs`, `regrow.classes` (names in row order), `regrow.task`,
    `regrow.kind`, `regrow.size`, `regrow.suppression` and `regrow.version`.

    Args:
        task: The task; it is exported in evaluation mode, and its modes are restored.
        path: The file.
        opset: Opset: version of the ONNX operators.
        input_type: Data type of the images.

    Returns:
        The path.

    Raises:
        BadInput: If the network cannot be exported in this opset, or needs more than one file.
    """
    model = build_graph(task, opset=opset, input_type=input_type)
    if model.ByteSize() > MAX_BYTES:
        raise BadInput(f"{path}: the network takes more than the 2 GB of one ONNX file; prune it")
    onnx.checker.check_model(model, full_check=True)
    write_atomic(path, lambda file: file.write(model.SerializeToString()))
    return path


def build_graph(
    task: Task, *, opset: int = OPSET, input_type: InputType = "uint8"
) -> onnx.ModelProto:
    """Build the ONNX graph of a task, as `export_graph` writes it, without checking it.

    Weights of half precision become single precision, since ONNX Runtime on CPUs has no
    half-precision convolutions.
    """
    wrapper = Decoded(in_single_precision(task))
    # Two images, since the exporter treats a dimension of one as constant.
    images = as_input(task.example_images(2), input_type)
    with evaluating(wrapper), torch.no_grad():
        names = list(wrapper(images))
        try:
            program = _exported(wrapper, images, names)
        except torch.onnx.errors.OnnxExporterError as error:
            reason = next(iter(str(error.__cause__ or error).splitlines()), "")
            raise BadInput(
                f"net: {task.net_name!r} cannot be exported to ONNX: {reason}; "
                "see torch.onnx.export(dynamo=True) for what a network may do"
            ) from error
    model: onnx.ModelProto = program.model_proto
    suppression = suppression_of(task)
    if suppression:
        _append_suppression_(model.graph, suppression)
    _strip_(model)
    model = in_opset(model, opset)
    _describe_(model, task, input_type)
    return model


def fix_batch_(model: onnx.ModelProto, batch: int) -> None:
    """Fix the batch size of a graph in place, for programs that take no other."""
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == BATCH:
                dim.dim_value = batch


def in_single_precision(task: Task) -> Task:
    """Return a task whose weights have at least 32 bits: the task itself, or a copy."""
    small = (tensor for tensor in task.net.state_dict().values() if tensor.is_floating_point())
    if all(tensor.dtype.itemsize >= torch.float32.itemsize for tensor in small):
        return task
    # Trainer and penalties are shared with the copy, so they are not cast.
    twin = copy.copy(task)
    twin.__dict__["_modules"] = dict(task._modules)
    twin.__dict__["_buffers"] = dict(task._buffers)
    twin.net = copied(task.net).float()
    twin.mean, twin.std = task.mean.float(), task.std.float()
    return twin


def as_input(images: Tensor, input_type: InputType) -> Tensor:
    """Convert uint8 images to the input type of a graph."""
    return images if input_type == "uint8" else images.to(torch.float32) / 255


def suppression_of(task: Task) -> dict[str, Any]:
    """Return the thresholds of a task's non-maximum suppression; empty if it has none."""
    return dict(getattr(task, "suppression", {}))


def _exported(wrapper: nn.Module, images: Tensor, names: list[str]) -> Any:
    with warnings.catch_warnings():
        # Warnings about the internals of exporter and tracer.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.|copyreg")
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.")
        program = torch.onnx.export(
            wrapper,
            (images,),
            input_names=["images"],
            output_names=names,
            opset_version=OPSET,  # the exporter's own; it falls back to it where others fail
            dynamo=True,
            dynamic_shapes={"images": {0: torch.export.Dim(BATCH)}},
            external_data=False,
            verbose=False,
        )
    return program


def _best(scores: Tensor) -> Tensor:
    """Set all but the best scores of each image to 0, (b, c, k)."""
    if scores.shape[1] * scores.shape[2] <= MAX_CANDIDATES:
        return scores
    least = scores.flatten(1).topk(MAX_CANDIDATES).values[:, -1]
    return scores * (scores >= least[:, None, None])


def _append_suppression_(graph: onnx.GraphProto, suppression: Mapping[str, Any]) -> None:
    """Append NonMaxSuppression to the graph; its corner boxes may have either order of axes."""
    helper, numbers = onnx.helper, onnx.TensorProto
    constants = {
        "max_detections": (numbers.INT64, suppression["max_detections"]),
        "iou_threshold": (numbers.FLOAT, suppression["iou_threshold"]),
        "score_threshold": (numbers.FLOAT, suppression["score_threshold"]),
    }
    for name, (kind, value) in constants.items():
        graph.initializer.append(helper.make_tensor(name, kind, [1], [value]))
    inputs = ["boxes", "candidates", *constants]
    graph.node.append(helper.make_node("NonMaxSuppression", inputs, ["selected"], "suppression"))
    kept = [output for output in graph.output if output.name != "candidates"]
    del graph.output[:]
    graph.output.extend(kept)
    graph.output.append(helper.make_tensor_value_info("selected", numbers.INT64, ["detections", 3]))


def _strip_(model: onnx.ModelProto) -> None:
    """Remove the exporter's notes, which hold stack traces with paths of this machine."""
    graph = model.graph
    for noted in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        noted.ClearField("metadata_props")
        noted.ClearField("doc_string")
    for noted in (graph, *model.functions):
        noted.ClearField("metadata_props")
        noted.ClearField("doc_string")
    for function in model.functions:
        for node in function.node:
            node.ClearField("metadata_props")
            node.ClearField("doc_string")


def _describe_(model: onnx.ModelProto, task: Task, input_type: InputType) -> None:
    height, width = task.size
    names = [output.name for output in model.graph.output]
    model.producer_name, model.producer_version = "regrow", version("regrow")
    values: dict[str, Any] = {
        "version": model.producer_version,
        "task": type(task).__name__.lower(),
        "kind": task.kind,
        "classes": list(task.classes),
        "size": list(task.size),
        "suppression": suppression_of(task),
        "input": {
            "name": "images",
            "type": input_type,
            "shape": ["batch", 3, height, width],
            "colors": "RGB",
            "range": [0, 255 if input_type == "uint8" else 1],
            "resize": f"to {width} x {height} pixels whatever the shape, {RESIZE}",
        },
        "outputs": {name: MEANINGS.get(name, "see the task's decode") for name in names},
    }
    texts = {PREFIX + name: json.dumps(value) for name, value in values.items()}
    onnx.helper.set_model_props(model, texts)
