"""The file `analysis.json` of SageMaker Clarify: bias metrics and attributions, part by part.

Source: Amazon SageMaker Developer Guide, "Run SageMaker Clarify Processing Jobs". Whoever knows a
part writes it; the parts of others stay. That of the baseline is what the hours are held to, and a
person may edit it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regrow.errors import BadInput
from regrow.files import SMALL, read_json, write_json

ANALYSIS = "analysis.json"
VERSION = "1.0"


def read_analysis(folder: Path) -> dict[str, Any]:
    """Return the parts of the analysis in a folder by their names; none where it has no file.

    Raises:
        BadInput: If the file cannot be read, or it or a part of it is no object.
    """
    file = folder / ANALYSIS
    if not file.is_file():
        return {}
    content = read_json(file, SMALL)
    parts = content if isinstance(content, dict) else {"the file": content}
    for name, part in parts.items():
        if name != "version" and not isinstance(part, dict):
            raise BadInput(
                f"{file}: {name[:80]} is {str(part)[:80]!r}, it must be an object; correct it, or "
                "make it again with scripts/monitor.py baseline"
            )
    return {name: part for name, part in parts.items() if name != "version"}


def write_analysis(folder: Path, parts: Mapping[str, Any]) -> None:
    """Write parts of the analysis in a folder; others that its file has stay.

    Args:
        folder: The folder, of a baseline or of an hour.
        parts: The parts by SageMaker's names, such as `explanations`; nothing is written of none.

    Raises:
        BadInput: If the file that is there cannot be read.
    """
    if parts:
        known = read_analysis(folder)
        write_json(folder / ANALYSIS, {"version": VERSION, **known, **parts}, indent=2)
