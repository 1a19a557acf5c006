"""The writer of captures: an observer of a server that writes each request it is told of."""

import re
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from regrow.deploy.capture.hour_files import HourFiles, cut_torn_lines
from regrow.deploy.capture.lines import Capturing, capture_line, utc
from regrow.deploy.capture.space import DiskLimit, Space
from regrow.deploy.serving.observing import Exchange
from regrow.errors import BadInput
from regrow.files import one_line, sync_folder
from regrow.logs import log

MAX_LINE = 2**26  # bytes, which the monitor reads; SageMaker's largest body in base64
PAUSE_SECONDS = 60.0  # after which a full disk is looked at again
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the requests that a writer was told of.

    Args:
        written: Captured.
        num_bytes: Bytes of the captures.
        disk: Dropped at the disk limit.
        large: Dropped, since the line would be longer than is read.
        failed: Dropped, since they could not be written.
    """

    written: int = 0
    num_bytes: int = 0
    disk: int = 0
    large: int = 0
    failed: int = 0


class CaptureWriter:
    """Observer of a server that writes what is answered, as SageMaker's data capture does.

    The files lie in `{folder}/{endpoint}/{variant}/yyyy/mm/dd/hh/`, by the hour of the request in
    UTC. Each line is written at once, and is on the disk after the next `sync`. What cannot be
    written is dropped and counted, and never an error of the server.

    Args:
        folder: The folder of all captures; it is made.
        endpoint: The name of the endpoint.
        variant: The name of its variant.
        capturing: What is captured.
        limit: How much of the disk it may take.
        pause_seconds: Seconds for which capture stops where the disk is full or fails.

    Raises:
        BadInput: If the folder cannot be written, or a name is no name of a folder.
    """

    def __init__(
        self,
        folder: Path,
        endpoint: str = "regrow",
        variant: str = "AllTraffic",
        *,
        capturing: Capturing = Capturing(),
        limit: DiskLimit = DiskLimit(),
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self._capturing, self._pause_seconds = capturing, pause_seconds
        hours = _prepared(folder, endpoint, variant)
        self._files, self._space = HourFiles(hours), Space(folder, limit)
        self._paused_until = 0.0
        self.counts = Counts()

    def __call__(self, exchange: Exchange) -> None:
        """Write one line, or count why it is dropped."""
        try:
            if time.monotonic() < self._paused_until:
                return self._count(disk=1)
            if self._paused_until:
                self._space.measure()
                self._paused_until = 0.0
            line = capture_line(exchange, self._capturing)
            if len(line) > MAX_LINE:
                return self._count(large=1)
            refusal = self._space.refusal(len(line))
            if refusal:
                self._pause(f"{refusal}; make room, or raise it")
                return self._count(disk=1)
            self._files.append(utc(exchange.time).strftime("%Y/%m/%d/%H"), line)
            self._space.add(len(line))
            self._count(written=1, num_bytes=len(line))
        except OSError as error:
            self._fail(error)
            self._count(failed=1)
        except Exception as error:  # whatever a request holds ends no capture of others
            log.warning(f"{exchange.event_id}: not captured ({one_line(error)})")
            self._count(failed=1)

    def sync(self) -> None:
        """Have all that was written on the disk, and look how full that is."""
        try:
            self._files.sync()
            self._space.look()
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        """Have all that was written on the disk, and close the files."""
        try:
            self._files.close()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self._pause(f"the folder cannot be written ({error.strerror or error})")

    def _pause(self, reason: str) -> None:
        self._paused_until = time.monotonic() + self._pause_seconds
        log.warning(f"capture stops for {self._pause_seconds:g} s: {reason}")

    def _count(self, **more: int) -> None:
        # A new record at once, since another thread may read it.
        self.counts = replace(
            self.counts, **{name: getattr(self.counts, name) + n for name, n in more.items()}
        )


def _prepared(folder: Path, endpoint: str, variant: str) -> Path:
    """Return the folder of the hours, made and tried; lines that were torn there are cut off."""
    for name in (endpoint, variant):
        if not NAME.fullmatch(name):
            raise BadInput(
                f"{name!r} names no endpoint or variant: 1 to 63 letters, digits, dots, hyphens "
                "and underscores, of which the first is a letter or a digit"
            )
    hours = folder / endpoint / variant
    try:
        hours.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=hours) as file:
            file.write(b"\n")
        for made in (hours, hours.parent, folder):
            sync_folder(made)
        num_cut = cut_torn_lines(hours)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise BadInput(
            f"{folder}: captures cannot be written there ({said}); name a folder that can be"
        ) from error
    if num_cut:
        log.warning(f"{hours}: cut off {num_cut} torn lines, which a killed process left")
    return hours
