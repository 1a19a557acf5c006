"""A session of ONNX Runtime with an exported model, and what the file says of itself."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from regrow.errors import BadInput
from regrow.models.onnx.metadata import PRECISION, InputType, metadata

Outputs = dict[str, np.ndarray]
# TF32 has 10 bits of mantissa, too few to tell a rounding from a mistake.
CUDA = ("CUDAExecutionProvider", {"use_tf32": "0"})
CPU = "CPUExecutionProvider"


class Session:
    """An exported model in ONNX Runtime; it needs no PyTorch.

    Args:
        path: The ONNX file, as `regrow.models.onnx.graph.export_graph` writes it.
        num_threads: Threads of one operator on the CPU; None takes `OMP_NUM_THREADS`, else one for
            each processor.
        providers: ONNX Runtime's execution providers, best first; None takes CUDA where ONNX
            Runtime has it, else the CPU.

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
        options.intra_op_num_threads = num_threads or _default_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=list(providers or _default_providers())
            )
        except Exception as error:  # ONNX Runtime's errors share no base class
            line = " ".join(str(error).split())
            raise BadInput(f"{path}: ONNX Runtime cannot load it ({line})") from error
        known = metadata(self.session.get_modelmeta().custom_metadata_map)
        if "classes" not in known or "size" not in known:
            raise BadInput(f"{path}: has no class names, so regrow did not write it; export again")
        self.path, self.metadata = path, known
        self.classes: list[str] = known["classes"]
        self.kind: str = known["kind"]
        self.size: tuple[int, int] = (known["size"][0], known["size"][1])
        self.suppression: dict[str, Any] = known["suppression"]
        self.input_type: InputType = known.get("input", {}).get("type", "uint8")
        self.precision: str = known.get(PRECISION, "float32")
        self.outputs = [output.name for output in self.session.get_outputs()]

    def run(self, images: np.ndarray, names: Sequence[str] | None = None) -> Outputs:
        """Return outputs by name.

        Args:
            images: The images as the graph takes them, (b, 3, h, w).
            names: The outputs; None for all.
        """
        wanted = list(self.outputs if names is None else names)
        return dict(zip(wanted, self.session.run(wanted, {"images": images}), strict=True))

    def as_input(self, images: np.ndarray) -> np.ndarray:
        """Return uint8 images as the graph takes them: the same, or float32 in [0, 1]."""
        if self.input_type == "uint8":
            return images
        return images.astype(np.float32) / np.float32(255)


def _default_threads() -> int:
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return (asked.isdecimal() and int(asked)) or len(os.sched_getaffinity(0))


def _default_providers() -> list[Any]:
    return [CUDA, CPU] if CUDA[0] in onnxruntime.get_available_providers() else [CPU]
