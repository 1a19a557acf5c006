"""A command from start to end: its line as typed, the signals that stop it, and its exit code."""

import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

from regrow.errors import UNUSABLE, UNWRITABLE, BadInput, CannotWrite, CheckFailed
from regrow.logs import show_log
from regrow.output import lost_output, take_streams
from regrow.text import printable

BAD_INPUT, CHECK_FAILED, STOPPED = 2, 3, 143
HELP = ("-h", "--help")
LIGHTNING_ERRORS = "pytorch_lightning.utilities.exceptions"


class Terminated(SystemExit):
    """The end by SIGTERM of a command that has not imported Lightning yet."""


def sigterm_exception() -> type[BaseException]:
    """Return the exception that SIGTERM raises: Lightning's, once Lightning is imported.

    Lightning's loops and our callbacks know a stopped run by theirs. It is looked up, not imported,
    since a command starts with this module, and Lightning takes seconds.
    """
    return getattr(sys.modules.get(LIGHTNING_ERRORS), "SIGTERMException", Terminated)


def command(name: str, args: Sequence[str] | None = None) -> str:
    """Return the command line as one can type it again, quoted for the shell.

    Args:
        name: The script's name without its ending, for a call from Python with words of its own.
        args: The words after the command's name; None takes name and words of this process.
    """
    words = sys.argv[1:] if args is None else args
    script = Path(sys.argv[0]) if args is None else Path("scripts") / f"{name}.py"
    begun = ["python", _shortened(script)] if script.suffix == ".py" else [script.name]
    return shlex.join([*begun, *words])


def _shortened(script: Path) -> str:
    try:
        return str(script.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(script)


def guard(main: Callable[..., Any], *, is_output: bool = False) -> Callable[..., int]:
    """Wrap a command so that it returns the exit code that regrow promises.

    0 done; 2 bad input, or a file that may not be read or written, one line on stderr; 3 a gate,
    budget or parity check failed, likewise; 143 stopped by SIGTERM or Ctrl-C. Any other error goes
    on, with its traceback.

    Args:
        main: The command; what it returns is dropped.
        is_output: Whether what it prints is all that it makes, so that it fails where that cannot
            be written. A reader who has enough, such as `head`, is none such.
    """

    @wraps(main)
    def guarded(*args: Any, **options: Any) -> int:
        take_streams()
        show_log()
        try:
            with _signals_end():
                main(*args, **options)
        except BadInput as error:
            return _say(f"error: {error}", BAD_INPUT)
        except CheckFailed as error:
            return _say(f"failed: {error}", CHECK_FAILED)
        except (sigterm_exception(), Terminated, KeyboardInterrupt) as error:
            return _say(_stopped(error), STOPPED)
        except SystemExit as error:
            # Lightning turns Ctrl-C into exit code 1.
            if isinstance(error.__context__, KeyboardInterrupt):
                return _say(_stopped(error), STOPPED)
            raise
        except OSError as error:
            if error.errno in UNUSABLE and error.filename is not None:
                return _say(f"error: {error.filename}: {error.strerror}", BAD_INPUT)
            if error.errno not in UNWRITABLE:
                raise
            return _say(f"error: {CannotWrite(error, 'a file of the run')}", BAD_INPUT)
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
def _signals_end() -> Iterator[None]:
    """Make SIGTERM raise, as Ctrl-C does, so that files are closed and temporary ones removed.

    While Lightning trains, the first Ctrl-C is a SIGTERM: training ends after its batch, and is
    saved. The second one ends it at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner, is_pressed = os.getpid(), False

    def stop(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a forked worker: die as it would have
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        elif signal.getsignal(signum) is stop:
            raise sigterm_exception()(STOPPED)
        # Else Lightning called us besides its own handler, and ends after this batch.

    def interrupt(signum: int, frame: FrameType | None) -> None:
        nonlocal is_pressed
        if os.getpid() != owner:  # a forked worker, which its owner ends
            return
        if is_pressed or signal.getsignal(signal.SIGTERM) is stop:
            raise KeyboardInterrupt
        is_pressed = True
        os.write(2, b"stopping after this batch; Ctrl-C again stops at once\n")
        os.kill(owner, signal.SIGTERM)

    is_free = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    handlers = {signal.SIGTERM: stop} | ({signal.SIGINT: interrupt} if is_free else {})
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def entry(
    module: str, name: str, about: str | None, *, is_output: bool = False
) -> Callable[..., int]:
    """Return the main function of a script: a command of the library, imported when it is called.

    Args:
        module: The module of the command.
        name: The command, a function of the words after the script's name.
        about: What `--help` prints, which needs no import; `--help TOPIC` is the command's own.
        is_output: Whether what it prints is all that it makes, see `guard`.
    """

    def main(args: Sequence[str] | None = None) -> None:
        if about and help_topic(sys.argv[1:] if args is None else args) == "":
            print(about.strip())
            return
        with _interrupts_kept():
            command = getattr(import_module(module), name)
        command(args)

    return guard(main, is_output=is_output)


def help_topic(words: Sequence[str]) -> str | None:
    """Return the topic that `--help TOPIC` or `-h TOPIC` names.

    Args:
        words: The words after the command's name.

    Returns:
        The topic, empty for `--help` alone; None where no help is asked for.
    """
    for place, word in enumerate(words):
        option, equals, topic = word.partition("=")
        if option in HELP:
            following = "" if equals else next(iter(words[place + 1 : place + 2]), "")
            return topic or ("" if following.startswith("-") else following)
    return None


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Make Ctrl-C during imports end the command, whatever the libraries do with it.

    Some catch every error of an import, and go on without it; C code turns it into another.
    """
    ours = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or not callable(ours):
        yield
        return
    pressed: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        pressed.append(signum)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    try:
        yield
    except Exception as error:
        if pressed:
            raise KeyboardInterrupt from error
        raise
    finally:
        signal.signal(signal.SIGINT, ours)
    if pressed:
        raise KeyboardInterrupt


class ExitCode(Exception):
    """A code that SageMaker's toolkit is to end with.

    It takes the code of an error in its own process from `errno`, and calls anything else that ends
    a training module, even `sys.exit(3)`, a success.

    Args:
        code: The code, not 0.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"the training ended with exit code {code}")
        self.errno = code
