"""The metadata of an exported graph: what a runtime needs to know besides, as JSON by name."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from regrow.errors import BadInput

InputType = Literal["uint8", "float32"]
PREFIX = "regrow."
PRECISION = "precision"  # in the metadata: `int8` of a quantised graph; float32 where it is absent
EMBEDDING = "embedding"  # the name of an output, see `embedding`, and in the metadata of its layout


def metadata(entries: Mapping[str, str]) -> dict[str, Any]:
    """Read regrow's metadata of an ONNX file, as `regrow.models.onnx.graph.export_graph` writes it.

    Args:
        entries: All metadata of the file, text by name.

    Returns:
        The values by name, without the prefix `regrow.`; empty if regrow did not write the file.

    Raises:
        BadInput: If a value is not JSON.
    """
    found = {name: text for name, text in entries.items() if name.startswith(PREFIX)}
    try:
        return {name.removeprefix(PREFIX): json.loads(text) for name, text in found.items()}
    except ValueError as error:
        raise BadInput(
            f"the metadata of the ONNX file is not JSON ({error}); export again"
        ) from error
