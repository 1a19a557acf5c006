"""A command from start to end: its line, its help, the signals that stop it, its exit code."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pytorch_lightning.utilities.exceptions import SIGTERMException

from regrow.errors import BadInput, CheckFailed
from regrow.guard import ExitCode, Terminated, command, entry, guard, help_topic

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
        for _ in range(600):  # a signal just before one long sleep would wait for its end
            time.sleep(0.1)
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
        (_raise(Terminated(143)), 143, "stopped by a signal\n"),
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


# Before and while a command is imported.


@pytest.mark.parametrize(
    ("words", "topic"),
    [
        ([], None),
        (["--run", "a"], None),
        (["--task.help"], None),
        (["--help"], ""),
        (["-h"], ""),
        (["--help", "data"], "data"),
        (["-h", "data"], "data"),
        (["--help=data"], "data"),
        (["--help="], ""),
        (["--help", "--run", "a"], ""),
        (["--config", "a.yaml", "-h", "fit"], "fit"),
    ],
)
def test_a_topic_is_the_word_after_help(words: list[str], topic: str | None) -> None:
    assert help_topic(words) == topic


def test_help_needs_no_import(capsys: pytest.CaptureFixture[str]) -> None:
    main = entry("no.such.module", "train", "Train.\n\nIt learns.\n")
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == "Train.\n\nIt learns.\n"
    with pytest.raises(ModuleNotFoundError, match="'no'"):
        main(["--help", "data"])


IMPORTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a shell runs tests aside
from regrow.guard import entry
sys.path.insert(0, {folder!r})
sys.exit(entry("slow", "run", None)([]))
"""
SLOW = """
import time
print("importing", flush=True)
try:
    for _ in range(600):  # in pieces, as above
        time.sleep(0.1)
except {caught}:
    {then}

def run(args):
    print("ran")
"""


@pytest.mark.parametrize(
    ("caught", "then"),
    [
        ("ImportError", "pass"),
        ("KeyboardInterrupt", "raise ImportError('a part is missing')"),
        ("KeyboardInterrupt", "pass"),
    ],
)
def test_ctrl_c_during_the_imports_ends_in_one_line(tmp_path: Path, caught: str, then: str) -> None:
    (tmp_path / "slow.py").write_text(SLOW.format(caught=caught, then=then))
    with subprocess.Popen(
        [sys.executable, "-c", IMPORTED.format(folder=str(tmp_path))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "importing\n"
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out, err) == (143, "", "stopped by a signal\n")


def test_imports_leave_the_signal_as_it_was_and_work_in_a_thread() -> None:
    main, codes = entry("regrow.text", "printable", None), []
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=lambda: codes.append(main("a")))
    thread.start()
    thread.join()
    assert main("a") == 0
    assert codes == [0]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), "a/b: Permission denied"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a"), "a: File name too long"),
    ],
)
def test_a_path_that_may_not_be_used_is_one_line(
    error: OSError, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guard(_raise(error))() == 2
    assert capsys.readouterr().err == f"error: {line}\n"


def test_an_error_of_the_system_that_names_no_path_goes_on() -> None:
    for error in (PermissionError(errno.EACCES, "no"), FileNotFoundError(errno.ENOENT, "no", "a")):
        with pytest.raises(OSError, match="no"):
            guard(_raise(error))()


def test_a_command_is_guarded_without_lightning() -> None:
    code = "import sys, regrow.guard; print(*({'torch', 'pytorch_lightning'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_an_exit_code_is_where_the_toolkit_looks() -> None:
    with pytest.raises(ExitCode, match="exit code 3") as raised:
        raise ExitCode(3)
    assert raised.value.errno == 3
