"""Rooms offer names that are imported when they are used."""

import ast
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIGHT = ("regrow", "regrow.data", "regrow.models", "regrow.pipelines")
HEAVY = {"torch", "pytorch_lightning", "torchvision", "onnxruntime", "scipy", "jsonargparse"}


def _rooms() -> list[str]:
    """Return the packages that offer names lazily."""
    rooms = []
    for file in sorted(ROOT.glob("[!.]*/**/__init__.py")):
        folder = file.parent.relative_to(ROOT)
        if "lazy(__name__)" in file.read_text():
            rooms.append(".".join(["regrow", *([] if str(folder) == "api" else folder.parts)]))
    return rooms


ROOMS = _rooms()


def _lists(room: str) -> tuple[dict[str, str], list[str]]:
    """Return what type checkers see: the module of each imported name, and `__all__`."""
    file = import_module(room).__file__
    assert file is not None
    branch = next(n for n in ast.parse(Path(file).read_text()).body if isinstance(n, ast.If))
    imports = [node for node in branch.body if isinstance(node, ast.ImportFrom)]
    return {a.name: str(n.module) for n in imports for a in n.names}, import_module(room).__all__


def test_every_room_with_names_is_found() -> None:
    assert {"regrow", "regrow.data", "regrow.metrics", "regrow.models", "regrow.training"} <= {
        *ROOMS
    }
    assert {"regrow.incremental", "regrow.deploy", "regrow.pipelines"} <= {*ROOMS}


@pytest.mark.parametrize("room", ROOMS)
def test_a_name_of_a_room_is_that_of_its_module(room: str) -> None:
    package, (modules, names) = import_module(room), _lists(room)
    assert sorted(names) == sorted([*modules, *(["__version__"] if room == "regrow" else [])])
    for name, module in modules.items():
        assert getattr(package, name) is getattr(import_module(module), name)
        # Else the module would take the place of the name once something imports it.
        assert not (Path(str(package.__file__)).parent / f"{name}.py").exists()
    assert set(names) <= set(dir(package))


@pytest.mark.parametrize("room", ROOMS)
def test_a_name_that_a_room_has_not_is_an_attribute_error(room: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{room}' has no attribute 'Imagination'"):
        _ = import_module(room).Imagination
    with pytest.raises(ImportError, match="cannot import name 'Imagination'"):
        exec(f"from {room} import Imagination")


@pytest.mark.parametrize("room", LIGHT)
def test_a_room_is_imported_without_what_is_heavy(room: str) -> None:
    code = f"import sys, {room}; print(*({HEAVY} & sys.modules.keys()))"
    line = [sys.executable, "-c", code]
    printed = subprocess.run(line, check=True, capture_output=True, text=True).stdout
    assert printed.split() == []


def test_names_come_from_an_archive_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        text = "if TYPE_CHECKING:\n    from packed.inner import Thing\n"
        head = "from typing import TYPE_CHECKING\nfrom regrow.lazy import lazy\n"
        tail = "__getattr__, __dir__ = lazy(__name__)\n__all__ = ['Thing']\n"
        archive.writestr("packed/__init__.py", head + text + tail)
        archive.writestr("packed/inner.py", "class Thing: ...\n")
    monkeypatch.syspath_prepend(tmp_path / "packed.zip")
    packed = import_module("packed")
    assert "packed.inner" not in sys.modules
    assert packed.Thing is import_module("packed.inner").Thing
