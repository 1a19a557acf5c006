"""A user's own program that times an ONNX file and prints milliseconds."""

import math
import os
import re
import shlex
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from regrow.errors import BadInput

PLACE = "{onnx}"
NUMBER = r"((?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
UNITS = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}  # in milliseconds
UNIT = rf"\s*(?P<unit>{'|'.join(UNITS)})?"
# A line that is nothing but a number, and the medians of trtexec and of OpenVINO's benchmark_app,
# which prints short ones in microseconds.
LINE = rf"^\s*(?=[\d.eE+-]+\s*(?:{'|'.join(UNITS)})?\s*$)"
PATTERN = rf"(?:{LINE}|\] Latency: .*?\bmedian = |\bMedian: +){NUMBER}{UNIT}"
MAX_OUTPUT = 2**20  # bytes at the end of what it prints that are searched
LONGEST = 200  # characters of what it printed that an error shows


class ClockFailed(BadInput):
    """A clock of the user's that did not give a time (code 2)."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that times an ONNX file.

    It is started without a shell, in a session of its own, so that all that it starts can be
    stopped with it.

    Args:
        command: The command line, quoted as for a shell; `{onnx}` stands for the file.
        pattern: Regular expression that finds the milliseconds in what it prints: its first group
            that matches is the number, or all of it if it has none. A group named `unit` may match
            ns, us, s or ms. The last match counts.
        seconds: Time limit of one run.

    Raises:
        BadInput: If the command line names no program or no file, or the pattern is none.
    """

    command: str
    pattern: str = PATTERN
    seconds: float = 600.0

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise BadInput(
                f"clock.command {self.command!r}: {error}; quote as in a shell"
            ) from None
        if not words or not any(PLACE in word for word in words[1:]):
            raise BadInput(
                f"clock.command {self.command!r} must name a program, and after it the file by "
                f"{PLACE}, as in 'trtexec --onnx={PLACE}'"
            )
        try:
            re.compile(self.pattern, re.MULTILINE)
        except re.error as error:
            raise BadInput(
                f"clock.pattern {self.pattern!r} is no regular expression: {error}"
            ) from None
        if not self.seconds > 0:
            raise BadInput(f"clock.seconds is {self.seconds:g}, it must be > 0")

    @property
    def name(self) -> str:
        """Return the name of the program, without its folder."""
        return Path(shlex.split(self.command)[0]).name

    def milliseconds(self, file: Path) -> float:
        """Run the program on a file once and return the milliseconds that it prints.

        Raises:
            ClockFailed: If it cannot be started, fails, takes too long, or prints no such number.
        """
        words = [word.replace(PLACE, str(file)) for word in shlex.split(self.command)]
        # A file and no pipe: what it leaves running may keep a pipe open.
        with TemporaryFile() as output:
            code = self._run(words, output)
            size = output.seek(0, os.SEEK_END)
            output.seek(max(0, size - MAX_OUTPUT))
            printed = output.read().decode("utf-8", "replace").replace("\r", "\n")
        if code:
            how = f"ended with exit code {code}" if code > 0 else f"was ended by signal {-code}"
            raise ClockFailed(f"clock.command: {self.name} {how}; {_last_line(printed)}")
        return self._read(printed)

    def _run(self, words: list[str], output: IO[bytes]) -> int:
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise ClockFailed(
                f"clock.command: {words[0]!r} cannot be run ({error.strerror}); give the path of a "
                "program, and options behind it; no shell reads the command"
            ) from error
        try:
            return process.wait(self.seconds)
        except subprocess.TimeoutExpired as error:
            raise ClockFailed(
                f"clock.command: {self.name} was stopped after {self.seconds:g} s, the limit of "
                "clock.seconds; raise it, or see why it hangs"
            ) from error
        finally:
            # Also where this process is told to stop meanwhile.
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _read(self, printed: str) -> float:
        matches = list(re.finditer(self.pattern, printed, re.MULTILINE))
        if not matches:
            raise ClockFailed(
                f"clock.command: nothing that {self.name} printed matches clock.pattern, "
                f"{self._pattern_in_words()}; {_last_line(printed)}"
            )
        match = matches[-1]
        unit = match.groupdict().get("unit")
        place = match.re.groupindex.get("unit")
        groups = [text for n, text in enumerate(match.groups(), 1) if text and n != place]
        found = groups[0] if groups else match[0]
        try:
            value = float(found) * UNITS[unit or "ms"]
        except (KeyError, ValueError):
            value = math.nan
        if not (math.isfinite(value) and value > 0):
            raise ClockFailed(
                f"clock.command: {self.name} printed {match[0].strip()[:LONGEST]!r} where "
                "clock.pattern finds its milliseconds, which must be a number > 0; give another "
                "pattern"
            )
        return value

    def _pattern_in_words(self) -> str:
        if self.pattern == PATTERN:
            return "which by default is a line with nothing but a number"
        return f"{self.pattern!r}"


def _last_line(printed: str) -> str:
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    return f"its last line was {lines[-1][:LONGEST]!r}" if lines else "it printed nothing"
