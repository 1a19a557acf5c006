"""Lazy re-exports: a room offers names of its modules and imports those when they are used."""

import ast
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any


def lazy(room: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of a package which imports its names when asked.

    The `__init__` of the package lists them as everybody does, by imports and `__all__`; the
    imports stand below `if TYPE_CHECKING:`, where type checkers and editors follow them and Python
    does not. This function reads from there which module has a name.

    Source: PEP 562, and the stubs of scientific Python's `lazy_loader` (SPEC 1).

    Args:
        room: The name of the package.
    """
    package = sys.modules[room]
    modules = cache(lambda: _modules(_source(room)))

    def get(name: str) -> Any:
        if name not in package.__all__:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        value = getattr(import_module(modules()[name]), name)
        setattr(package, name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(package), *package.__all__})

    return get, names


def _source(room: str) -> str:
    """Return the text of a package's `__init__`, also where it lies in an archive."""
    spec = sys.modules[room].__spec__
    loader: Any = spec.loader if spec is not None else None
    return loader.get_source(room) or ""


def _modules(source: str) -> dict[str, str]:
    """Return the module of each name that a text imports."""
    return {
        alias.name: node.module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module is not None
        for alias in node.names
    }
