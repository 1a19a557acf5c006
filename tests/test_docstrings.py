"""An Args section names the arguments of the signature: all of them, in order, and no others."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from docstring_parser import DocstringStyle, parse

ROOT = Path(__file__).parents[1]
ROOMS = sorted(path.parent.name for path in ROOT.glob("[!.]*/__init__.py"))
Documented = ast.ClassDef | ast.FunctionDef


def find_drift(root: Path, folders: list[str]) -> list[str]:
    """Return what has an Args section that does not match its signature."""
    return [
        f"{file.relative_to(root)}:{node.lineno}: {node.name} takes {taken}, and Args has {named}"
        for folder in folders
        for file in sorted((root / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, Documented)
        if (named := _named(node)) and (taken := _taken(node)) is not None
        if (named[-len(taken) :] if _inherits_fields(node) else named) != taken
    ]


def _named(node: Documented) -> list[str]:
    """Return the arguments that a docstring names."""
    found = parse(ast.get_docstring(node) or "", DocstringStyle.GOOGLE)
    return [one.arg_name.lstrip("*") for one in found.params if one.args[0] == "param"]


def _taken(node: Documented) -> list[str] | None:
    """Return the arguments of a function, or of the constructor that a class has in its body."""
    if isinstance(node, ast.ClassDef):
        inits = (n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
        init = next(inits, None)
        return _taken(init) if init is not None else list(_fields(node)) or None
    given = node.args
    every = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
    return [one.arg for one in every if one is not None and one.arg not in ("self", "cls")]


def _inherits_fields(node: Documented) -> bool:
    """Whether a class adds fields to those of a base, which its docstring may name before them."""
    return isinstance(node, ast.ClassDef) and bool(node.bases) and bool(list(_fields(node)))


def _fields(node: ast.ClassDef) -> Iterator[str]:
    """Yield the fields of a dataclass or of a named tuple."""
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            told = ast.unparse(line)
            if "ClassVar" not in told and "init=False" not in told:
                yield line.target.id


def test_args_sections_match_signatures() -> None:
    assert len(ROOMS) >= 11
    assert find_drift(ROOT, [*ROOMS, "examples", "benchmarks"]) == []


CLASS = '''class Net:
    """A network.

    Args:
        width: Channels.
        {second}: Layers.
    """

    def __init__(self, width: int, depth: int) -> None:
        self.width = width
'''
RECORD = '''class Net(NamedTuple):
    """A network.

    Args:
        width: Channels.
        {second}: Layers.
    """

    width: int
    depth: int = 3
'''
FUNCTION = '''def net(width, *, depth=3):
    """Return a network.

    Args:
        width: Channels.
        {second}: Layers.
    """
'''


@pytest.mark.parametrize("text", [CLASS, RECORD, FUNCTION])
@pytest.mark.parametrize(
    ("second", "named"),
    [
        ("depth", None),
        ("height", ["width", "height"]),
        ("size: x\n        depth", ["width", "size", "depth"]),
    ],
)
def test_drift_is_found(text: str, second: str, named: list[str] | None, tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "net.py").write_text(text.format(second=second))
    found = find_drift(tmp_path, ["room"])
    assert len(found) == (0 if named is None else 1)
    assert not found or found[0].endswith(f"takes ['width', 'depth'], and Args has {named}")
