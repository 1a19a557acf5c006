"""The path by which YAML, `data.yaml` and checkpoints name a class, whatever the version."""

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any


def class_path(own: type) -> str:
    """Return the path that names a class: its module, or the sub-room that exports it.

    Rooms export the names that people import (`regrow.data.ImageFolder`); what is written into
    files stays `regrow.data.formats.ImageFolder`, wherever else the class can be had.
    """
    parts = own.__module__.split(".")
    # The sub-room first, then the rooms within it.
    rooms = [".".join(parts[:count]) for count in range(3, len(parts)) if parts[0] == "regrow"]
    exporting = (r for r in rooms if getattr(sys.modules.get(r), own.__qualname__, None) is own)
    return f"{next(exporting, own.__module__)}.{own.__qualname__}"


def with_stable_paths(values: Any) -> Any:
    """Return nested plain data in which each `class_path` of regrow's is the one that stays."""
    if isinstance(values, Mapping):
        named = {name: with_stable_paths(value) for name, value in values.items()}
        path = named.get("class_path")
        if isinstance(path, str) and path.startswith("regrow."):
            module, _, name = path.rpartition(".")
            own = getattr(import_module(module), name)
            named["class_path"] = class_path(own) if isinstance(own, type) else path
        return named
    if isinstance(values, list | tuple):
        return [with_stable_paths(value) for value in values]
    return values
