"""A watch over `promoted.json`: what it newly names is loaded beside, and takes over."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from regrow.deploy.serving.served_model import ServedModel
from regrow.deploy.serving.service import Service
from regrow.files import one_line
from regrow.logs import log

RETRY = 15  # looks until a file that could not be used is tried again, as one that is copied
Stamp = tuple[int, int, int] | None


def stamp(file: Path) -> Stamp:
    """Return what changes when a file does; None where there is none."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


class Watch:
    """A watch over the file that names the model to serve.

    Args:
        service: The service.
        name: The name of the model.
        file: The file.
        load: Returns the model that the file names.
        seen: The stamp of the file before its model was loaded.
        seconds: How often the file is looked at.
    """

    def __init__(
        self,
        service: Service,
        name: str,
        file: Path,
        load: Callable[[Path], ServedModel],
        *,
        seen: Stamp,
        seconds: float = 1.0,
    ) -> None:
        self._service, self._name, self._file, self._load = service, name, file, load
        self._seen, self._seconds = seen, seconds
        self._said = ""

    async def run(self) -> None:
        """Look at the file until cancelled; swap the model when it names another one."""
        num_left = 0
        while True:
            await asyncio.sleep(self._seconds)
            now = stamp(self._file)
            num_left = max(0, num_left - 1)
            if now != self._seen or (self._said and not num_left):
                self._seen, num_left = now, RETRY
                await self._take()

    async def _take(self) -> None:
        reloads, old = self._service.metrics.reloads, self._service.host.entries[self._name]
        try:
            model = await asyncio.to_thread(self._load, self._file)
        except Exception as error:  # of a stranger's file; the server goes on
            reloads.labels(self._name, "failed").inc()
            if one_line(error) != self._said:
                self._said = one_line(error)
                log.warning(f"{self._said}; {old.model.sha256[:12]} is served still")
            return
        self._said = ""
        if model.sha256 == old.model.sha256:
            return
        self._service.host.put(self._name, model)
        reloads.labels(self._name, "taken").inc()
        log.info(
            f"{model.file} ({model.sha256[:12]}) is served now, no longer {old.model.sha256[:12]}"
        )
        await self._service.host.retire(old)
