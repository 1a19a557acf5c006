"""Both installs have every module, config and command: the wheel, and the one that is tested."""

import configparser
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SHIPPED = (".py", ".yaml", ".html", "py.typed")
# What a user types first, away from the checkout.
FACE = """
import sys, regrow
from regrow.data import GrowingData, ImageFolder
from regrow.models import Classification, Detection, Segmentation, load
from regrow.training import Fit, evaluate
from regrow.prune import Taylor, cut_, find_groups
from regrow.pipelines import run_export, run_lineage, run_pruning, run_server, run_training
from regrow.incremental import Gate, Growth
from regrow.deploy import OnnxModel, detections
from regrow.metrics import Budget
from regrow.monitor import Event, ShiftDetector
assert {regrow.load, regrow.GrowingData, regrow.run_training} == {load, GrowingData, run_training}
print(regrow.__version__, regrow.__file__)
"""


def outputs(folder: Path, *line: str, path: str | None = os.environ.get("PYTHONPATH")) -> list[str]:
    """Return the words that a line of Python prints in a folder where no room lies."""
    environment = {n: v for n, v in os.environ.items() if n != "PYTHONPATH"}
    environment |= {} if path is None else {"PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, *line],
        cwd=folder,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.split()


def test_the_version_is_that_of_the_project_and_names_are_there(tmp_path: Path) -> None:
    version, _ = outputs(tmp_path, "-c", FACE)
    assert version == PROJECT["project"]["version"]


@pytest.mark.parametrize("command", PROJECT["project"]["scripts"])
def test_a_command_prints_its_help(command: str, tmp_path: Path) -> None:
    module, _, function = PROJECT["project"]["scripts"][command].partition(":")
    call = f"import sys; from {module} import {function}; sys.exit({function}(['--help']))"
    assert f"scripts/{module.rpartition('.')[2]}.py" in outputs(tmp_path, "-c", call)


@pytest.mark.slow
def test_the_wheel_has_every_module_config_and_command(tmp_path: Path) -> None:
    # From a copy: a build leaves folders beside what it builds.
    source, unpacked = tmp_path / "source", tmp_path / "unpacked"
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
        archive.extractall(unpacked)
    rooms = {folder: name for name, folder in PROJECT["tool"]["setuptools"]["package-dir"].items()}
    wanted = {
        f"{rooms[Path(name).parent.as_posix()].replace('.', '/')}/{Path(name).name}"
        for name in files
        if Path(name).parent.as_posix() in rooms and name.endswith(SHIPPED)
    }
    assert len(wanted) > 200
    assert wanted <= names
    for command, target in commands["console_scripts"].items():
        module, _, function = target.partition(":")
        assert f"{module.replace('.', '/')}.py" in names, command
        assert function == "main"
    assert len(commands["console_scripts"]) == 10
    version, file = outputs(tmp_path, "-c", FACE, path=str(unpacked))
    assert wheel.name.startswith(f"regrow-{version}-")
    assert Path(file).is_relative_to(unpacked)
