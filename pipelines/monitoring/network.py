"""The served network for the monitor, run without PyTorch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from regrow.deploy.session import Session
from regrow.errors import BadInput
from regrow.files import file_hash
from regrow.models.onnx.metadata import EMBEDDING
from regrow.monitor.network.served import Outputs

# What values of predictions are computed from, by the kind of labels.
NEEDED = {
    "labels": ("probabilities",),
    "boxes": ("boxes", "scores", "selected"),
    "masks": ("logits", "mask"),
}


class KeptNetwork:
    """The network in the folder of a monitor.

    Args:
        file: Its ONNX file, as `keep_network_` leaves it.

    Raises:
        BadInput: If it cannot be loaded, or lacks an output.
    """

    def __init__(self, file: Path) -> None:
        self._session, self.sha256 = Session(file), file_hash(file)
        self.kind, self.size = self._session.kind, self._session.size
        self.num_classes = len(self._session.classes)
        absent = {*NEEDED[self.kind]} - {*self._session.outputs}
        if absent:
            raise BadInput(f"{file}: has no output {', '.join(sorted(absent))}; export it again")
        self._axis = int(self._session.metadata.get(EMBEDDING, {"axis": -1})["axis"])
        self.has_embedding = EMBEDDING in self._session.outputs

    def run(self, images: np.ndarray) -> Outputs:
        """Return the outputs by name; see `Network`."""
        return self._run(images, NEEDED[self.kind])

    def embed(self, images: np.ndarray) -> tuple[np.ndarray, Outputs]:
        """Return the embeddings, float32 (b, d), means over maps, and the outputs by name."""
        outputs = self._run(images, (*NEEDED[self.kind], EMBEDDING))
        channels = np.moveaxis(outputs.pop(EMBEDDING), self._axis, -1)
        return channels.reshape(len(images), -1, channels.shape[-1]).mean(axis=1), outputs

    def _run(self, images: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        return self._session.run(self._session.as_input(images), names)
