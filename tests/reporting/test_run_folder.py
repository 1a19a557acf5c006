import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import SIGTERMException

from regrow.errors import BadInput, CheckFailed
from regrow.guard import command, guard
from regrow.reporting.lock import release
from regrow.reporting.run_folder import MARK, advised, open_run, refuse_run

CHILD = """
import sys, time
from regrow.errors import BadInput
from regrow.guard import guard

@guard
def main(what):
    if what == "bad":
        raise BadInput("data.root: /nowhere is empty; give a folder with images")
    if what == "bug":
        raise RuntimeError("a bug")
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("closed", flush=True)

sys.exit(main(sys.argv[1]))
"""


def _interrupt_as_lightning_does() -> None:
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        sys.exit(1)


def _raise(error: BaseException) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


def _tree(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def _earlier_run(folder: Path, text: str) -> dict[str, str]:
    (folder / "tensorboard").mkdir(parents=True, exist_ok=True)
    (folder / "regrow.txt").write_text(f"python scripts/train.py --seed {text}")
    (folder / "best.ckpt").write_bytes(text.encode() * 100)
    (folder / "tensorboard" / "events").write_text(text)
    return _tree(folder)


def test_open_run_makes_a_folder(tmp_path: Path) -> None:
    (tmp_path / "runs" / "a").mkdir(parents=True)  # empty: nothing to move
    run = open_run(tmp_path / "runs" / "a", "python scripts/train.py --seed 1")
    assert (run / "regrow.txt").read_text() == "python scripts/train.py --seed 1\n"
    assert [p.name for p in run.parent.iterdir()] == ["a"]


def test_open_run_moves_earlier_runs_aside_with_every_byte(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "a"
    first = _earlier_run(run, "first")
    assert open_run(run) == run
    release(run)
    assert [p.name for p in run.iterdir()] == ["regrow.txt"]
    assert "a-1" in capsys.readouterr().err
    second = _earlier_run(run, "second")
    open_run(run)
    release(run)
    assert _tree(tmp_path / "a-1") == first
    assert _tree(tmp_path / "a-2") == second
    assert [p.name for p in run.iterdir()] == ["regrow.txt"]


def test_open_run_never_takes_a_name_in_use(tmp_path: Path) -> None:
    run = tmp_path / "a"
    first = _earlier_run(run, "first")
    (tmp_path / "a-1").mkdir()  # empty, but someone's
    (tmp_path / "a-2").write_text("a file")
    (tmp_path / "a-3").symlink_to(tmp_path / "nowhere")
    open_run(run)
    assert list((tmp_path / "a-1").iterdir()) == []
    assert (tmp_path / "a-2").read_text() == "a file"
    assert _tree(tmp_path / "a-4") == first


def test_open_run_moves_a_folder_given_with_a_trailing_dot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _earlier_run(tmp_path / "a", "first")
    monkeypatch.chdir(tmp_path)
    open_run(Path("a/../a/."))
    assert (tmp_path / "a-1" / "best.ckpt").is_file()


def test_open_run_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(BadInput, match="a is a file; give another run folder"):
        open_run(tmp_path / "a")
    with pytest.raises(BadInput, match="cannot be made"):
        open_run(tmp_path / "a" / "b")
    assert (tmp_path / "a").read_text() == "mine"


def test_open_run_leaves_what_is_no_run(tmp_path: Path) -> None:
    _earlier_run(tmp_path / "runs" / "a", "first")
    before = _tree(tmp_path)
    with pytest.raises(BadInput, match="runs holds files that are no run of regrow's"):
        open_run(tmp_path / "runs")
    assert _tree(tmp_path) == before


def test_a_run_may_not_move_aside_what_it_needs(tmp_path: Path) -> None:
    _earlier_run(tmp_path / "a", "first")
    with pytest.raises(BadInput, match=r"a/best.ckpt is part of the run in .*a folder of its own"):
        refuse_run(tmp_path / "a", tmp_path / "b" / ".." / "a" / "best.ckpt")
    refuse_run(tmp_path / "b", tmp_path / "a" / "best.ckpt")
    refuse_run(tmp_path / "a", None)


def test_second_process_of_a_run_moves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    files = _earlier_run(tmp_path / "a", "what rank 0 wrote")
    open_run(tmp_path / "a")
    assert _tree(tmp_path / "a") == files


def test_command_can_be_typed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "scripts" / "train.py"), "--run", "a b"])
    assert command("train") == "python scripts/train.py --run 'a b'"
    assert command("train", ["--x={1: 2}"]) == "python scripts/train.py '--x={1: 2}'"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/regrow-train"])
    assert command("train") == "regrow-train"


