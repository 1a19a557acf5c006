"""Training jobs as the platform runs them: processes that know nothing but their base folder."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from children import Child, finished

from regrow.data.stored import Stored
from regrow.files import file_hash
from regrow.guard import ExitCode
from regrow.models.checkpoint import load, read
from regrow.pipelines import sagemaker
from regrow.scripts import sagemaker_entry

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "sagemaker_entry.py"
SHORT = {"config": "classification", "fit.epochs": "1", "data.batch_size": "8"}
# 24 images, 4 in a batch, 8 epochs.
LONG = {"config": "classification", "fit.epochs": "8", "data.batch_size": "4"}
LONG_STEPS = 48
CHANNELS = (("train", "train"), ("validation", "val"), ("test", "test"))
Job = subprocess.Popen[str] | Child
toolkit = pytest.mark.skipif(
    importlib.util.find_spec("sagemaker_training") is None,
    reason="no SageMaker training toolkit; install regrow[sagemaker]",
)


def make_job(
    base: Path,
    images: Path,
    hyperparameters: dict[str, str],
    model: Path | None = None,
    channels: Sequence[tuple[str, str]] = CHANNELS,
) -> Path:
    """Lay out a job's files as the platform does, and give the base folder."""
    config, data = base / "input" / "config", base / "input" / "data"
    for place in (config, data, base / "model", base / "output" / "data", base / "checkpoints"):
        place.mkdir(parents=True)
    for channel, split in channels:
        shutil.copytree(images / split, data / channel)
    if model is not None:
        (data / "model").mkdir()
        with tarfile.open(data / "model" / "model.tar.gz", "w:gz") as archive:
            for file in model.iterdir():
                archive.add(file, file.name)
    described = {folder.name: {"TrainingInputMode": "File"} for folder in data.iterdir()}
    resources = {"current_host": "localhost", "hosts": ["localhost"]}
    for name, content in (
        ("hyperparameters", hyperparameters),
        ("inputdataconfig", described),
        ("resourceconfig", resources),
    ):
        (config / f"{name}.json").write_text(json.dumps(content))
    return base


def environment(base: Path, **more: str) -> dict[str, str]:
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("SM_", "SAGEMAKER_"))}
    # Small nets: threads would wait for each other, and for other tests.
    return kept | {"SAGEMAKER_BASE_DIR": str(base), "OMP_NUM_THREADS": "1", **more}


