"""The wheel holds what a checkout does, and installs the commands."""

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("configs", "data", "deploy", "incremental", "models", "prune", "scripts")


@pytest.mark.slow
def test_the_wheel_has_every_module_config_and_command(tmp_path: Path) -> None:
    # From a copy: a build leaves folders beside what it builds.
    source = tmp_path / "source"
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    for name in files:
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    line = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(tmp_path)]
    subprocess.run([*line, str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("regrow-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (listed,) = (name for name in names if name.endswith("entry_points.txt"))
        commands = configparser.ConfigParser()
        commands.read_string(archive.read(listed).decode())
    wanted = {
        f"regrow/{name}"
        for name in files
        if name.startswith(ROOMS) and name.endswith((".py", ".yaml", "py.typed"))
    }
    assert wanted <= names
    for command, target in commands["console_scripts"].items():
        module, _, function = target.partition(":")
        assert f"{module.replace('.', '/')}.py" in names, command
        assert function == "main"
    assert len(commands["console_scripts"]) == 7
