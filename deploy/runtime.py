"""An exported model in ONNX Runtime: its inputs, its outputs, and the detections in them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor

from regrow.errors import BadInput
from regrow.models.onnx.graph import InputType, as_input, metadata
from regrow.models.task import Task

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
        """Return the outputs by name.

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
    """Return the execution providers that can run here, best first, with their options."""
    wanted: list[Any] = ["CPUExecutionProvider"]
    if torch.cuda.is_available() and CUDA in onnxruntime.get_available_providers():
        # TF32 has 10 bits of mantissa, too few to tell a rounding from a mistake.
        wanted.insert(0, (CUDA, {"use_tf32": "0"}))
    return wanted


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