def finish(base: Path, *line: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a job to its end, away from the checkout."""
    if not line:
        return finished(SCRIPT, [], base, environment(base, **more))
    return subprocess.run(
        line,
        cwd=base,
        env=environment(base, **more),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def wait_for(is_so: Callable[[], Any], process: Job | None = None) -> None:
    """Wait until something holds, while a process runs."""
    end = time.monotonic() + 90
    while not is_so():
        assert process is None or process.poll() is None, "the process ended too early"
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def report(base: Path) -> dict[str, Any]:
    return json.loads((base / "model" / "report.json").read_text())


def whole_steps(run: Path) -> int:
    """Check that no file of a run is half-written; give the steps of the last checkpoint."""
    assert not [file for file in run.iterdir() if file.name.startswith(".")]
    steps = {file.name: read(file)["global_step"] for file in run.glob("*.ckpt")}
    assert steps["last.ckpt"] == max(steps.values())
    return steps["last.ckpt"]


@pytest.fixture
def images(folder: Callable[..., Path]) -> Path:
    return folder("images", ("red", "green"))


@pytest.fixture
def started() -> Iterator[Callable[..., Job]]:
    """Return a function that starts a job; what still runs at the end is killed."""
    processes: list[Job] = []

    def start(base: Path, *line: str, **more: str) -> Job:
        process: Job
        own = environment(base, **more)
        if line:
            pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
            process = subprocess.Popen(line, cwd=base, env=own, text=True, **pipes)
        else:
            process = Child(SCRIPT, [], base, own)
        processes.append(process)
        return process

    yield start
    for process in processes:
        if isinstance(process, Child):
            process.end()
        else:
            process.kill()
            process.communicate()


def test_jobs_train_deliver_and_grow(
    images: Path, folder: Callable[..., Path], tmp_path: Path
) -> None:
    first = make_job(tmp_path / "first", images, SHORT)
    # As the toolkit calls a script: the hyperparameters once more, as words.
    done = finish(first, sys.executable, "--", str(SCRIPT), "--config", "x", "--fit.epochs", "9")
    assert done.returncode == 0, done.stderr
    model = first / "model"
    names = ["best.ckpt", "model.onnx", "predictions.png", "report.json", "report.md"]
    assert sorted(file.name for file in model.iterdir()) == names
    figures = report(first)
    assert figures["classes"] == ["green", "red"]
    assert figures["onnx"]["is_equal"] is True
    assert figures["data"]["diff"] is None
    # Each channel is a split, with 12 images of two classes.
    assert figures["onnx"]["num_images"] == 24
    assert "on 24 validation images" in (model / "report.md").read_text()
    task = load(model / "best.ckpt")
    session = onnxruntime.InferenceSession(model / "model.onnx", providers=["CPUExecutionProvider"])
    pixels = task.example_images(3)
    with torch.no_grad():
        expected = task(pixels)["logits"].softmax(1)
    (given,) = session.run(["probabilities"], {"images": pixels.numpy()})
    torch.testing.assert_close(torch.from_numpy(given), expected, atol=1e-4, rtol=0)
    assert not (first / "output" / "failure").exists()

    grown = folder("grown", ("blue", "green", "red"))
    second = make_job(tmp_path / "second", grown, SHORT, model)
    command = Path(sys.executable).with_name("regrow-sagemaker")
    done = finish(second, str(command))
    assert done.returncode == 0, done.stderr
    figures = report(second)
    assert figures["parent"] == file_hash(model / "best.ckpt")
    assert figures["classes"] == ["green", "red", "blue"]
    # 12 images of each split are new.
    assert figures["data"]["diff"]["text"] == "+36 images, +1 class"
    assert "+36 images, +1 class" in done.stdout
    assert sorted(file.name for file in (second / "model").iterdir()) == names


def test_a_job_on_new_images_alone_replays_the_memory_of_an_earlier_one(
    images: Path,
    folder: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop_after: Callable[..., None],
) -> None:
    monkeypatch.setattr(sagemaker, "stop_with_parent", lambda: None)
    first = make_job(tmp_path / "first", images, SHORT | {"replay": "0.5"})
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(first))
    assert sagemaker_entry.main([]) == 0
    # Of 24 images in each split.
    kept = Counter(item.split for item in Stored().read(first / "model" / "memory").items)
    assert kept == {"train": 12, "val": 12, "test": 12}

    blue = folder("blue", ("blue",))
    second = make_job(tmp_path / "second", blue, SHORT | {"replay": "12"}, first / "model")
    # The old images are nowhere but in the archive.
    for gone in (images, first):
        shutil.rmtree(gone)
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(second))
    stop_after(monkeypatch, 1)
    assert sagemaker_entry.main([]) == 143
    assert not (second / "model" / "memory").exists()
    # It goes on in a fresh container, where nothing is unpacked yet.
    shutil.rmtree(second / "earlier_job")
    assert sagemaker_entry.main([]) == 0
    assert report(second)["classes"] == ["green", "red", "blue"]
    page = (second / "model" / "report.md").read_text()
    assert "A memory of 12 images stood for those" in page
    listed = json.loads((second / "model" / "memory" / "snapshot.json").read_text())
    # 12 blue images are new, and the memory stands for 24.
    assert listed["stands_for"] == 36
    assert {entry["target"] for entry in listed["items"]} == {"green", "red", "blue"}


def test_a_hyperparameter_that_is_none_ends_with_2_and_is_named(
    images: Path, tmp_path: Path
) -> None:
    base = make_job(tmp_path / "job", images, SHORT | {"fit.epohcs": "3"})
    done = finish(base)
    assert done.returncode == 2
    failure = (base / "output" / "failure").read_text()
    line = failure.splitlines()[0]
    assert "fit.epohcs" in line
    assert done.stderr.splitlines()[-1] == f"error: {line}"
    assert "Traceback" not in done.stderr
    assert not list((base / "model").iterdir())


def test_a_stopped_job_goes_on_where_it_was(
    images: Path, tmp_path: Path, started: Callable[..., Job]
) -> None:
    base = make_job(tmp_path / "job", images, LONG)
    run = base / "checkpoints" / "run"
    process = started(base)
    wait_for((run / "last.ckpt").exists, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "Traceback" not in errors
    assert not (base / "output" / "failure").exists()
    assert not (base / "model" / "model.onnx").exists()
    steps = whole_steps(run)
    assert 0 < steps < LONG_STEPS

    done = finish(base)
    assert done.returncode == 0, done.stderr
    assert f"--resume={run / 'last.ckpt'}" in done.stdout
    assert whole_steps(run) == LONG_STEPS
    assert [folder.name for folder in (base / "checkpoints").iterdir()] == ["run"]
    assert (base / "model" / "model.onnx").is_file()


@pytest.mark.slow
def test_of_two_processes_one_delivers(images: Path, tmp_path: Path) -> None:
    two = {"fit.devices": "2", "fit.strategy": "ddp", "fit.accelerator": "cpu"}
    base = make_job(tmp_path / "job", images, SHORT | {"data.batch_size": "4"} | two)
    done = finish(base)
    assert done.returncode == 0, done.stderr
    # 24 images, 4 in a batch, 2 processes.
    assert whole_steps(base / "checkpoints" / "run") == 3
    assert report(base)["onnx"]["num_images"] == 24
    assert (base / "model" / "model.onnx").is_file()
    assert not (base / "output" / "failure").exists()


def test_help_explains_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    assert sagemaker_entry.main(["--help"]) == 0
    printed = capsys.readouterr().out
    for word in (
        "SAGEMAKER_BASE_DIR",
        "hyperparameters.json",
        "`config`",
        "scripts/train.py",
        "validation",
        "model.tar.gz",
        "checkpoints",
        "output/failure",
        "SAGEMAKER_TRAINING_MODULE=regrow.scripts.sagemaker_entry:train_module",
    ):
        assert word in printed, word


def test_a_hyperparameter_called_help_is_no_call_for_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The toolkit repeats hyperparameters as words, and would take the text for a training."""
    base = make_job(tmp_path / "job", tmp_path / "none", {"help": "1"} | SHORT, channels=())
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(base))
    monkeypatch.setattr(sagemaker, "stop_with_parent", lambda: None)
    assert sagemaker_entry.main(["--help", "1", "--config", "classification"]) == 2
    assert "help: no such option" in capsys.readouterr().err


