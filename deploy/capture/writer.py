"""The writer of captures: a server tells it of each answered request, and never waits for it."""

import re
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

from regrow.deploy.capture.hour_files import HourFiles, cut_torn_lines
from regrow.deploy.capture.lines import Capturing, capture_line, is_sampled, utc
from regrow.deploy.capture.space import DiskLimit, Space
from regrow.deploy.serving.observing import Exchange
from regrow.errors import BadInput
from regrow.files import one_line, sync_folder
from regrow.logs import log

MAX_WAITING = 2**26  # bytes of bodies that wait to be written
MAX_NUM_WAITING = 10_000
MAX_LINE = 2**26  # bytes, which the monitor reads; SageMaker's largest body in base64
SYNC_SECONDS = 1.0
PAUSE_SECONDS = 60.0  # after which a full disk is looked at again
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the requests that a writer was told of.

    Args:
        written: Captured.
        num_bytes: Bytes of the captures.
        unsampled: Not in the sample.
        full: Dropped, since too many waited to be written.
        disk: Dropped at the disk limit.
        large: Dropped, since the line would be longer than is read.
        failed: Dropped, since they could not be written.
    """

    written: int = 0
    num_bytes: int = 0
    unsampled: int = 0
    full: int = 0
    disk: int = 0
    large: int = 0
    failed: int = 0

    @property
    def dropped(self) -> int:
        """Return how many should have been captured and were not."""
        return self.full + self.disk + self.large + self.failed


class CaptureWriter:
    """Observer of a server that writes what is answered, as SageMaker's data capture does.

    The files lie in `{folder}/{endpoint}/{variant}/yyyy/mm/dd/hh/`, by the hour of the request in
    UTC. A thread of its own writes each line at once, and has the disk keep it within a second.
    What cannot be written is dropped and counted, and never an error of the server.

    Args:
        folder: The folder of all captures; it is made.
        endpoint: The name of the endpoint.
        variant: The name of its variant.
        capturing: What is captured.
        limit: How much of the disk it may take.
        sync_seconds: Seconds after which a line is on the disk at the latest.
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
        sync_seconds: float = SYNC_SECONDS,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self._capturing = capturing
        self._sync_seconds, self._pause_seconds = sync_seconds, pause_seconds
        hours = _prepared(folder, endpoint, variant)
        self._files, self._space = HourFiles(hours), Space(folder, limit)
        self._paused_until, self._synced = 0.0, time.monotonic()
        self._counts = Counts()
        self._waiting: deque[Exchange] = deque()
        self._num_waiting_bytes = 0
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="capture", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> Counts:
        """Return what became of the requests so far, at one moment."""
        with self._changed:
            return self._counts

    def __call__(self, exchange: Exchange) -> None:
        """Let a request wait to be captured, if it is in the sample; never waits itself.

        A request is sampled by the client's id where there is one, so that the client can tell
        which are captured, and else by the id of the event.
        """
        own = exchange.inference_id or exchange.event_id
        if not is_sampled(own, self._capturing.share):
            return self._count(unsampled=1)
        size = exchange.num_bytes
        with self._changed:
            is_full = self._num_waiting_bytes + size > MAX_WAITING
            if not (is_full or len(self._waiting) >= MAX_NUM_WAITING or self._is_closed):
                self._waiting.append(exchange)
                self._num_waiting_bytes += size
                self._changed.notify()
                return
        self._count(**{"large" if size > MAX_WAITING else "full": 1})

    def close(self, seconds: float = 5.0) -> None:
        """Write what waits, and close the files; wait so many seconds at most."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(seconds)
        if self._thread.is_alive():
            log.warning(f"{len(self._waiting)} requests were not captured in {seconds:g} s")

    def _work(self) -> None:
        is_synced = True
        while True:
            with self._changed:
                left = self._synced + self._sync_seconds - time.monotonic()
                self._changed.wait_for(
                    lambda: self._waiting or self._is_closed,
                    None if is_synced else max(0.0, left),
                )
                exchange = self._waiting.popleft() if self._waiting else None
                if exchange is None and self._is_closed:
                    break
            if exchange is not None:
                if is_synced:
                    self._synced, is_synced = time.monotonic(), False
                self._write(exchange)
                with self._changed:
                    self._num_waiting_bytes -= exchange.num_bytes
            if not is_synced and time.monotonic() >= self._synced + self._sync_seconds:
                self._sync()
                is_synced = True
        self._sync(is_last=True)

    def _write(self, exchange: Exchange) -> None:
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
                self._pause(f"{refusal}; make room, or raise the limit")
                return self._count(disk=1)
            self._files.append(utc(exchange.time).strftime("%Y/%m/%d/%H"), line)
            self._space.add(len(line))
            self._count(written=1, num_bytes=len(line))
        except OSError as error:
            self._pause(f"the folder cannot be written ({error.strerror or error})")
            self._count(failed=1)
        except Exception as error:  # whatever a request holds ends no capture of others
            log.warning(f"{exchange.event_id}: not captured ({one_line(error)})")
            self._count(failed=1)

    def _sync(self, is_last: bool = False) -> None:
        try:
            self._files.close() if is_last else self._files.sync()
            self._space.look()
        except OSError as error:
            self._pause(f"the folder cannot be written ({error.strerror or error})")

    def _pause(self, reason: str) -> None:
        self._paused_until = time.monotonic() + self._pause_seconds
        log.warning(f"capture stops for {self._pause_seconds:g} s: {reason}")

    def _count(self, **more: int) -> None:
        with self._changed:
            self._counts = replace(
                self._counts, **{name: getattr(self._counts, name) + n for name, n in more.items()}
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
