"""The layout holds: every folder of code ships, and imports run one way."""

import ast
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_LINES, MAX_FILES = 400, 16
NO_PACKAGES = {"tests", "benchmarks", "docs", "examples"}
NETWORK = {"", "data", "metrics", "models"}
TRAINED = NETWORK | {"reporting", "training"}
# A room and the rooms that it may import besides itself; `` is the package `regrow`, in `api/`.
# A sub-room that has no line here is part of its room. What `import regrow` offers comes from all
# rooms, and is imported when it is used.
MAY_IMPORT = {
    "configs": set(),
    "": set(),
    "data": {""},
    "metrics": {"", "data"},
    "models": {"", "data", "metrics"},
    "reporting": NETWORK,
    "training": NETWORK | {"reporting"},
    "incremental": TRAINED,
    "prune": TRAINED,
    "deploy": TRAINED,
    "monitor": TRAINED,
    "pipelines": TRAINED | {"incremental", "prune", "deploy", "monitor", "configs"},
    "pipelines.experiments": TRAINED | {"incremental", "prune", "deploy", "pipelines"},
    "scripts": {""},
}


def _packages() -> dict[str, str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return project["tool"]["setuptools"]["package-dir"]


def _sources() -> dict[str, Path]:
    """Return the file of each module that ships, by its name."""
    return {
        name if file.stem == "__init__" else f"{name}.{file.stem}": file
        for name, folder in _packages().items()
        for file in (ROOT / folder).glob("*.py")
    }


def _room_of(module: str) -> str:
    """Return the room of a module: the longest of those whose name it begins with."""
    names = module.split(".")[1:]
    found = [".".join(names[:count]) for count in range(len(names), -1, -1)]
    return next(name for name in found if name in MAY_IMPORT)


def _imported(file: Path) -> list[str]:
    """Return the modules of ours that a file imports, or names out of them."""
    names = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if name.split(".")[0] == "regrow"]


def test_every_module_has_its_test_file() -> None:
    """A test file stands where its module does, so that one finds the other."""
    own = {
        file.relative_to(ROOT) for name, file in _sources().items() if "__init__" not in file.name
    }
    ours = [file for file in own if file.parts[0] not in ("configs", "scripts")]
    absent = {
        file.as_posix()
        for file in ours
        if not (ROOT / "tests" / file.parent / f"test_{file.name}").is_file()
    }
    assert absent == set()


def test_every_package_ships() -> None:
    folders = {
        file.parent.relative_to(ROOT).as_posix()
        for file in ROOT.glob("[!.]*/**/__init__.py")
        if file.relative_to(ROOT).parts[0] not in NO_PACKAGES
    }
    packages = _packages()
    assert set(packages.values()) == folders
    assert packages == {
        "regrow" if folder == "api" else f"regrow.{folder.replace('/', '.')}": folder
        for folder in folders
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(project["tool"]["setuptools"]["packages"]) == set(packages)


def test_rooms_and_files_stay_small() -> None:
    sources = _sources()
    assert len(sources) > 200
    long = {name: len(file.read_text().splitlines()) for name, file in sources.items()}
    assert {name: lines for name, lines in long.items() if lines > MAX_LINES} == {}
    rooms = Counter(file.parent for file in sources.values() if file.stem != "__init__")
    assert {str(room): count for room, count in rooms.items() if count > MAX_FILES} == {}


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_imports_run_one_way(room: str) -> None:
    files = [f for name, f in _sources().items() if _room_of(name) == room and name != "regrow"]
    assert files
    for file in files:
        for name in _imported(file):
            assert _room_of(name) in MAY_IMPORT[room] | {room}, f"{file}: {name}"


def test_modules_import_modules_and_no_names_of_a_room() -> None:
    """What a room offers is for users: within, it would hide which module needs which."""
    sources, packages = _sources(), set(_packages()) - {"regrow.data.formats"}
    for name, file in sources.items():
        if file.stem != "__init__":
            for found in _imported(file):
                assert found in sources or found.rpartition(".")[0] not in packages, (name, found)


def test_only_a_room_has_imports_for_type_checkers() -> None:
    for file in _sources().values():
        assert file.stem == "__init__" or "\nif TYPE_CHECKING:" not in file.read_text(), file


def _refuse_circles(below: dict[str, set[str]]) -> None:
    left = dict(below)
    while left:
        lowest = [name for name, others in left.items() if not others & left.keys()]
        assert lowest, f"these import each other in a circle: {sorted(left)}"
        for name in lowest:
            del left[name]


def test_rooms_have_no_circle() -> None:
    _refuse_circles(MAY_IMPORT)


def test_modules_have_no_circle() -> None:
    sources = _sources()
    packages = set(_packages())
    _refuse_circles(
        {
            name: {
                module
                for found in _imported(file)
                for module in (found, found.rpartition(".")[0])
                if module in sources and module not in packages
            }
            for name, file in sources.items()
            if name not in packages
        }
    )


def test_no_script_is_named_like_a_library() -> None:
    for script in (ROOT / "scripts").glob("*.py"):
        assert script.stem not in sys.stdlib_module_names
        assert script.stem not in {"torch", "onnx", "timm", "lightning", "models", "data"}
