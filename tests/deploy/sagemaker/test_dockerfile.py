"""The container's Dockerfile keeps to the platform's contract, and its steps make what it says."""

import http.client
import io
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

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
    assert not _all("CMD")  # `train`, `serve` or `monitor` stands there
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


# The steps, without Docker.

INIT = ["unshare", "--pid", "--fork", "--kill-child"]  # the first process of a namespace of its own
JOB = {"config": "classification", "fit.epochs": "1", "data.batch_size": "4"}
COLORS = {"red": (200, 40, 40), "green": (40, 200, 40)}


class Built:
    """What the steps make of a fresh environment in a folder, in the place of an image.

    Args:
        folder: The folder, the root of the image.
    """

    def __init__(self, folder: Path) -> None:
        self._root, self._bin = folder, folder / "environment" / "bin"
        subprocess.run([sys.executable, "-m", "venv", self._bin.parent], check=True)
        kept = {n: v for n, v in os.environ.items() if n not in ("PYTHONPATH", "VIRTUAL_ENV")}
        self.environment = {**kept, "PATH": f"{self._bin}:/usr/bin:/bin"}
        for word, argument in _instructions():
            {"ENV": self._env, "COPY": self._copy, "RUN": self._run}.get(word, str)(argument)
        self.entrypoint = [str(self._bin / word) for word in json.loads(_all("ENTRYPOINT")[0])]

    def _env(self, argument: str) -> None:
        pairs = [pair.partition("=") for pair in shlex.split(argument)]
        # What pip has downloaded before may be used here.
        self.environment |= {name: v for name, _, v in pairs if name != "PIP_NO_CACHE_DIR"}

    def _copy(self, argument: str) -> None:
        source, target = argument.split()
        lines = (ROOT / ".dockerignore").read_text().splitlines()
        ignored = {line for line in lines if line[:1] not in ("", "#")}

        def left_out(folder: str, names: list[str]) -> list[str]:
            at_root = Path(folder) == ROOT
            return [n for n in names if f"**/{n}" in ignored or (at_root and n in ignored)]

        shutil.copytree(ROOT / source, self._at(target), ignore=left_out)

    def _run(self, argument: str) -> None:
        line = argument.replace(" /opt/", f" {self._at('/opt')}/")
        subprocess.run(["sh", "-c", line], check=True, cwd=self._root, env=self.environment)

    def _at(self, path: str) -> Path:
        return self._root / path.removeprefix("/")


def _job(base: Path) -> Path:
    """Lay out a training job on a few squares of two colours, and return its base folder."""
    for split in ("train", "validation", "test"):
        for name, color in COLORS.items():
            (base / "input" / "data" / split / name).mkdir(parents=True)
            for number in range(8):
                pixels = Image.new("RGB", (32, 32), tuple(v + number for v in color))
                pixels.save(base / "input" / "data" / split / name / f"{number}.png")
    channels = {split: {"TrainingInputMode": "File"} for split in ("train", "validation", "test")}
    resources = {"current_host": "localhost", "hosts": ["localhost"]}
    contents = {"hyperparameters": JOB, "inputdataconfig": channels, "resourceconfig": resources}
    (base / "input" / "config").mkdir()
    for name, content in contents.items():
        (base / "input" / "config" / f"{name}.json").write_text(json.dumps(content))
    return base


def _ask(port: int, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": "image/png"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def built(tmp_path: Path) -> Iterator[Built]:
    yield Built(tmp_path)
    shutil.rmtree(tmp_path)  # gigabytes


@pytest.mark.slow
@pytest.mark.timeout(7200)  # gigabytes are downloaded
def test_the_steps_make_an_environment_that_trains_a_model_and_serves_it(
    built: Built, tmp_path: Path, port: int
) -> None:
    base = _job(tmp_path / "ml")
    built.environment |= {"SAGEMAKER_BASE_DIR": str(base), "SAGEMAKER_BIND_TO_PORT": str(port)}
    own = {"cwd": tmp_path, "env": built.environment, "text": True}
    helped = subprocess.run([*built.entrypoint, "--help"], check=True, capture_output=True, **own)
    assert "docker run image serve" in helped.stdout
    trained = subprocess.run([*built.entrypoint, "train"], check=False, capture_output=True, **own)
    assert trained.returncode == 0, trained.stderr
    assert {"best.ckpt", "model.onnx"} <= {file.name for file in (base / "model").iterdir()}
    # What training has delivered is served, by the first process where the system allows that.
    is_init = shutil.which("unshare") and subprocess.run([*INIT, "true"], check=False).returncode
    line = [*(INIT if is_init == 0 else []), *built.entrypoint, "serve"]
    with subprocess.Popen(line, stderr=subprocess.PIPE, **own) as process:
        try:
            _check_endpoint(process, port, is_init == 0)
        finally:
            process.kill()


def _check_endpoint(process: "subprocess.Popen[str]", port: int, is_init: bool) -> None:
    for _ in range(600):
        try:
            assert _ask(port, "GET", "/ping") == (200, b"")
            break
        except OSError:
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
    picture = io.BytesIO()
    Image.new("RGB", (40, 30), COLORS["red"]).save(picture, "PNG")
    status, content = _ask(port, "POST", "/invocations", picture.getvalue())
    assert status == 200
    assert set(json.loads(content)["predictions"][0]["scores"]) == set(COLORS)
    server = process.pid
    if is_init:
        server = int(Path(f"/proc/{server}/task/{server}/children").read_text())
        assert Path(f"/proc/{server}/status").read_text().count(f"NSpid:\t{server}\t1\n") == 1
    os.kill(server, signal.SIGTERM)
    assert process.wait(30) == 0
