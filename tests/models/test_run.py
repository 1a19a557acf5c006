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

from regrow.data.errors import BadInput, CheckFailed
from regrow.models.run import command, guard, newest_checkpoint, open_run

CHILD = """
import sys, time
from regrow.data.errors import BadInput
from regrow.models.run import guard

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
    (folder / "tensorboard").mkdir(parents=True)
    (folder / "best.ckpt").write_bytes(text.encode() * 100)
    (folder / "tensorboard" / "events").write_text(text)
    return _tree(folder)


def test_open_run_makes_a_folder(tmp_path: Path) -> None:
    run = open_run(tmp_path / "runs" / "a")
    assert run.is_dir()
    assert open_run(run) == run  # still empty: nothing to move
    assert [p.name for p in run.parent.iterdir()] == ["a"]


def test_open_run_moves_earlier_runs_aside_with_every_byte(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "a"
    first = _earlier_run(run, "first")
    assert open_run(run) == run
    assert list(run.iterdir()) == []
    assert "a-1" in capsys.readouterr().err
    second = _earlier_run(run, "second")
    open_run(run)
    assert _tree(tmp_path / "a-1") == first
    assert _tree(tmp_path / "a-2") == second
    assert list(run.iterdir()) == []


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


def test_second_process_of_a_run_moves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    files = _earlier_run(tmp_path / "a", "what rank 0 wrote")
    open_run(tmp_path / "a")
    assert _tree(tmp_path / "a") == files


def _check(path: Path) -> None:
    if path.read_text() != "good":
        raise BadInput(f"{path}: truncated")


def test_newest_checkpoint_passes_over_invalid_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = {"best": "good", "last": "good", "torn": "go"}
    for age, (name, content) in enumerate(contents.items()):
        path = tmp_path / f"{name}.ckpt"
        path.write_text(content)
        os.utime(path, ns=(age * 1000, age * 1000))
    assert newest_checkpoint(tmp_path, _check) == tmp_path / "last.ckpt"
    assert "torn.ckpt: truncated" in capsys.readouterr().err


def test_no_checkpoint_to_resume_from(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no checkpoint to resume from; start the run without"):
        newest_checkpoint(tmp_path, _check)
    with pytest.raises(BadInput, match="has no checkpoint"):
        newest_checkpoint(tmp_path / "nowhere", _check)
    (tmp_path / "last.ckpt").write_text("go")
    with pytest.raises(BadInput, match=r"no checkpoint to resume from \(.*last.ckpt: truncated"):
        newest_checkpoint(tmp_path, _check)


def test_command_can_be_typed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "scripts" / "train.py"), "--run", "a b"])
    assert command(Path("train.py")) == "python scripts/train.py --run 'a b'"
    assert command(Path("train.py"), ["--x={1: 2}"]) == "python scripts/train.py '--x={1: 2}'"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/regrow-train"])
    assert command(Path("train.py")) == "regrow-train"


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
