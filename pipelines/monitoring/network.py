"""The served network for the monitor: its graph, kept with the embedding as one more output."""

from pathlib import Path

import numpy as np
import onnx

from regrow.deploy.serving.served_model import ServedModel
from regrow.errors import BadInput
from regrow.files import write_atomic
from regrow.logs import log
from regrow.models.onnx.embedding import EMBEDDING, with_embedding
from regrow.models.onnx.graph import metadata
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
        self._served = ServedModel(file)
        self.kind, self.size = self._served.kind, self._served.size
        self.num_classes, self.sha256 = len(self._served.classes), self._served.sha256
        absent = {*NEEDED[self.kind]} - {*self._served.onnx.outputs}
        if absent:
            raise BadInput(f"{file}: has no output {', '.join(sorted(absent))}; export it again")
        noted = self._served.onnx.session.get_modelmeta().custom_metadata_map
        found = metadata(noted).get(EMBEDDING)
        self._axis = -1 if found is None else int(found["axis"])
        self.has_embedding = EMBEDDING in self._served.onnx.outputs

    def run(self, images: np.ndarray) -> Outputs:
        """Return the outputs by name; see `Network`."""
        return self._served.run(self._served.as_input(images), NEEDED[self.kind])

    def embed(self, images: np.ndarray) -> tuple[np.ndarray, Outputs]:
        """Return the embeddings, float32 (b, d), means over maps, and the outputs by name."""
        wanted = [*NEEDED[self.kind], EMBEDDING]
        outputs = self._served.run(self._served.as_input(images), wanted)
        channels = np.moveaxis(outputs.pop(EMBEDDING), self._axis, -1)
        return channels.reshape(len(images), -1, channels.shape[-1]).mean(axis=1), outputs


def keep_network_(file: Path) -> KeptNetwork | None:
    """Add the embedding to the outputs of an ONNX file, where it has one, and open the file.

    Args:
        file: The file, a copy of what is served.

    Returns:
        The network; None, which is told, where it cannot be run from this file alone.
    """
    try:
        made = with_embedding(onnx.load(file, load_external_data=False))
        if made is not None:
            write_atomic(file, lambda opened: opened.write(made.SerializeToString()))
        return KeptNetwork(file)
    except BadInput as error:
        log.warning(f"embeddings and attributions are not watched: {error}")
        return None
