"""An Args section names the arguments of the signature: all of them, in order, and no others.

pydoclint compares them. It also wants sections where a docstring of ours has none on purpose: the
first line says what is returned, and arguments that need no word get none. Those findings do not
count.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = sorted(path.parent.name for path in ROOT.glob("[!.]*/__init__.py"))
# Arguments: too few, too many, others, in another order; a constructor's docstring of its own.
COUNTED = re.compile(r"^\s+(\d+): (DOC(?:10[1234]|30[12])): (.*)")


def find_drift(folders: list[str], root: Path) -> list[str]:
    """Return what pydoclint says of Args sections that do not match."""
    config = f"--config={ROOT / 'pyproject.toml'}"
    line = [sys.executable, "-m", "pydoclint.main", "--quiet", config, *folders]
    shown = subprocess.run(line, cwd=root, capture_output=True, text=True, check=False)
    assert "Traceback" not in shown.stderr, shown.stderr
    found, file = [], ""
    for line in (shown.stdout + shown.stderr).splitlines():
        if line.endswith(".py"):
            file = line.strip()
        counted = COUNTED.match(line)
        if counted and _has_args(root / file, int(counted[1])):
            found.append(f"{file}:{counted[1]}: {counted[2]} {counted[3]}")
    return found


def _has_args(file: Path, line: int) -> bool:
    """Whether the docstring that is about a line has an Args section."""
    inside = [
        node
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and min([node.lineno, *(d.lineno for d in node.decorator_list)]) <= line
        and line <= (node.end_lineno or node.lineno)
    ]
    node = max(inside, key=lambda node: node.lineno)
    if getattr(node, "name", "") == "__init__" and not ast.get_docstring(node):
        node = max((n for n in inside if n is not node), key=lambda node: node.lineno)
    return "Args:\n" in (ast.get_docstring(node) or "")


def test_args_sections_match_signatures() -> None:
    assert len(ROOMS) >= 11
    assert find_drift([*ROOMS, "examples", "benchmarks"], ROOT) == []


CLASS = '''class Net:
    """A network.

    Args:
        width: Channels.
        {second}: Layers.
    """

    def __init__(self, width: int, depth: int) -> None:
        self.width = width
'''


@pytest.mark.parametrize(
    ("second", "codes"), [("depth", []), ("height", ["DOC103"]), ("size: x\n        depth", None)]
)
def test_drift_is_found(second: str, codes: list[str] | None, tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "net.py").write_text(CLASS.format(second=second))
    found = find_drift(["room"], tmp_path)
    if codes is None:
        assert any("DOC102" in line for line in found)
    else:
        assert [line.split()[1] for line in found] == codes
