"""The runner: one thread that runs a model on what waits, several requests at a time."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from regrow.deploy.serving.metrics import Metrics
from regrow.deploy.session import Outputs

SELECTED = "selected"  # the output whose rows name their image


class Runs(Protocol):
    """A model: images in, outputs out."""

    def run(self, images: np.ndarray, names: Sequence[str] | None = None) -> Outputs:
        """Return outputs by name, of images (b, 3, h, w)."""


class Pending(Future[Outputs]):
    """The future of some outputs, which knows that nobody waits for it though it is run already."""

    is_given_up = False

    def cancel(self) -> bool:
        """Cancel it, or let the runner know that it need not go on."""
        self.is_given_up = True
        return super().cancel()


@dataclass(eq=False, slots=True)
class Job:
    """The images of one request that wait for the network.

    Args:
        images: As the graph takes them, (n, 3, h, w).
        names: The outputs that are wanted.
        since: When it came, in seconds of the monotonic clock.
        future: Gets the outputs, or the error.
    """

    images: np.ndarray
    names: tuple[str, ...]
    since: float = field(default_factory=time.monotonic)
    future: Pending = field(default_factory=Pending)


class Runner:
    """A thread that runs a model on jobs, in their order.

    What waits while the network is busy is run together, up to `max_batch` images; a job of more is
    run in parts. A job whose future is cancelled leaves the queue at once.

    Args:
        model: The model.
        name: What metrics call it.
        metrics: Where times and counts go.
        max_batch: Images that the network gets at once at most.
        max_delay: Seconds that a job waits for others, where fewer images are there.
    """

    def __init__(
        self,
        model: Runs,
        name: str,
        metrics: Metrics,
        *,
        max_batch: int = 1,
        max_delay: float = 0.0,
    ) -> None:
        self._model, self._name, self._metrics = model, name, metrics
        self._max_batch, self._max_delay = max_batch, max_delay
        self._jobs: deque[Job] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        metrics.queued.labels(name).set(0)
        self._thread = threading.Thread(target=self._work, name=f"run {name}", daemon=True)
        self._thread.start()

    def submit(self, images: np.ndarray, names: Sequence[str]) -> Pending:
        """Let images wait for the network, and return the future of their outputs.

        Args:
            images: As the graph takes them, (n, 3, h, w).
            names: The outputs that are wanted.

        Raises:
            RuntimeError: If the runner is closed.
        """
        job = Job(images, tuple(names))
        with self._changed:
            if self._is_closed:
                raise RuntimeError("the runner is closed")
            self._jobs.append(job)
            self._count()
            self._changed.notify()
        job.future.add_done_callback(lambda _: self._forget(job))
        return job.future

    def close(self) -> None:
        """Run what waits, and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    @property
    def num_waiting(self) -> int:
        """Count the jobs that wait."""
        return len(self._jobs)

    def _forget(self, job: Job) -> None:
        if job.future.cancelled():
            with self._changed:
                if job in self._jobs:
                    self._jobs.remove(job)
                    self._count()

    def _count(self) -> None:
        self._metrics.queued.labels(self._name).set(len(self._jobs))

    def _work(self) -> None:
        while True:
            jobs = [job for job in self._take() if job.future.set_running_or_notify_cancel()]
            if jobs:
                self._run(jobs)
            elif self._is_closed and not self._jobs:
                return

    def _take(self) -> list[Job]:
        """Wait for jobs, and return those that are run together; none when it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._is_closed)
            if self._max_delay and self._jobs and not self._is_full():
                end = self._jobs[0].since + self._max_delay
                self._changed.wait_for(self._is_full, max(0.0, end - time.monotonic()))
            taken: list[Job] = []
            room = self._max_batch
            while self._jobs and (not taken or len(self._jobs[0].images) <= room):
                taken.append(self._jobs.popleft())
                room -= len(taken[-1].images)
            self._count()
        return taken

    def _is_full(self) -> bool:
        return self._is_closed or sum(len(job.images) for job in self._jobs) >= self._max_batch

    def _run(self, jobs: Sequence[Job]) -> None:
        start = time.monotonic()
        for job in jobs:
            self._metrics.observe("queue", self._name, start - job.since)
        try:
            names = tuple(dict.fromkeys(name for job in jobs for name in job.names))
            images = jobs[0].images if len(jobs) == 1 else np.concatenate([j.images for j in jobs])
            outputs = self._outputs(images, names, jobs)
        except BaseException as error:  # ONNX Runtime's errors share no base class
            for job in jobs:
                job.future.set_exception(error)
            return
        self._metrics.observe("compute_infer", self._name, time.monotonic() - start)
        first = 0
        for job in jobs:
            last = first + len(job.images)
            own = {name: outputs[name] for name in job.names}
            job.future.set_result(own if len(jobs) == 1 else part(own, first, last))
            first = last

    def _outputs(self, images: np.ndarray, names: Sequence[str], jobs: Sequence[Job]) -> Outputs:
        """Return the outputs of any number of images, run in parts while anybody waits for them."""
        parts = []
        for start in range(0, len(images), self._max_batch):
            if all(job.future.is_given_up for job in jobs):
                raise CancelledError
            chunk = images[start : start + self._max_batch]
            found = self._model.run(chunk, names)
            if SELECTED in found and start:
                found[SELECTED] = found[SELECTED] + np.array([start, 0, 0])
            parts.append(found)
            self._metrics.images.labels(self._name).inc(len(chunk))
            self._metrics.batches.labels(self._name).inc()
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([found[name] for found in parts]) for name in names}


def part(outputs: Outputs, first: int, last: int) -> Outputs:
    """Return the outputs of some images of a batch, as if they had been run alone."""
    own = {}
    for name, values in outputs.items():
        if name == SELECTED:
            rows = values[(values[:, 0] >= first) & (values[:, 0] < last)]
            own[name] = rows - np.array([first, 0, 0], rows.dtype)
        else:
            own[name] = values[first:last]
    return own
