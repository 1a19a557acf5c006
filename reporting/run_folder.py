"""The folder of a run: made anew, locked, and never overwritten."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import SIGTERMException

from regrow.errors import BadInput
from regrow.logs import log
from regrow.reporting.lock import LOCK, hold, release

# File with the command line; it marks a folder as a run of regrow's.
MARK = "regrow.txt"


def open_run(path: Path, command_line: str = "") -> Path:
    """Make and lock a new run folder; an earlier run of that name is first moved aside.

    The move is one rename, to the first free of `<name>-1`, `<name>-2` and so on, so that the old
    run always has its old name or its new one. Only the first process of several (DDP) moves and
    locks folders.

    Args:
        path: The folder.
        command_line: The command of the run, which is written to `regrow.txt` in the folder.

    Returns:
        The same path, now a folder.

    Raises:
        BadInput: If the path is a file or a folder with other files, or cannot be made or moved.
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
    """Lock the folder; an earlier run there is moved aside first."""
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
        log.warning(f"{path} holds an earlier run, now moved to {aside}")
        path.mkdir(parents=True, exist_ok=True)


def reopen_run(path: Path, command_line: str = "") -> None:
    """Lock the folder of a run that is resumed, if it exists.

    Raises:
        BadInput: If another process has locked it.
    """
    if _is_first() and path.is_dir():
        hold(path, command_line)


def _is_first() -> bool:
    """Whether this is the first process of several (DDP), which alone makes and locks folders."""
    return getattr(rank_zero_only, "rank", 0) == 0


def refuse_run(path: Path, *needed: Path | None) -> None:
    """Refuse a folder that cannot become a run folder, before any work is done.

    An earlier run there is locked, so that no other process resumes or moves it meanwhile.

    Args:
        path: The folder that is asked for.
        needed: Files that the run reads; none may be in an earlier run there, which is moved aside.

    Raises:
        BadInput: If the path is a file or a folder with other files, another process has locked
            it, or a needed file is in it.
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
                "give the new one a folder of its own"
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


@contextmanager
def advised(run: Path, command_line: str, saved: Sequence[str], option: str) -> Iterator[None]:
    """Context manager: add to an interruption by a signal how the run can be resumed.

    Args:
        run: The run's folder.
        command_line: The command of the run, by which the folder is told from an earlier run's;
            empty for a run that is resumed itself.
        saved: Names of the files in the folder that make the run resumable.
        option: The option that resumes it.
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
