"""A job trains, exports and delivers; another end is written where the platform looks."""

import ctypes
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.utilities.exceptions import SIGTERMException

from regrow.deploy.sagemaker.contract import Container
from regrow.deploy.sagemaker.options import TrainingCall
from regrow.deploy.sagemaker.training_job import run_container, stop_with_parent, write_failure
from regrow.errors import BadInput, CheckFailed

Job = Callable[..., Container]
Save = Callable[[Path, int], None]


def test_a_job_that_cannot_go_on_is_told_of_its_checkpoints(
    job: Job, base: Path, configs: Path, checkpoint: Save
) -> None:
    checkpoint(base / "checkpoints" / "run" / "last.ckpt", 9)
    job({"config": "sample"})

    def refuse(*given: Any) -> None:
        raise BadInput("--resume cannot change fit.epochs from 3 to 4")

    with pytest.raises(BadInput, match="fit.epochs from 3 to 4; .* another S3 location"):
        run_container(refuse, refuse, configs)


class Run:
    """Stands for training and export: writes what they write, and notes how they are called."""

    def __init__(self, base: Path, error: BaseException | None = None) -> None:
        self.folder, self.error = base / "checkpoints" / "run", error
        self.calls: list[TrainingCall] = []
        self.exported: list[tuple[Path, Path]] = []

    def train(self, call: TrainingCall) -> None:
        self.calls.append(call)
        self.folder.mkdir(parents=True)
        (self.folder / "best.ckpt").write_bytes(b"weights")
        if self.error is not None:
            raise self.error
        (self.folder / "report.md").write_text("# Training")
        (self.folder / "report.json").write_text(json.dumps({"score": 0.5, "onnx": None}))

    def export(self, checkpoint: Path, run: Path) -> None:
        self.exported.append((checkpoint, run))
        (self.folder / "export").mkdir()
        (self.folder / "export" / "model.onnx").write_bytes(b"graph")
        figures = {"score": 0.4, "onnx": {"is_equal": True}}
        (self.folder / "export" / "report.json").write_text(json.dumps(figures))


def delivered(base: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (base / "model").glob("*")}


def test_a_job_trains_exports_and_delivers(
    job: Job, base: Path, configs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job({"config": "sample", "fit.epochs": "1"})
    stale = base / "output" / "failure"
    stale.parent.mkdir()
    stale.write_text("of the start before")
    run = Run(base)
    run_container(run.train, run.export, configs)
    wanted = {"fit.epochs": "1", "run": str(run.folder)}
    assert run.calls == [TrainingCall(configs / "sample.yaml", wanted)]
    assert run.exported == [(run.folder / "best.ckpt", run.folder / "export")]
    files = delivered(base)
    figures = json.loads(files.pop("report.json"))
    assert figures == {"score": 0.5, "onnx": {"is_equal": True}}
    assert files == {
        "best.ckpt": b"weights",
        "model.onnx": b"graph",
        "report.md": b"# Training",
    }
    assert not stale.exists()
    assert "--fit.epochs=1" in capsys.readouterr().out


def test_only_the_first_process_of_several_delivers(
    job: Job, base: Path, configs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job({"config": "sample"})
    monkeypatch.setenv("LOCAL_RANK", "1")
    run = Run(base)
    run_container(run.train, run.export, configs)
    assert (len(run.calls), run.exported) == (1, [])
    assert not (base / "model").exists()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (BadInput("fit.epochs is 0\nit must be > 0"), "fit.epochs is 0 it must be > 0"),
        (CheckFailed("they differ"), "they differ"),
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
    ],
)
def test_the_cause_of_a_failure_is_its_first_line(
    job: Job, base: Path, configs: Path, error: Exception, line: str
) -> None:
    job({"config": "sample"})
    run = Run(base, error)
    with pytest.raises(type(error)):
        run_container(run.train, run.export, configs)
    first, empty, traceback, *_ = (base / "output" / "failure").read_text().splitlines()
    assert (first, empty) == (line, "")
    assert traceback.startswith("Traceback")
    assert (len(run.calls), run.exported) == (1, [])


def test_a_job_that_cannot_be_read_says_so(job: Job, base: Path, configs: Path) -> None:
    job()
    with pytest.raises(BadInput, match="config: not given"):
        run_container(print, print, configs)
    text = (base / "output" / "failure").read_text()
    assert text.startswith("hyperparameter config: not given")


def test_a_failure_that_cannot_be_written_hides_nothing(tmp_path: Path) -> None:
    (tmp_path / "output").write_text("a file where the folder should be")
    write_failure(tmp_path, BadInput("the cause"))


@pytest.mark.parametrize("error", [SIGTERMException(143), KeyboardInterrupt()])
def test_a_stopped_job_delivers_what_there_is_and_has_not_failed(
    job: Job, base: Path, configs: Path, error: BaseException
) -> None:
    job({"config": "sample"})
    run = Run(base, error)
    with pytest.raises(type(error)):
        run_container(run.train, run.export, configs)
    assert delivered(base) == {"best.ckpt": b"weights"}
    assert not (base / "output" / "failure").exists()
    assert (len(run.calls), run.exported) == (1, [])


def test_a_hyperparameter_that_ends_the_process_is_no_success(
    job: Job, base: Path, configs: Path
) -> None:
    job({"config": "sample"})
    with pytest.raises(BadInput, match="one of them ends the process instead of training"):
        run_container(lambda call: sys.exit(0), print, configs)
    assert "ends the process" in (base / "output" / "failure").read_text()


def test_an_exit_after_ctrl_c_stays_one(job: Job, configs: Path) -> None:
    def interrupted(call: TrainingCall) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    job({"config": "sample"})
    with pytest.raises(SystemExit):
        run_container(interrupted, print, configs)


@pytest.mark.skipif(sys.platform != "linux", reason="a call of Linux")
def test_the_kernel_is_asked_for_a_signal() -> None:
    prctl, given = ctypes.CDLL(None).prctl, ctypes.c_int()
    try:
        stop_with_parent()
        assert prctl(2, ctypes.byref(given)) == 0  # PR_GET_PDEATHSIG
        assert given.value == signal.SIGTERM
    finally:
        prctl(1, 0)


def test_a_failure_is_written_whatever_its_text(job: Job, base: Path, configs: Path) -> None:
    def train(call: TrainingCall) -> None:
        raise RuntimeError("\ud800")

    job({"config": "sample"})
    with pytest.raises(RuntimeError):
        run_container(train, print, configs)
    assert "RuntimeError: \\ud800" in (base / "output" / "failure").read_text()
