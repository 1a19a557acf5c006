"""INT8: an exported model is quantised and scored in ONNX Runtime."""

from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from torch import Tensor

from regrow.data.targets.partial_labels import plain_targets
from regrow.deploy.runtime import OnnxModel, predictions
from regrow.files import write_atomic
from regrow.logs import log
from regrow.metrics.budget import Budget
from regrow.models.onnx.quantization import Quantized, quantized
from regrow.models.task import Task
from regrow.progress import progress
from regrow.training.evaluation import Evaluation, evaluate_predictions

Loader = Iterable[tuple[Tensor, Any]]


@dataclass(frozen=True, slots=True)
class Choice:
    """A graph in INT8, and why its first and last layers are in INT8 or not.

    Args:
        num_layers: Number of layers with weights.
        num_quantized: Number of those whose weights are INT8.
        in_float: Number of operators between the layers that have no INT8 kernel, by their type.
        keeps_ends: Whether first and last layers stay in float.
        scores: Scores on the images that decided it, by what was tried: `float`, `all`, and
            `inner` if that was needed.
    """

    num_layers: int
    num_quantized: int
    in_float: Mapping[str, int]
    keeps_ends: bool
    scores: Mapping[str, float]


def evaluate_graph(
    task: Task, path: Path, loader: Loader, description: str = "ONNX Runtime"
) -> Evaluation:
    """Score an exported model in ONNX Runtime.

    Args:
        task: The task that it was exported from, on the CPU, which says what the score is.
        path: The ONNX file.
        loader: Images and targets.
        description: The text of the progress bar.
    """
    model = OnnxModel(path)
    most = model.suppression.get("max_detections", 0)
    total = len(loader) if isinstance(loader, Sized) else None

    def predicted() -> Iterator[tuple[Any, Any]]:
        for images, targets in progress(loader, description, total):
            found = predictions(task, model(images), max_detections=most)
            yield found, plain_targets(targets)

    return evaluate_predictions(task, predicted())


def quantize(
    task: Task,
    path: Path,
    target: Path,
    calibration: Iterable[np.ndarray],
    loader: Loader,
    budget: Budget,
) -> Choice:
    """Quantise an exported model to INT8, and leave its ends in float where that saves the score.

    All layers become INT8. If the score then loses more than half of what the budget accepts, the
    first and last layers are left in float, and of the two models the one with the better score is
    written.

    Args:
        task: The task that it was exported from, on the CPU.
        path: The ONNX file.
        target: The file of the model in INT8.
        calibration: Training images in batches as the graph takes them, which can be read twice.
        loader: The images that decide, which the budget is not decided on, and their targets.
        budget: The accepted drop of the score.

    Raises:
        BadInput: If the model cannot be quantised, or there are no images.
    """
    model = onnx.load(path)
    before = evaluate_graph(task, path, loader, "float").value
    made = quantized(model, calibration)
    scores = {"float": before, "all": _scored(task, made, target, loader)}
    keeps_ends = False
    if budget.used(before - scores["all"]) > 0.5 and made.num_layers > made.num_ends:
        inner = quantized(model, calibration, keeps_ends=True)
        scores["inner"] = _scored(task, inner, target, loader)
        keeps_ends = scores["inner"] > scores["all"]
        made = inner if keeps_ends else made
    _write(made, target)
    log.info(f"INT8: {made.num_quantized} of {made.num_layers} layers")
    return Choice(made.num_layers, made.num_quantized, made.in_float, keeps_ends, scores)


def _scored(task: Task, made: Quantized, path: Path, loader: Loader) -> float:
    _write(made, path)
    return evaluate_graph(task, path, loader, "INT8").value


def _write(made: Quantized, path: Path) -> None:
    write_atomic(path, lambda file: file.write(made.model.SerializeToString()))
