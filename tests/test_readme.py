"""What the README tells people to type exists."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES = [line.strip() for line in (ROOT / "README.md").read_text().splitlines()]
MAKE = [line.partition("#")[0].strip() for line in LINES if line.startswith("make ")]
PYTHON = [line for line in LINES if line.startswith("python scripts/")]


@pytest.mark.parametrize("line", MAKE)
def test_make_line_is_a_target(line: str) -> None:
    words = shlex.split(line)
    subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)


def test_there_are_lines_to_check() -> None:
    assert len(MAKE) >= 3
    assert len(PYTHON) >= 5


@pytest.mark.parametrize("line", PYTHON)
def test_script_and_config_of_a_line_exist(line: str) -> None:
    for word in shlex.split(line):
        if word.startswith(("scripts/", "configs/")):
            assert (ROOT / word).is_file(), line


@pytest.mark.parametrize(
    "script", sorted((ROOT / "scripts").glob("[a-z]*.py")), ids=lambda p: p.stem
)
def test_help_explains_every_knob(script: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(script), "--help"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    options = re.findall(r"^  (--[\w.]+)(?: [^\n]*)?$", done.stdout, re.MULTILINE)
    assert "--config" in done.stdout
    assert options
