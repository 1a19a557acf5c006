"""Keeping the served graph for the monitor, with the embedding as one more output."""

from pathlib import Path

import onnx

from regrow.errors import BadInput
from regrow.files import write_atomic
from regrow.logs import log
from regrow.models.onnx.embedding import with_embedding
from regrow.pipelines.monitoring.network import KeptNetwork


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
