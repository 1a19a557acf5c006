"""ONNX export: a file gets its name only where ONNX Runtime agrees with PyTorch."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from regrow.deploy.parity import Parity, check_parity
from regrow.models.modes import evaluating
from regrow.models.onnx.graph import OPSET, InputType, export_graph
from regrow.models.task import Task

MODEL_FILE = "model.onnx"


def export(task: Task, path: Path, *, opset: int = OPSET, input_type: InputType = "uint8") -> Path:
    """Export a task, pruned or not, as ONNX.

    Args:
        task: The task; exported in evaluation mode, its modes are put back.
        path: The file, or a folder in which it becomes `model.onnx`.
        opset: Version of ONNX's operators.
        input_type: Of the images, see `regrow.models.onnx.graph.export_graph`.

    Returns:
        The file.

    Raises:
        BadInput: If the network cannot be exported, or not in these operators.
    """
    file = path if path.suffix == ".onnx" else path / MODEL_FILE
    return export_graph(task, file, opset=opset, input_type=input_type)


def export_verified(
    task: Task,
    path: Path,
    loader: Iterable[tuple[Tensor, Any]],
    *,
    opset: int = OPSET,
    input_type: InputType = "uint8",
    tolerance: float = 1e-4,
    max_score_change: float = 0.005,
    max_images: int | None = None,
) -> Parity:
    """Export a task as ONNX and compare ONNX Runtime with torch on held-out images.

    The file gets its name only if the two agree: before that it is called `model.unverified.onnx`,
    and where they do not agree it stays under that name, to be looked at.

    Args:
        task: The task.
        path: The file, or a folder in which it becomes `model.onnx`.
        loader: Held-out images and targets.
        opset: Version of ONNX's operators.
        input_type: Of the images, see `regrow.models.onnx.graph.export_graph`.
        tolerance: As in `regrow.deploy.parity.check_parity`.
        max_score_change: Likewise.
        max_images: Likewise.

    Returns:
        The comparison, whose `path` is the file.

    Raises:
        BadInput: If the network cannot be exported, or there are no images.
    """
    file = path if path.suffix == ".onnx" else path / MODEL_FILE
    unverified = file.with_suffix(".unverified.onnx")
    export_graph(task, unverified, opset=opset, input_type=input_type)
    with evaluating(task):
        parity = check_parity(
            task,
            unverified,
            loader,
            tolerance=tolerance,
            max_score_change=max_score_change,
            max_images=max_images,
        )
    if not parity.is_equal:
        return parity
    unverified.replace(file)
    return replace(parity, path=file)
