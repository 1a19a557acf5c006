"""One run at a time in a folder."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytorch_lightning.utilities import rank_zero_only

from regrow.errors import BadInput
from regrow.reporting.lock import hold, release, releases_folders
from regrow.reporting.run_folder import open_run, refuse_run, reopen_run

HOLDS = """
import os, sys, time
from pathlib import Path
from regrow.reporting.lock import hold
hold(Path(sys.argv[1]), "python scripts/train.py --seed \\x1b1")
if sys.argv[2] == "forks":
    worker = os.fork()
    if not worker:
        time.sleep(600)
    print(worker, flush=True)
print("held", flush=True)
time.sleep(600)
"""
OPENS = """
import sys
from pathlib import Path
from regrow.guard import guard
from regrow.reporting.run_folder import open_run
print("ready", flush=True)
sys.stdin.readline()
@guard
def main():
    open_run(Path(sys.argv[1]), "mine")
    print("held", flush=True)
    sys.stdin.read()
sys.exit(main())
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts a process that holds a folder until it is ended."""
    started: list[subprocess.Popen[str]] = []

    def run(code: str, *words: str, first: str | None = "held") -> "subprocess.Popen[str]":
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        child = subprocess.Popen([sys.executable, "-c", code, *words], text=True, **pipes)
        started.append(child)
        assert child.stdout is not None
        if first is not None:
            assert child.stdout.readline().strip() == first
        return child

    yield run
    for child in started:
        child.kill()
        child.communicate()


def _kill(child: "subprocess.Popen[str]") -> None:
    child.send_signal(signal.SIGKILL)
    child.wait()


def test_a_second_process_is_refused_by_name_and_a_kill_leaves_no_lock(
    tmp_path: Path, start: Start
) -> None:
    child = start(HOLDS, str(tmp_path), "")
    with pytest.raises(BadInput) as told:
        hold(tmp_path)
    line = str(told.value)
    assert line.startswith(f"{tmp_path} is in use by process {child.pid} on ")
    assert "python scripts/train.py --seed \\x1b1; wait until that ends" in line
    _kill(child)
    hold(tmp_path)
    release(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_outlives_a_killed_run_holds_nothing(tmp_path: Path, start: Start) -> None:
    child = start(HOLDS, str(tmp_path), "forks", first=None)
    assert child.stdout is not None
    worker = int(child.stdout.readline())
    assert child.stdout.readline() == "held\n"
    with pytest.raises(BadInput, match="in use"):
        hold(tmp_path)
    _kill(child)
    os.kill(worker, 0)  # is still there
    hold(tmp_path)
    os.kill(worker, signal.SIGKILL)
    release(tmp_path)


def test_the_lock_goes_along_when_the_folder_is_moved(tmp_path: Path, start: Start) -> None:
    (tmp_path / "a").mkdir()
    start(HOLDS, str(tmp_path / "a"), "")
    (tmp_path / "a").rename(tmp_path / "b")
    with pytest.raises(BadInput, match="b is in use"):
        hold(tmp_path / "b")
    (tmp_path / "a").mkdir()
    hold(tmp_path / "a")
    release(tmp_path / "a")


def test_a_folder_with_a_run_at_work_in_it_is_refused(tmp_path: Path, start: Start) -> None:
    (tmp_path / "results" / "seed0").mkdir(parents=True)
    start(HOLDS, str(tmp_path / "results" / "seed0"), "")
    with pytest.raises(BadInput, match="seed0 is in use"):
        hold(tmp_path)
    release(tmp_path)


def test_all_that_open_or_go_on_with_a_run_are_refused(tmp_path: Path, start: Start) -> None:
    run = tmp_path / "a"
    run.mkdir()
    (run / "regrow.txt").write_text("first\n")
    start(HOLDS, str(run), "")
    for attempt in (open_run, refuse_run, reopen_run):
        with pytest.raises(BadInput, match="a is in use by process"):
            attempt(run)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]
    assert (run / "regrow.txt").read_text() == "first\n"


@pytest.mark.slow
def test_of_many_that_start_at_once_one_gets_the_folder(tmp_path: Path, start: Start) -> None:
    children = [start(OPENS, str(tmp_path / "a"), first="ready") for _ in range(4)]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    firsts = [child.stdout.readline().strip() for child in children if child.stdout]
    assert sorted(firsts) == ["", "", "", "held"]
    codes = [child.wait() for child, first in zip(children, firsts, strict=True) if not first]
    assert codes == [2, 2, 2]
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_it_is_released_when_the_function_that_took_it_ends(tmp_path: Path, start: Start) -> None:
    @releases_folders
    def works() -> None:
        open_run(tmp_path / "a")
        assert (tmp_path / "a" / ".lock").is_file()
        raise ValueError("it broke")

    with pytest.raises(ValueError, match="it broke"):
        works()
    assert [entry.name for entry in (tmp_path / "a").iterdir()] == ["regrow.txt"]
    start(HOLDS, str(tmp_path / "a"), "")


def test_an_earlier_run_is_free_again_after_its_move(tmp_path: Path, start: Start) -> None:
    open_run(tmp_path / "a")
    release(tmp_path / "a")
    open_run(tmp_path / "a")
    start(HOLDS, str(tmp_path / "a-1"), "")
    with pytest.raises(BadInput, match="a-1 is in use"):
        hold(tmp_path / "a-1")
    release(tmp_path / "a")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_it_is_said_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
) -> None:
    def fail(handle: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", fail)
    run = open_run(tmp_path / "a")
    reopen_run(run)
    said = capsys.readouterr().err
    assert said.count("cannot be locked") == 1
    assert "a second run in it would not be noticed" in said


def test_further_processes_of_one_run_hold_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Start
) -> None:
    run = tmp_path / "a"
    run.mkdir()
    (run / "regrow.txt").write_text("first\n")
    start(HOLDS, str(run), "")
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    refuse_run(run)
    reopen_run(run)
    assert open_run(run) == run
    assert (run / "regrow.txt").read_text() == "first\n"