def test_a_module_of_the_toolkit_ends_with_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    monkeypatch.setattr(sagemaker, "stop_with_parent", lambda: None)
    with pytest.raises(ExitCode, match="exit code 2") as raised:
        sagemaker_entry.train_module()
    assert raised.value.errno == 2
    assert (tmp_path / "output" / "failure").read_text().startswith("hyperparameter config")
    monkeypatch.setattr(sagemaker, "run_container", lambda *given: None)
    sagemaker_entry.train_module()


def toolkit_line() -> list[str]:
    return [sys.executable, "-m", "sagemaker_training.cli.train"]


def with_code(base: Path) -> Path:
    """Put the script where the toolkit expects the user's code."""
    (base / "code").mkdir()
    shutil.copyfile(SCRIPT, base / "code" / SCRIPT.name)
    return base


@toolkit
def test_the_toolkit_runs_the_script(images: Path, tmp_path: Path) -> None:
    values = SHORT | {"sagemaker_program": SCRIPT.name, "data.size": "[32, 32]"}
    base = with_code(make_job(tmp_path / "job", images, values))
    done = finish(base, *toolkit_line())
    assert done.returncode == 0, done.stderr
    assert (base / "output" / "success").is_file()
    assert not (base / "output" / "failure").exists()
    assert report(base)["onnx"]["is_equal"] is True
    assert (base / "model" / "model.onnx").is_file()


@toolkit
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["script", "module"])
def test_the_toolkit_keeps_the_cause_of_a_failure(images: Path, tmp_path: Path, mode: str) -> None:
    values = SHORT | {"config": "smaple", "sagemaker_program": SCRIPT.name}
    base = with_code(make_job(tmp_path / "job", images, values))
    module = {"SAGEMAKER_TRAINING_MODULE": "regrow.scripts.sagemaker_entry:train_module"}
    done = finish(base, *toolkit_line(), **(module if mode == "module" else {}))
    # It makes any failure of a script 1.
    assert done.returncode == (2 if mode == "module" else 1)
    failure = (base / "output" / "failure").read_text()
    assert failure.startswith("hyperparameter config: there is no file smaple")
    assert not (base / "output" / "success").exists()


@toolkit
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a signal of Linux")
def test_a_script_ends_well_when_the_toolkit_is_killed(
    images: Path, tmp_path: Path, started: Callable[..., Job]
) -> None:
    base = with_code(make_job(tmp_path / "job", images, LONG | {"sagemaker_program": SCRIPT.name}))
    run = base / "checkpoints" / "run"
    process = started(base, *toolkit_line())
    wait_for((run / "last.ckpt").exists, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1
    child = Path(f"/proc/{children[0]}/cmdline")
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=30)
    # Whoever inherits it may never collect it: then it stays, without a command line.
    wait_for(lambda: not child.exists() or not child.read_bytes())
    assert 0 < whole_steps(run) < LONG_STEPS
    assert (base / "model" / "best.ckpt").is_file()
    assert not (base / "model" / "model.onnx").exists()
