"""An exported model under ONNX Runtime, and whether it agrees with the network it came from.

Shapes: b batch, c classes, h height, w width, k boxes before suppression, n detections.
"""

from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from regrow.data.partial_labels import plain_targets
from regrow.errors import BadInput
from regrow.metrics.scores import alone
from regrow.models.modes import copied, evaluating
from regrow.models.onnx.graph import InputType, as_input, metadata, suppression_of
from regrow.models.task import Task
from regrow.progress import progress

Outputs = dict[str, np.ndarray]
CUDA = "CUDAExecutionProvider"


class OnnxModel:
    """An exported model: images in, decoded outputs out.

    Args:
        path: The ONNX file, as `regrow.models.onnx.graph.export_graph` writes it.
        num_threads: Threads of one operator on the CPU; None takes as many as torch does.
        providers: ONNX Runtime's execution providers, best first; None takes CUDA where both ONNX
            Runtime and torch have it, else the CPU.

    Raises:
        BadInput: If the file is not there, is no ONNX, or regrow did not write it.
    """

    def __init__(
        self,
        path: Path,
        *,
        num_threads: int | None = None,
        providers: Sequence[Any] | None = None,
    ) -> None:
        if not path.is_file():
            raise BadInput(f"{path}: no such file; write it with scripts/export.py")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads or torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=list(providers or default_providers())
            )
        except Exception as error:  # ONNX Runtime's errors share no base class
            line = " ".join(str(error).split())
            raise BadInput(f"{path}: ONNX Runtime cannot load it ({line})") from error
        known = metadata(self.session.get_modelmeta().custom_metadata_map)
        if "classes" not in known or "size" not in known:
            raise BadInput(f"{path}: has no class names, so regrow did not write it; export again")
        self.path = path
        self.classes: list[str] = known["classes"]
        self.kind: str = known["kind"]
        self.size: tuple[int, int] = (known["size"][0], known["size"][1])
        self.suppression: dict[str, Any] = known["suppression"]
        self.input_type: InputType = known.get("input", {}).get("type", "uint8")
        self.outputs = [output.name for output in self.session.get_outputs()]

    def __call__(self, images: Tensor | np.ndarray) -> Outputs:
        """Give the outputs by name.

        Args:
            images: RGB, uint8, (b, 3, h, w).
        """
        given = images if isinstance(images, Tensor) else torch.from_numpy(images)
        pixels = as_input(given, self.input_type).numpy(force=True)
        return dict(zip(self.outputs, self.session.run(None, {"images": pixels}), strict=True))


def metadata_of(path: Path) -> dict[str, Any]:
    """Return what a file of regrow's says of itself, with the version of its operators, `opset`."""
    model = onnx.load(path, load_external_data=False)
    known = metadata({entry.key: entry.value for entry in model.metadata_props})
    return {**known, "opset": model.opset_import[0].version}


def default_providers() -> list[Any]:
    """Give the execution providers that can run here, best first, with their options."""
    wanted: list[Any] = ["CPUExecutionProvider"]
    if torch.cuda.is_available() and CUDA in onnxruntime.get_available_providers():
        # TF32 has 10 bits of mantissa, too few to tell a rounding from a mistake.
        wanted.insert(0, (CUDA, {"use_tf32": "0"}))
    return wanted


def detections(
    outputs: Mapping[str, np.ndarray], *, max_detections: int = 100
) -> list[dict[str, np.ndarray]]:
    """Give the detections of each image from the outputs of an exported detector.

    The graph has done the suppression; `selected` says which class of which box survived. What is
    left is to gather those, and to keep the best: ONNX limits detections a class, not an image.

    Args:
        outputs: `boxes` (b, k, 4) xyxy in pixels, `scores` (b, c, k), `selected` (n, 3).
        max_detections: How many to keep in an image at most.

    Returns:
        `boxes` (n, 4), `scores` (n,) and `labels` (n,) an image, best first.
    """
    images, labels, places = outputs["selected"].T
    boxes, scores = outputs["boxes"][images, places], outputs["scores"][images, labels, places]
    best = np.argsort(-scores, kind="stable")
    found = []
    for image in range(len(outputs["boxes"])):
        mine = best[images[best] == image][:max_detections]
        found.append({"boxes": boxes[mine], "scores": scores[mine], "labels": labels[mine]})
    return found


def predictions(task: Task, outputs: Mapping[str, np.ndarray], *, max_detections: int = 100) -> Any:
    """Give a task's predictions from the outputs of its exported graph.

    Where the graph has suppressed boxes itself, its own choice is taken, since that is what is
    served; otherwise the task turns decoded outputs into predictions.

    Args:
        task: The task.
        outputs: The graph's outputs by name.
        max_detections: How many boxes to keep in an image at most.

    Returns:
        What `task.predict` gives, on the CPU.
    """
    if "selected" in outputs:
        found = detections(outputs, max_detections=max_detections)
        return [{name: torch.from_numpy(v) for name, v in image.items()} for image in found]
    return task.from_decoded({name: torch.from_numpy(value) for name, value in outputs.items()})


@dataclass(frozen=True, slots=True)
class Difference:
    """How far one output is off.

    Args:
        max_abs: Largest absolute difference, in the output's own unit.
        scale: Largest magnitude in torch's output, at least 1.
    """

    max_abs: float
    scale: float

    @property
    def relative(self) -> float:
        """Give the largest difference as a share of the scale."""
        return self.max_abs / self.scale


@dataclass(frozen=True, slots=True)
class Parity:
    """What an exported model gives beside its network, on the same images.

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
    differences: dict[str, Difference]
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
    differences: dict[str, Difference] = {}
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
    reason = _reason(differences, score, torch_score, tolerance, max_score_change)
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
    differences: dict[str, Difference], decoded: Mapping[str, Tensor], outputs: Outputs
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
        before = differences.get(name, Difference(0.0, 1.0))
        differences[name] = Difference(max(before.max_abs, worst), max(before.scale, scale))


def _reason(
    differences: Mapping[str, Difference],
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
