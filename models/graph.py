"""The raw ONNX graph of a task: uint8 images in, decoded outputs out.

A detector's graph ends with the standard NonMaxSuppression, so that no runtime needs code of ours
to find objects. What a runtime must know besides (class names in row order, image size, thresholds)
travels in the file's metadata.
"""

import json
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from regrow.data.errors import BadInput
from regrow.data.files import write_atomic
from regrow.models.modes import evaluating
from regrow.models.task import Task

OPSET = 18
MAX_BYTES = 2**31 - 1  # what one protobuf message can hold
# As many scores of an image as `regrow.models.detector.suppress` looks at.
MAX_CANDIDATES = 1000
PREFIX = "regrow."


class Decoded(nn.Module):
    """A task as the exporter sees it: images to decoded outputs, in a fixed order.

    Args:
        task: The task.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Give the decoded outputs, and `candidates` (b, c, k) where boxes are to be suppressed."""
        decoded = dict(self.task.decode(self.task(images)))
        if suppression_of(self.task):
            decoded["candidates"] = _best(decoded["scores"])
        return decoded


def export_graph(task: Task, path: Path, *, opset: int = OPSET) -> Path:
    """Write a task's graph as one ONNX file, atomically, and check it.

    The input is `images`, uint8 RGB (b, 3, h, w) with any b; the outputs are those of the task's
    `decode`. Where the task suppresses boxes there is also `selected`, int64 (n, 3): image, class
    and box of each detection that survives, to be read with `regrow.deploy.parity.detections`. The
    file's metadata holds JSON under `regrow.classes` (names in row order), `regrow.task`,
    `regrow.kind`, `regrow.size`, `regrow.suppression` and `regrow.version`.

    Args:
        task: The task; exported in evaluation mode, its modes are put back.
        path: The file.
        opset: Version of ONNX's operators.

    Returns:
        The path.

    Raises:
        BadInput: If the network cannot be exported or fits no single file.
    """
    model = build_graph(task, opset=opset)
    if model.ByteSize() > MAX_BYTES:
        raise BadInput(f"{path}: the network takes more than the 2 GB of one ONNX file; prune it")
    onnx.checker.check_model(model, full_check=True)
    write_atomic(path, lambda file: file.write(model.SerializeToString()))
    return path


def build_graph(task: Task, *, opset: int = OPSET) -> onnx.ModelProto:
    """Give a task's graph as `export_graph` writes it, unchecked."""
    wrapper = Decoded(task)
    # Two images: an exporter takes a size of one for a constant.
    images = task.example_images(2)
    with evaluating(wrapper), torch.no_grad():
        names = list(wrapper(images))
        try:
            program = _exported(wrapper, images, names, opset)
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
    _describe_(model, task)
    return model


def metadata(entries: Mapping[str, str]) -> dict[str, Any]:
    """Read a file's metadata as `export_graph` writes it.

    Args:
        entries: The metadata of the file, text by name.

    Returns:
        The values by name, without the prefix; empty where regrow did not write the file.

    Raises:
        BadInput: If a value is not JSON.
    """
    found = {name: text for name, text in entries.items() if name.startswith(PREFIX)}
    try:
        return {name.removeprefix(PREFIX): json.loads(text) for name, text in found.items()}
    except ValueError as error:
        raise BadInput(
            f"the metadata of the ONNX file is not JSON ({error}); export again"
        ) from error


def suppression_of(task: Task) -> dict[str, Any]:
    """Give the thresholds with which a task suppresses boxes; empty where it does not."""
    return dict(getattr(task, "suppression", {}))


def _exported(wrapper: nn.Module, images: Tensor, names: list[str], opset: int) -> Any:
    with warnings.catch_warnings():
        # The exporter's and tracer's own business: what they say is about their insides.
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.|copyreg")
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.")
        program = torch.onnx.export(
            wrapper,
            (images,),
            input_names=["images"],
            output_names=names,
            opset_version=opset,
            dynamo=True,
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            external_data=False,
            verbose=False,
        )
    return program


def _best(scores: Tensor) -> Tensor:
    """Put the scores of an image that are not among its best to 0, (b, c, k)."""
    if scores.shape[1] * scores.shape[2] <= MAX_CANDIDATES:
        return scores
    least = scores.flatten(1).topk(MAX_CANDIDATES).values[:, -1]
    return scores * (scores >= least[:, None, None])


def _append_suppression_(graph: onnx.GraphProto, suppression: Mapping[str, Any]) -> None:
    """End the graph with NonMaxSuppression, whose corner boxes may come in either order of axes."""
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
    """Take out the exporter's notes, which hold stack traces with the paths of this machine."""
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


def _describe_(model: onnx.ModelProto, task: Task) -> None:
    values = {
        "version": version("regrow"),
        "task": type(task).__name__.lower(),
        "kind": task.kind,
        "classes": list(task.classes),
        "size": list(task.size),
        "suppression": suppression_of(task),
    }
    texts = {PREFIX + name: json.dumps(value) for name, value in values.items()}
    onnx.helper.set_model_props(model, texts)
    model.producer_name, model.producer_version = "regrow", values["version"]
