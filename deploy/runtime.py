"""An exported model in ONNX Runtime: its inputs, its outputs, and the detections in them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from regrow.deploy.session import CPU, CUDA, Outputs, Session
from regrow.models.onnx.metadata import metadata
from regrow.models.task import Task


class OnnxModel(Session):
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
        threads, wanted = num_threads or torch.get_num_threads(), providers or default_providers()
        super().__init__(path, num_threads=threads, providers=wanted)

    def __call__(self, images: Tensor | np.ndarray) -> Outputs:
        """Return the outputs by name.

        Args:
            images: RGB, uint8, (b, 3, h, w).
        """
        given = images.numpy(force=True) if isinstance(images, Tensor) else images
        return self.run(self.as_input(given))


def metadata_of(path: Path) -> dict[str, Any]:
    """Return what a file of regrow's says of itself, with the version of its operators, `opset`."""
    model = onnx.load(path, load_external_data=False)
    known = metadata({entry.key: entry.value for entry in model.metadata_props})
    return {**known, "opset": model.opset_import[0].version}


def default_providers() -> list[Any]:
    """Return the execution providers that can run here, best first, with their options."""
    has_cuda = torch.cuda.is_available() and CUDA[0] in onnxruntime.get_available_providers()
    return [CUDA, CPU] if has_cuda else [CPU]


def detections(
    outputs: Mapping[str, np.ndarray], *, max_detections: int = 100
) -> list[dict[str, np.ndarray]]:
    """Return the detections of each image from the outputs of an exported detector.

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
    """Return a task's predictions from the outputs of its exported graph.

    Where the graph has suppressed boxes itself, its own choice is taken, since that is what is
    served; otherwise the task turns decoded outputs into predictions.

    Args:
        task: The task.
        outputs: The graph's outputs by name.
        max_detections: How many boxes to keep in an image at most.

    Returns:
        The same as `task.predict` returns, on the CPU.
    """
    if "selected" in outputs:
        found = detections(outputs, max_detections=max_detections)
        return [{name: torch.from_numpy(v) for name, v in image.items()} for image in found]
    return task.from_decoded({name: torch.from_numpy(value) for name, value in outputs.items()})
