"""A server in a process of its own, which ends with the block that needs it."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from regrow.errors import CheckFailed

# With -P, as a folder that is called like a library would stand before it otherwise.
SERVE = ("-P", "-m", "regrow.scripts.serve")
READY = re.compile(r"^serving \S+ at (http://\S+)$", re.MULTILINE)
START_SECONDS = 120.0  # in which a busy machine imports what a server needs
END_SECONDS = 30.0  # after which SageMaker kills a server too
LOOK_SECONDS = 0.05


@contextmanager
def served(words: Sequence[str], log_file: Path) -> Iterator[str]:
    """Run `scripts/serve.py` in a child process, and yield its address when it is ready.

    However the block is left, by an error or Ctrl-C too, the child has ended after it.

    Args:
        words: The words after the script's name.
        log_file: What the server prints goes there.

    Raises:
        CheckFailed: If it does not become ready.
    """
    with log_file.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *SERVE, *words], stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    try:
        yield _address(process, log_file)
    finally:
        _end(process)


def _address(process: subprocess.Popen[bytes], log_file: Path) -> str:
    last = time.monotonic() + START_SECONDS
    while True:
        code = process.poll()
        said = log_file.read_text(errors="replace")
        if code is not None or time.monotonic() > last:
            state = f"is not up in {START_SECONDS:g} s" if code is None else f"ended with {code}"
            words = said.strip().rpartition("\n")[2]
            raise CheckFailed(f"the server {state} ({words}); what it said is in {log_file}")
        if found := READY.search(said):
            return found[1]
        time.sleep(LOOK_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the child well, and else by force, also where Ctrl-C comes while it is waited for."""
    try:
        process.terminate()
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()
        process.wait()
