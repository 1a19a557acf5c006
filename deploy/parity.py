"""Parity: whether an exported model in ONNX Runtime agrees with its network in PyTorch.

Shapes: b batch, c classes, h height, w width, k boxes before suppression, n detections.
"""

from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regrow.data.targets.partial_labels import plain_targets
from regrow.deploy.runtime import OnnxModel, predictions
from regrow.deploy.session import Outputs
from regrow.errors import BadInput
from regrow.metrics.scores import alone
from regrow.models.modes import copied, evaluating
from regrow.models.onnx.graph import suppression_of
from regrow.models.task import Task
from regrow.progress import progress


@dataclass(frozen=True, slots=True)
class OutputDifference:
    """Largest difference of one output between ONNX Runtime and PyTorch.

    Args:
        max_abs: Largest absolute difference, in the output's own unit.
        scale: Largest magnitude in torch's output, at least 1.
    """

    max_abs: float
    scale: float

    @property
    def relative(self) -> float:
        """Return the largest difference as a share of the scale."""
        return self.max_abs / self.scale


@dataclass(frozen=True, slots=True)
class Parity:
    """Comparison of an exported model with its network, on the same images.

    Args:
        path: The ONNX file.
        is_equal: Whether they agree.
        reason: Why they do not; empty where they do.
        max_abs_diff: Largest absolute difference of any decoded float output, in its own unit.
        differences: The difference of each decoded float output.
        score_name: Name of the headline score.
        score: The score in ONNX Runtime, in [0, 1].
        torch_score: The score in torch.
        num_images: Number of images.
        provider: Where ONNX Runtime ran.
    """

    path: Path
    is_equal: bool
    reason: str
    max_abs_diff: float
    differences: dict[str, OutputDifference]
    score_name: str
    score: float
    torch_score: float
    num_images: int
    provider: str


@torch.inference_mode()
def check_parity(
    task: Task,
    path: Path,
    loader: Iterable[tuple[Tensor, Any]],
    *,
    tolerance: float = 1e-4,
    max_score_change: float = 0.005,
    max_images: int | None = None,
    num_threads: int | None = None,
    description: str = "ONNX Runtime",
) -> Parity:
    """Run an exported model and its network on the same images, and say whether they agree.

    They agree if no decoded float output differs by more than `tolerance` of that output's largest
    magnitude (or of 1, whichever is more: probabilities are compared as they are, boxes of 100
    pixels to 0.01 pixel), and if the scores differ by at most `max_score_change`. The network runs
    on the CPU in its own precision: on a GPU, TF32 alone would make a difference.

    Of a model in INT8 the scores decide alone: its outputs differ by steps of 8 bits.

    Args:
        task: The network, and what its score is.
        path: The ONNX file.
        loader: Held-out images and targets.
        tolerance: Largest difference, as a share.
        max_score_change: Largest difference of the scores, in [0, 1].
        max_images: Stop after so many images; None takes all.
        num_threads: Threads of ONNX Runtime; None takes as many as torch does.
        description: What the progress bar says.

    Raises:
        BadInput: If there are no images, or the file holds another network's classes or size.
    """
    model = OnnxModel(path, num_threads=num_threads)
    _refuse_other(model, task)
    reference = task if task.mean.device.type == "cpu" else copied(task).cpu()
    limit = model.suppression.get("max_detections", 0)
    ours, theirs = alone(task.make_metric()), alone(task.make_metric())
    differences: dict[str, OutputDifference] = {}
    num_images = 0
    with evaluating(reference):
        for images, targets in progress(loader, description, _length(loader)):
            if max_images is not None:
                left = max_images - num_images
                images, targets = images[:left], targets[:left]
            if not len(images):
                break
            num_images += len(images)
            targets = plain_targets(targets)
            raw, outputs = reference(images), model(images)
            _compare_(differences, reference.decode(raw), outputs)
            ours.update(reference.predict(raw), targets)
            theirs.update(predictions(task, outputs, max_detections=limit), targets)
    if not num_images:
        raise BadInput("there are no held-out images to compare on; give the data a test split")
    torch_score, score = (float(m.compute()[task.score]) for m in (ours, theirs))
    judged = differences if model.precision == "float32" else {}
    reason = _reason(judged, score, torch_score, tolerance, max_score_change)
    return Parity(
        path=path,
        is_equal=not reason,
        reason=reason,
        max_abs_diff=max(difference.max_abs for difference in differences.values()),
        differences=differences,
        score_name=task.score,
        score=score,
        torch_score=torch_score,
        num_images=num_images,
        provider=model.session.get_providers()[0],
    )


def _refuse_other(model: OnnxModel, task: Task) -> None:
    for name, found, wanted in (
        ("classes", model.classes, list(task.classes)),
        ("size", model.size, task.size),
        ("kind", model.kind, task.kind),
        ("thresholds", model.suppression, suppression_of(task)),
    ):
        if found != wanted:
            raise BadInput(
                f"{model.path}: its {name} are {found}, the network's {wanted}; export it again"
            )


def _length(loader: Iterable[Any]) -> int | None:
    return len(loader) if isinstance(loader, Sized) else None


def _compare_(
    differences: dict[str, OutputDifference], decoded: Mapping[str, Tensor], outputs: Outputs
) -> None:
    """Add a batch to the differences; what is not finite or of another shape is off endlessly."""
    for name, value in decoded.items():
        if not value.is_floating_point():
            continue
        wanted, found = value.double().cpu(), outputs.get(name)
        worst, scale = float("inf"), 1.0
        if found is not None and found.shape == tuple(wanted.shape):
            gap = (wanted - torch.from_numpy(found)).abs()
            if bool(gap.isfinite().all()):
                worst = float(gap.max()) if gap.numel() else 0.0
                scale = max(1.0, float(wanted.abs().max())) if gap.numel() else 1.0
        before = differences.get(name, OutputDifference(0.0, 1.0))
        differences[name] = OutputDifference(max(before.max_abs, worst), max(before.scale, scale))


def _reason(
    differences: Mapping[str, OutputDifference],
    score: float,
    torch_score: float,
    tolerance: float,
    max_score_change: float,
) -> str:
    reasons = [
        f"{name} differs by {difference.max_abs:.3g}, {difference.relative:.3g} of its scale "
        f"(at most {tolerance:g})"
        for name, difference in differences.items()
        if not difference.relative <= tolerance
    ]
    both_unknown = score != score and torch_score != torch_score
    if not both_unknown and not abs(score - torch_score) <= max_score_change:
        reasons.append(
            f"the score is {score:.4f} in ONNX Runtime and {torch_score:.4f} in torch "
            f"(at most {max_score_change:g} apart)"
        )
    return "; ".join(reasons)
