"""A command from start to end: its line as typed, the signals that stop it, and its exit code."""

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

from pytorch_lightning.utilities.exceptions import SIGTERMException

from regrow.errors import BadInput, CheckFailed
from regrow.files import UNWRITABLE, cannot_write
from regrow.output import lost_output, take_streams
from regrow.text import printable

BAD_INPUT, CHECK_FAILED, STOPPED = 2, 3, 143


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
