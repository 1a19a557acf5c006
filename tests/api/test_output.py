"""What a command prints, and who reads it."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from regrow import guard

PRINTS = """
import os, sys
from rich.console import Console
from regrow.output import take_streams

def main():
    take_streams()
    print("a\\x1b[2J\\x9b\\u202eb", os.fsdecode(b"\\xff.png"), "\\ud800")
    print("c\\x1b]0;title\\x07", file=sys.stderr)
    print("red\\x1b[31m\\r\\n\\tplain")
    Console().print("[bold]title[/bold]")

main()
"""
WORKS = """
import sys, pathlib
from regrow.output import lost_output, take_streams

def main():
    take_streams()
    for number in range(20000):
        print("line", number)
    pathlib.Path(sys.argv[1]).touch()

main()
if lost_output() is not None:
    print("lost:", lost_output(), file=sys.stderr)
"""


def _run(code: str, *words: str, how: str = "") -> subprocess.CompletedProcess[bytes]:
    line = f'"$@" {how}; echo "code ${{PIPESTATUS[0]}}" >&2'
    return subprocess.run(
        ["bash", "-c", line, "x", sys.executable, "-c", code, *words], capture_output=True
    )


def test_control_characters_are_printed_as_escapes() -> None:
    done = _run(PRINTS)
    assert done.stdout.decode("utf-8").splitlines() == [
        r"a\x1b[2J\x9b\u202eb \xff.png \ud800",
        r"red\x1b[31m",
        "\tplain",
        "title",
    ]
    assert done.stderr.decode().splitlines() == [r"c\x1b]0;title\x07", "code 0"]


def test_on_a_terminal_colours_pass_and_what_moves_text_does_not() -> None:
    leader, follower = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    code = subprocess.run(
        [sys.executable, "-c", PRINTS], stdout=follower, stderr=follower, env=environment
    ).returncode
    os.close(follower)
    seen = b""
    while b"title" not in seen.rpartition(b"plain")[2]:
        seen += os.read(leader, 4096)
    os.close(leader)
    assert code == 0
    assert rb"a\x1b[2J\x9b\u202eb" in seen
    assert rb"c\x1b]0;title\x07" in seen
    assert b"\x1b[1mtitle\x1b[0m" in seen  # rich's own


HOWS = [">&-", "> /dev/full", "| true", "| head -1", ">&- 2>&-", "<&- >&-"]


@pytest.mark.parametrize("how", HOWS)
def test_the_work_is_done_whoever_reads(tmp_path: Path, how: str) -> None:
    done = _run(WORKS, str(tmp_path / "made"), how=how)
    said = done.stderr.decode().splitlines()
    assert (tmp_path / "made").read_text() == ""  # no line went into the file
    lost = ["lost: No space left on device"] if how == "> /dev/full" else []
    assert said == [*lost, "code 0"]


@pytest.mark.parametrize(("is_output", "code"), [(True, 2), (False, 0)])
def test_a_command_that_only_prints_fails_where_that_is_lost(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_output: bool,
    code: int,
) -> None:
    monkeypatch.setattr(guard, "lost_output", lambda: "No space left on device")
    assert guard.guard(lambda: None, is_output=is_output)() == code
    assert capsys.readouterr().err == "what was printed is lost (No space left on device)\n"
