"""A model in service: its ONNX graph in ONNX Runtime, its metadata and the hash of its file."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regrow.data.images.conversion import Decoding
from regrow.data.targets.labels import VOID
from regrow.deploy.exporting import MODEL_FILE, export
from regrow.deploy.runtime import OnnxModel
from regrow.deploy.session import Outputs
from regrow.errors import BadInput
from regrow.files import file_hash, one_line
from regrow.limits import SIDE
from regrow.logs import log
from regrow.models.checkpoint import load
from regrow.plain import MISSHAPEN

# The outputs that predictions are made of, by the kind of labels.
OUTPUTS = {
    "labels": ("probabilities",),
    "boxes": ("boxes", "scores", "selected"),
    "masks": ("mask",),
}


def _exported(checkpoint: Path, path: Path) -> Path:
    return export(load(checkpoint), path)


class ServedModel:
    """A model that answers batches of images; its name in each answer is the hash of its file.

    Args:
        file: The ONNX file, or a checkpoint, which is exported first.
        decoding: How pictures become pixels.
        num_threads: Threads of one operator on the CPU; None takes as many as torch does.
        export: Writes a checkpoint to an ONNX file.
        keep: Where to keep a copy of the ONNX file; None keeps none.

    Raises:
        BadInput: If it cannot be loaded, or is changed meanwhile.
    """

    def __init__(
        self,
        file: Path,
        decoding: Decoding = Decoding(),
        *,
        num_threads: int | None = None,
        export: Callable[[Path, Path], Path] = _exported,
        keep: Path | None = None,
    ) -> None:
        self.file, self.decoding, self._keep = file, decoding, keep
        if not file.is_file():
            raise BadInput(f"{file}: no such file")
        self.sha256 = file_hash(file)
        self.onnx = self._opened(num_threads, export)
        if file_hash(file) != self.sha256:
            raise BadInput(f"{file}: was changed while it was read; try again")
        self._refuse_metadata()
        self.kind, self.classes, self.size = self.onnx.kind, self.onnx.classes, self.onnx.size
        if str(self.kind) not in OUTPUTS or not {*OUTPUTS[self.kind]} <= {*self.onnx.outputs}:
            raise BadInput(
                f"{file}: gives {', '.join(self.onnx.outputs)} for {self.kind!r}, which cannot be "
                "served; export it again"
            )
        if self.kind == "masks" and len(self.classes) > VOID:
            log.warning(
                f"{file}: has {len(self.classes):,} classes, and masks of labels have {VOID} for "
                f"unknown pixels: its class {VOID}, {self.classes[VOID]!r}, cannot be told from "
                "them, and scripts/monitor.py does not take such a model"
            )
        self.outputs = OUTPUTS[self.kind]
        self.dtype: type[np.generic] = np.uint8 if self.onnx.input_type == "uint8" else np.float32

    def _opened(self, num_threads: int | None, export: Callable[[Path, Path], Path]) -> OnnxModel:
        try:
            if self.file.suffix == ".onnx":
                return self._loaded(self.file, num_threads)
            with tempfile.TemporaryDirectory() as folder:
                return self._loaded(export(self.file, Path(folder) / MODEL_FILE), num_threads)
        except MISSHAPEN as error:
            raise self._odd(one_line(error)) from error

    def _loaded(self, graph: Path, num_threads: int | None) -> OnnxModel:
        if self._keep is not None:
            shutil.copyfile(graph, self._keep)
        return OnnxModel(graph, num_threads=num_threads)

    def _odd(self, found: str) -> BadInput:
        return BadInput(
            f"{self.file}: its metadata are not what regrow writes ({found}); export it again"
        )

    def _refuse_metadata(self) -> None:
        """Refuse metadata that are no class names, no size or no thresholds."""
        classes, size, suppression = self.onnx.classes, self.onnx.size, self.onnx.suppression
        are_names = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
        if not are_names or len(set(classes)) != len(classes):
            raise self._odd("classes are no names that differ")
        if not all(type(side) is int and 0 < side <= SIDE for side in size):
            raise self._odd(f"size is {[*size]}"[:100])
        most = suppression.get("max_detections", 1) if isinstance(suppression, dict) else None
        if type(most) is not int or most < 1:
            raise self._odd("suppression has no number of detections")

    def run(self, images: np.ndarray, names: Sequence[str] | None = None) -> Outputs:
        """Return outputs by name.

        Args:
            images: The images as the graph takes them, (b, 3, h, w), of `dtype`.
            names: The outputs; None for all.
        """
        return self.onnx.run(images, names)

    def as_input(self, images: np.ndarray) -> np.ndarray:
        """Return uint8 images as the graph takes them: the same, or float32 in [0, 1]."""
        return self.onnx.as_input(images)

    def warm_up(self, max_batch: int) -> None:
        """Run every batch size once, so that no request pays for the first time.

        Raises:
            BadInput: If the graph cannot be run on what its metadata promise.
        """
        try:
            for count in range(1, max_batch + 1):
                found = self.run(self.as_input(np.zeros((count, 3, *self.size), np.uint8)))
                _refuse_shapes(found, self.kind, count, len(self.classes), self.size)
        except BadInput as error:
            raise BadInput(f"{self.file}: {error}; export it again") from error
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise BadInput(f"{self.file}: cannot be run ({one_line(error)})") from error

    def tensors(self, side: str) -> list[dict[str, Any]]:
        """Return name, type and shape of the graph's `inputs` or `outputs`; -1 is any number."""
        session = self.onnx.session
        nodes = session.get_inputs() if side == "inputs" else session.get_outputs()
        return [
            {
                "name": node.name,
                "datatype": DATATYPES.get(node.type, node.type),
                "shape": [n if isinstance(n, int) else -1 for n in node.shape],
            }
            for node in nodes
        ]


# What the Open Inference Protocol calls ONNX Runtime's types.
DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
}


def _refuse_shapes(
    found: Outputs, kind: str, count: int, num_classes: int, size: tuple[int, int]
) -> None:
    """Refuse outputs whose shapes are not those that the metadata promise."""
    shapes = {name: tuple(value.shape) for name, value in found.items()}
    if kind == "labels":
        is_met = shapes["probabilities"] == (count, num_classes)
    elif kind == "masks":
        is_met = shapes["mask"] == (count, *size)
    else:
        places = shapes["scores"][-1]
        is_met = shapes["scores"] == (count, num_classes, places) and shapes["boxes"] == (
            count,
            places,
            4,
        )
    if not is_met:
        raise BadInput(f"has {num_classes} classes and outputs of {shapes} for {count} images")
