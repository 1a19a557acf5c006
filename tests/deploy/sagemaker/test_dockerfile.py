"""The container's Dockerfile keeps to the platform's contract."""

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FILE = ROOT / "deploy" / "sagemaker" / "Dockerfile"


def _instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile and their arguments, lines joined."""
    text = re.sub(r"^\s*#.*\n", "", FILE.read_text(), flags=re.MULTILINE)
    joined = re.sub(r"\\\n\s*", " ", text)
    lines = [line.strip() for line in joined.splitlines() if line.strip()]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


def _all(name: str) -> list[str]:
    return [argument for word, argument in _instructions() if word == name]


def test_instructions_are_known() -> None:
    known = {"FROM", "ENV", "COPY", "RUN", "LABEL", "EXPOSE", "ENTRYPOINT"}
    assert {word for word, _ in _instructions()} == known


def test_the_entrypoint_is_our_command_in_exec_form_and_takes_the_word() -> None:
    (entry,) = _all("ENTRYPOINT")
    words = json.loads(entry)  # exec form is JSON; in shell form signals end at the shell
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert words == ["regrow-sagemaker"]
    assert words[0] in project["scripts"]
    assert not _all("CMD")  # `train` or `serve` stands there
    assert not _all("STOPSIGNAL")


def test_one_base_of_a_version_that_regrow_supports() -> None:
    (base,) = _all("FROM")
    name, _, tag = base.partition(":")
    assert name == "python"
    found = re.fullmatch(r"(\d+)\.(\d+)\.\d+-slim-\w+", tag)
    assert found is not None, "a tag that does not move"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    least = tuple(map(int, project["requires-python"].removeprefix(">=").split(".")))
    assert tuple(map(int, found.groups())) >= least


def test_what_is_installed_is_pinned_and_there() -> None:
    (run,) = _all("RUN")
    constraint = re.search(r"--constraint /opt/regrow/(\S+)", run)
    assert constraint is not None
    assert (ROOT / constraint[1]).is_file()
    # Without the extra `sagemaker`: the platform's toolkit has to be compiled, and is not used.
    assert run.split()[-1] == "/opt/regrow"
    assert _all("COPY") == [". /opt/regrow"]


def test_many_models_and_the_platforms_port_are_announced() -> None:
    labels = dict(pair.split("=") for label in _all("LABEL") for pair in label.split())
    prefix = "com.amazonaws.sagemaker.capabilities"
    assert labels[f"{prefix}.multi-models"] == "true"
    assert labels[f"{prefix}.accept-bind-to-port"] == "true"
    assert _all("EXPOSE") == ["8080"]


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "pyproject.toml", "constraints.txt"])
def test_what_the_build_needs_is_not_ignored(name: str) -> None:
    ignored = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] != "#"
    ]
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    needed = {name, *(folder.partition("/")[0] for folder in packages["package-dir"].values())}
    assert not needed & set(ignored)
