"""A run: its folder, its command line, and the code it ends with."""

import errno
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any

from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import SIGTERMException

from regrow.data.errors import BadInput, CheckFailed
from regrow.data.files import UNWRITABLE, cannot_write
from regrow.data.text import printable
from regrow.models.lock import LOCK, hold, release
from regrow.models.output import lost_output, take_streams

BAD_INPUT, CHECK_FAILED, STOPPED = 2, 3, 143
# Holds the command, and tells a run's folder from any other.
MARK = "regrow.txt"


def open_run(path: Path, command_line: str = "") -> Path:
    """Make a new run folder; an earlier run of that name is first moved aside, whole.

    The move is one rename, to the first free of `<name>-1`, `<name>-2` and so on: whoever looks
    sees the old run under its old name or under its new one. Only the first process of several
    (DDP) moves anything.

    Args:
        path: The folder.
        command_line: The command that makes it, which `regrow.txt` there keeps.

    Returns:
        The same path, now a folder.

    Raises:
        BadInput: If the path is a file or a folder of something else, or cannot be made or moved.
    """
    refuse_run(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if _is_first():
            _take(path, command_line)
            (path / MARK).write_bytes(f"{command_line}\n".encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise BadInput(f"{path}: cannot be made ({error.strerror}); give another folder") from error
    return path


def _take(path: Path, command_line: str) -> None:
    """Hold the folder, empty; an earlier run there is moved aside first."""
    while True:
        try:
            hold(path, command_line)
        except FileNotFoundError:  # another process has just moved it
            path.mkdir(parents=True, exist_ok=True)
            continue
        if not (path / MARK).is_file():
            return
        aside = _move_aside(path)
        release(aside)
        print(f"{path} holds an earlier run, now moved to {aside}", file=sys.stderr)
        path.mkdir(parents=True, exist_ok=True)


def reopen_run(path: Path, command_line: str = "") -> None:
    """Hold the folder of a run that goes on; without one there is nothing to hold.

    Raises:
        BadInput: If another process is at work in it.
    """
    if _is_first() and path.is_dir():
        hold(path, command_line)


def _is_first() -> bool:
    """Whether this is the first process of several (DDP), which alone opens and holds folders."""
    return getattr(rank_zero_only, "rank", 0) == 0


def refuse_run(path: Path, *needed: Path | None) -> None:
    """Refuse a folder that no run may take, before any work is done for it.

    An earlier run there is held, so that no other process goes on with it or moves it meanwhile.

    Args:
        path: The folder that is asked for.
        needed: Files that the run reads, which an earlier run in that folder would take along.

    Raises:
        BadInput: If the path is a file or a folder of something else, another process is at work
            in it, or a needed file is in it.
    """
    if path.exists() and not path.is_dir():
        raise BadInput(f"{path} is a file; give another run folder")
    held = [entry.name for entry in path.iterdir()] if path.is_dir() else []
    if held and held != [LOCK] and MARK not in held:
        raise BadInput(f"{path} holds files that are no run of regrow's; give another run folder")
    for file in needed:
        if file is not None and file.resolve().is_relative_to(path.resolve()):
            raise BadInput(
                f"{file} is part of the run in {path}, which the new run would move aside; "
                "give the new one a folder of its own with --run"
            )
    if MARK in held:
        reopen_run(path)


def _move_aside(path: Path) -> Path:
    path = Path(os.path.abspath(path))  # so that `.` and a trailing slash have a name
    number = 0
    while True:
        number += 1
        aside = path.with_name(f"{path.name}-{number}")
        if os.path.lexists(aside):
            continue
        try:
            os.rename(path, aside)
        except OSError as error:
            # Another process took the name in between.
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                continue
            raise BadInput(
                f"{path}: the earlier run cannot be moved aside ({error.strerror}); "
                "move it yourself or give another run folder"
            ) from error
        return aside


def command(script: Path, args: Sequence[str] | None = None) -> str:
    """Give the command line as one can type it again, quoted for the shell.

    Args:
        script: The script's file, for a call from Python with words of its own.
        args: The words after the command's name; None takes name and words of this process.
    """
    words = sys.argv[1:] if args is None else args
    script = Path(sys.argv[0]) if args is None else Path("scripts") / script.name
    name = ["python", _shortened(script)] if script.suffix == ".py" else [script.name]
    return shlex.join([*name, *words])


def _shortened(script: Path) -> str:
    try:
        return str(script.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(script)


def guard(main: Callable[..., Any], *, is_output: bool = False) -> Callable[..., int]:
    """Wrap a script's main so that it returns the exit code that regrow promises.

    0 done; 2 bad input, or a file that cannot be written, one line on stderr; 3 a gate, budget or
    parity check failed, likewise; 143 stopped by SIGTERM or Ctrl-C. Any other error goes on, with
    its traceback.

    Args:
        main: The main function; what it returns is dropped.
        is_output: Whether what it prints is all that it makes, so that it fails where that cannot
            be written. A reader who has enough, such as `head`, is none such.
    """

    @wraps(main)
    def guarded(*args: Any, **options: Any) -> int:
        take_streams()
        try:
            with _sigterm_raises():
                main(*args, **options)
        except BadInput as error:
            return _say(f"error: {error}", BAD_INPUT)
        except CheckFailed as error:
            return _say(f"failed: {error}", CHECK_FAILED)
        except (SIGTERMException, KeyboardInterrupt) as error:
            return _say(_stopped(error), STOPPED)
        except SystemExit as error:
            # Lightning turns Ctrl-C into exit code 1.
            if isinstance(error.__context__, KeyboardInterrupt):
                return _say(_stopped(error), STOPPED)
            raise
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            return _say(f"error: {cannot_write(error, 'a file of the run')}", BAD_INPUT)
        lost = lost_output()
        if lost is not None:
            return _say(f"what was printed is lost ({lost})", BAD_INPUT if is_output else 0)
        return 0

    return guarded


@contextmanager
def advised(run: Path, command_line: str, saved: Sequence[str], option: str) -> Iterator[None]:
    """Let the line that a signal ends a command with say how to go on.

    Args:
        run: The run's folder.
        command_line: The command that makes it, without which the folder holds an earlier run;
            empty for a run that goes on.
        saved: Names of what the run leaves there once it can go on.
        option: What goes on with it then.
    """
    try:
        yield
    except (SIGTERMException, KeyboardInterrupt, SystemExit) as error:
        mark = run / MARK
        is_own = mark.is_file() and command_line in ("", mark.read_text("utf-8", "replace").strip())
        if is_own and any((run / name).exists() for name in saved):
            error.add_note(f"{run} goes on by the same command with {option}")
        else:
            error.add_note("nothing was saved yet: give the same command again")
        raise


def _stopped(error: BaseException) -> str:
    return "; ".join(["stopped by a signal", *getattr(error, "__notes__", [])])


def _say(text: str, code: int) -> int:
    print(printable(text), file=sys.stderr)
    return code


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Let SIGTERM raise, as Ctrl-C does, so that files are closed and temporary ones removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def stop(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a forked worker: die as it would have
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        elif signal.getsignal(signum) is stop:
            raise SIGTERMException(STOPPED)
        # Else Lightning called us besides its own handler, and ends after this batch.

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)
