"""Scripts in processes of their own that begin with everything imported, as a forkserver has it.

A process that is started anew imports torch for seconds; a few tests do so, one for each script.
"""

import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from regrow.scripts import train
from regrow.training.callbacks import Throughput

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["regrow.pipelines.commands", "regrow.pipelines.sagemaker"])

SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM}
Stop = tuple[str, int]  # a signal, and the step after which it comes


class Child:
    """A script at work, with as much of `subprocess.Popen` as tests need.

    Args:
        script: The file.
        words: The words after its name.
        cwd: The folder that it runs in.
        environment: Its environment variables.
    """

    def __init__(
        self, script: Path, words: Sequence[str], cwd: Path, environment: Mapping[str, str]
    ) -> None:
        self._folder = Path(tempfile.mkdtemp())
        self._files = [self._folder / name for name in ("stdout", "stderr")]
        for file in self._files:
            file.touch()
        given = (script, [*words], cwd, {**environment}, self._files)
        self._process = CONTEXT.Process(target=_run, args=given)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """Return the exit code; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""
        return self._process.exitcode

    @property
    def printed(self) -> str:
        """Return what was printed on stdout so far."""
        return self._files[0].read_text()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        """Wait for the end, and return what was printed on stdout and stderr."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"still at work after {timeout} s"
        out, err = (file.read_text() for file in self._files)
        return out, err

    def end(self) -> None:
        """Kill it if it still runs, and remove what it printed."""
        self._process.kill()
        self._process.join()
        self._process.close()
        shutil.rmtree(self._folder)


def finished(
    script: Path, words: Sequence[str], cwd: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a script to its end."""
    child = Child(script, words, cwd, environment)
    try:
        out, err = child.communicate()
        assert child.returncode is not None
        return subprocess.CompletedProcess([str(script), *words], child.returncode, out, err)
    finally:
        child.end()


def _run(
    script: Path, words: list[str], cwd: Path, environment: dict[str, str], files: list[Path]
) -> None:
    """Run a script in this process, as Python would."""
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [str(script), *words]
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)  # as a command has it, for its workers
    runpy.run_path(str(script), run_name="__main__")


def trained(words: Sequence[str], stop: Stop | None = None) -> int | None:
    """Train in a process of its own, which may get a signal after a step; return its exit code."""
    process = CONTEXT.Process(target=_train, args=([*words], stop))
    process.start()
    process.join(200)
    return process.exitcode


def _train(words: list[str], stop: Stop | None) -> None:
    """Train in this process, which may end in the middle of it."""
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork", force=True)
    os.setsid()  # its workers die with it
    if stop is not None:
        how, step = stop
        original = Throughput.on_train_batch_end

        def ending(self: Throughput, trainer: Any, *rest: Any) -> None:
            original(self, trainer, *rest)
            if trainer.global_step == step:
                os.killpg(0, SIGNALS[how])

        Throughput.on_train_batch_end = ending  # type: ignore[method-assign]
    raise SystemExit(train.main(words))
