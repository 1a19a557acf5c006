"""The layout holds: every top-level package ships, and imports run one way."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOWER = {"data", "models"}
MAY_IMPORT = {
    "data": set(),
    "models": {"data"},
    "incremental": LOWER,
    "prune": LOWER,
    "deploy": LOWER,
    "scripts": LOWER | {"incremental", "prune", "deploy", "configs"},
    "configs": set(),
}


def test_every_package_ships() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = project["tool"]["setuptools"]["package-dir"]
    assert set(folders.values()) == {f.parent.name for f in ROOT.glob("*/__init__.py")}
    assert set(folders.values()) == set(MAY_IMPORT)
    assert set(project["tool"]["setuptools"]["packages"]) == set(folders)


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_imports_run_one_way(room: str) -> None:
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                names = [node.module]
                if node.module == "regrow":
                    names = [f"regrow.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                if name.startswith("regrow."):
                    assert name.split(".")[1] in MAY_IMPORT[room] | {room}, f"{file}: {name}"


def test_no_script_is_named_like_a_library() -> None:
    import sys

    for script in (ROOT / "scripts").glob("*.py"):
        assert script.stem not in sys.stdlib_module_names
        assert script.stem not in {"torch", "onnx", "timm", "lightning", "models", "data"}
