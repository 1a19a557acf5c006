"""The errors of commands: one line each, safe to print, whatever it quotes."""

import errno
import os

import pytest

from regrow.errors import UNWRITABLE, BadInput, CannotWrite, CheckFailed


@pytest.mark.parametrize("kind", [BadInput, CheckFailed])
def test_a_message_is_one_line_that_does_nothing_to_a_terminal(kind: type[Exception]) -> None:
    error = kind("a\nb\r\n  c: \x1b[2J\u202egnp.exe\udcff", 3)
    assert str(error) == r"a b c: \x1b[2J\u202egnp.exe\xff 3"
    assert isinstance(error.args[0], str)
    assert "\n" in error.args[0]  # the cause itself is kept


def test_a_message_without_end_loses_its_middle() -> None:
    line = str(BadInput("a" * 5000 + "z" * 5000))
    assert len(line) < 2100
    assert line.startswith("aaa")
    assert line.endswith("zzz")
    assert "(8,001 characters left out)" in line


def test_kinds_of_errors_are_told_apart() -> None:
    """A guard gives `BadInput` code 2 and `CheckFailed` code 3."""
    assert not issubclass(CheckFailed, BadInput)
    assert not issubclass(BadInput, OSError | CheckFailed)
    assert issubclass(CannotWrite, BadInput)
    assert issubclass(CannotWrite, OSError)


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (OSError(errno.ENOSPC, "No space left"), "given.ckpt: cannot be written (No space left)"),
        (OSError(errno.EROFS, "Read-only", "a.ckpt"), "a.ckpt: cannot be written (Read-only)"),
        (
            OSError(errno.EIO, "Broken", "a.tmp", None, "a.ckpt"),
            "a.ckpt: cannot be written (Broken)",
        ),
        (OSError("no number"), "given.ckpt: cannot be written (no number)"),
    ],
    ids=["no file", "its file", "the file it was to become", "no number"],
)
def test_what_cannot_be_written_is_named_with_the_way_out(cause: OSError, said: str) -> None:
    error = CannotWrite(cause, "given.ckpt")
    assert str(error) == (
        f"{said}; what was written before is whole: make room or mend the folder, then start "
        "again; training and pruning go on with --resume"
    )
    assert (error.errno, error.strerror) == (cause.errno, cause.strerror)


def test_a_full_disk_is_one_that_cannot_be_written() -> None:
    with (
        pytest.raises(OSError, match="No space") as told,
        open("/dev/full", "wb", buffering=0) as file,
    ):
        file.write(b"x")
    assert told.value.errno in UNWRITABLE
    with pytest.raises(FileNotFoundError) as missing:
        os.stat("/no/such/file")
    assert missing.value.errno not in UNWRITABLE  # which is the user's mistake, not the disk's