@pytest.mark.parametrize(
    ("main", "code", "line"),
    [
        (lambda: "a report", 0, ""),
        (_raise(BadInput("key: 3 is odd;\n give 4")), 2, "error: key: 3 is odd; give 4\n"),
        (_raise(CheckFailed("parity: 0.3 > 0.001")), 3, "failed: parity: 0.3 > 0.001\n"),
        (_raise(KeyboardInterrupt()), 143, "stopped by a signal\n"),
        (_raise(SIGTERMException()), 143, "stopped by a signal\n"),
        (_interrupt_as_lightning_does, 143, "stopped by a signal\n"),
    ],
)
def test_guard_gives_exit_code_and_one_line(
    main: Callable[[], None], code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guard(main)() == code
    assert capsys.readouterr().err == line


def test_guard_lets_the_parser_exit() -> None:
    with pytest.raises(SystemExit) as stopped:
        guard(_raise(SystemExit(2)))()
    assert stopped.value.code == 2


def _child(what: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD, what], capture_output=True, text=True, check=False
    )


def test_bad_input_ends_a_process_with_2_and_no_traceback() -> None:
    child = _child("bad")
    expected = "error: data.root: /nowhere is empty; give a folder with images\n"
    assert (child.returncode, child.stderr) == (2, expected)


def test_guard_lets_a_bug_through_with_its_traceback() -> None:
    child = _child("bug")
    assert child.returncode == 1
    assert "Traceback" in child.stderr
    assert child.stderr.endswith("RuntimeError: a bug\n")


def test_sigterm_ends_with_143_and_closes_what_is_open() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, "wait"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out, err) == (143, "closed\n", "stopped by a signal\n")


def test_guard_leaves_the_end_of_a_batch_to_lightning() -> None:
    heard = []

    @guard
    def main() -> None:
        ours = signal.getsignal(signal.SIGTERM)
        assert callable(ours)

        def composed(signum: int, frame: object) -> None:  # as Lightning composes handlers
            heard.append(signum)
            ours(signum, None)

        signal.signal(signal.SIGTERM, composed)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        heard.append("the batch went on")

    before = signal.getsignal(signal.SIGTERM)
    assert main() == 0
    assert heard == [signal.SIGTERM, "the batch went on"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_guard_works_outside_the_main_thread() -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(guard(lambda: None)()))
    thread.start()
    thread.join()
    assert codes == [0]


@pytest.mark.parametrize(
    ("begun", "saved", "told"),
    [
        ("train x", True, "goes on by the same command with --resume auto"),
        ("train x", False, "nothing was saved yet: give the same command again"),
        ("train y", True, "nothing was saved yet"),  # what lies there is an earlier run's
        (None, False, "nothing was saved yet"),
    ],
)
@pytest.mark.parametrize("signal_", [KeyboardInterrupt, SIGTERMException])
def test_a_signal_is_told_with_the_way_on(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    begun: str | None,
    saved: bool,
    told: str,
    signal_: type[BaseException],
) -> None:
    if begun is not None:
        (tmp_path / MARK).write_text(f"{begun}\n")
    if saved:
        (tmp_path / "last.ckpt").touch()

    def main() -> None:
        with advised(tmp_path, "train x", ["last.ckpt"], "--resume auto"):
            raise signal_

    assert guard(main)() == 143
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("stopped by a signal; ")
    assert told in line
