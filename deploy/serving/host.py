"""The models of a server by name: used, swapped, and freed when nobody uses them any more."""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from regrow.allocation import give_back_freed_memory
from regrow.deploy.serving.metrics import Metrics
from regrow.deploy.serving.runner import Runner
from regrow.deploy.serving.served_model import ServedModel


@dataclass(eq=False, slots=True)
class Entry:
    """One model in service.

    Args:
        name: Its name in paths.
        model: The model.
        runner: The thread that runs it.
        url: Where it was loaded from, as the client said.
        num_uses: Requests that use it now.
        unused: Set while there are none.
    """

    name: str
    model: ServedModel
    runner: Runner
    url: str = ""
    num_uses: int = 0
    unused: asyncio.Event = field(default_factory=asyncio.Event)


class Host:
    """Models by name, all of whose methods belong to the event loop.

    Args:
        metrics: Where counts go.
        max_batch: As `regrow.deploy.serving.runner.Runner` takes it.
        max_delay: Likewise.
    """

    def __init__(self, metrics: Metrics, *, max_batch: int = 1, max_delay: float = 0.0) -> None:
        self.metrics, self.max_batch, self.max_delay = metrics, max_batch, max_delay
        self.entries: dict[str, Entry] = {}

    def put(self, name: str, model: ServedModel, url: str = "") -> Entry | None:
        """Serve a model under a name from now on; return the one that was served before."""
        before = self.entries.get(name)
        runner = Runner(
            model, name, self.metrics, max_batch=self.max_batch, max_delay=self.max_delay
        )
        self.entries[name] = Entry(name, model, runner, url)
        self.entries[name].unused.set()
        old = before.model.sha256 if before is not None else None
        self.metrics.name_model(name, model.sha256, old)
        return before

    @contextmanager
    def use(self, name: str) -> Iterator[Entry]:
        """Hold the model of a name, which stays until the context ends.

        Raises:
            KeyError: If there is none.
        """
        entry = self.entries[name]
        entry.num_uses += 1
        entry.unused.clear()
        try:
            yield entry
        finally:
            entry.num_uses -= 1
            if not entry.num_uses:
                entry.unused.set()

    async def remove(self, name: str) -> None:
        """Serve a name no more, and free its model once nobody uses it.

        Raises:
            KeyError: If there is none.
        """
        entry = self.entries.pop(name)
        self.metrics.model_info.remove(name, entry.model.sha256)
        await self.retire(entry)

    async def retire(self, entry: Entry) -> None:
        """Free a model that is served no more, once nobody uses it."""
        await entry.unused.wait()
        await asyncio.to_thread(entry.runner.close)
        del entry.model, entry.runner
        gc.collect()
        await asyncio.to_thread(give_back_freed_memory)

    async def close(self) -> None:
        """End all runners, after what waits."""
        entries, self.entries = list(self.entries.values()), {}
        for entry in entries:
            await asyncio.to_thread(entry.runner.close)
