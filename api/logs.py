"""The logger `regrow`, to which the library reports, and how a command prints it."""

import logging
import sys

log = logging.getLogger("regrow")


class _Shown(logging.Handler):
    """Print one line a message: to stdout, and warnings to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        stream = sys.stderr if record.levelno >= logging.WARNING else sys.stdout
        print(self.format(record), file=stream, flush=True)


def show_log() -> None:
    """Print what the library logs, as a command does; from Python nothing is printed unasked."""
    if not any(isinstance(handler, _Shown) for handler in log.handlers):
        log.addHandler(_Shown())
        log.setLevel(logging.INFO)
