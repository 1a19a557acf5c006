"""How long a network takes on what will run it, measured beside the network it was pruned from."""

import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import onnxruntime
import torch

from regrow.errors import BadInput
from regrow.models.modes import copied
from regrow.models.onnx.graph import build_graph
from regrow.models.task import Task


@dataclass(frozen=True)  # slots would hide its defaults from the command line
class Clock:
    """How networks are timed.

    On the CPU they run in ONNX Runtime, in one thread whose own time is counted, which other
    programs on the machine disturb least. A network that cannot be exported, and every network on
    CUDA, runs in PyTorch.

    Args:
        runtime: `onnxruntime`, `torch`, or `auto`, which is PyTorch for a network on CUDA and
            ONNX Runtime for any other.
        batch: Number of images at once.
        rounds: Number of rounds whose median counts.

    Raises:
        BadInput: If a value is out of range.
    """

    runtime: Literal["auto", "onnxruntime", "torch"] = "auto"
    batch: int = 1
    rounds: int = 15

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.batch < 1 or self.rounds < 1:
            raise BadInput(
                f"clock.batch is {self.batch} and clock.rounds {self.rounds}; both must be > 0"
            )

    def beside(self, reference: Task) -> "Latency":
        """Give what times networks beside this one.

        Raises:
            BadInput: If ONNX Runtime is asked for and the network cannot be exported.
        """
        is_on_cuda = reference.mean.device.type == "cuda"
        if self.runtime == "torch" or (self.runtime == "auto" and is_on_cuda):
            return Latency(reference, self, "PyTorch")
        try:
            return Latency(reference, self, "ONNX Runtime")
        except BadInput:
            if self.runtime == "onnxruntime":
                raise
            return Latency(reference, self, "PyTorch")


class Latency:
    """Times networks beside one that they are compared with.

    Args:
        reference: That network, as it is now.
        clock: How both are timed.
        runtime: What runs them.
    """

    def __init__(
        self, reference: Task, clock: Clock, runtime: Literal["ONNX Runtime", "PyTorch"]
    ) -> None:
        self.clock, self.runtime = clock, runtime
        self.prepared = _in_torch if runtime == "PyTorch" else _in_onnxruntime
        self.reference = self.prepared(reference, clock.batch)

    def __call__(self, task: Task) -> tuple[float, float]:
        """Give the times of the reference and of a network, in milliseconds a batch.

        One round after the other, so that both see the same machine; the median of each.
        """
        return times_of(self.reference, self.prepared(task, self.clock.batch), self.clock.rounds)

    def share(self, task: Task) -> float:
        """Give the time of a network as a share of the reference's."""
        before, after = self(task)
        return after / before


@dataclass(frozen=True, slots=True)
class Timed:
    """A call, and the time that it takes.

    Args:
        call: Runs the network once.
        clock: Gives a time in seconds, of which differences count.
    """

    call: Callable[[], Any]
    clock: Callable[[], float]

    def milliseconds(self) -> float:
        """Run once, and say how long it took."""
        start = self.clock()
        self.call()
        return 1000 * (self.clock() - start)


def times_of(one: Timed, other: Timed, rounds: int, warm_up: int = 3) -> tuple[float, float]:
    """Time two calls by turns, and give the median of each, in milliseconds."""
    # The order alternates: whoever comes second finds the machine warm.
    orders = [(1, 0) if round_ % 2 else (0, 1) for round_ in range(warm_up + rounds)]
    first, second = medians([one.milliseconds, other.milliseconds], orders, warm_up)
    return first, second


def _in_onnxruntime(task: Task, batch: int) -> Timed:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        build_graph(task).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    images = task.example_images(batch).numpy(force=True)
    return Timed(lambda: session.run(None, {"images": images}), time.thread_time)


def _in_torch(task: Task, batch: int) -> Timed:
    still, images = copied(task).eval(), task.example_images(batch)
    is_on_cuda = images.device.type == "cuda"

    @torch.inference_mode()
    def call() -> None:
        still(images)
        if is_on_cuda:
            torch.cuda.synchronize()

    def alone() -> None:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            call()
        finally:
            torch.set_num_threads(threads)

    return Timed(call, time.perf_counter) if is_on_cuda else Timed(alone, time.thread_time)


def latency_ms(
    *calls: Callable[[], Any],
    repeats: int = 30,
    warm_up: int = 5,
    threads: int | None = None,
    device: torch.device | None = None,
) -> list[float]:
    """Time calls side by side: one round after the other, the median of each.

    Every round has an order of its own, so that none always runs after the same one.

    Args:
        calls: What is timed.
        repeats: Number of rounds.
        warm_up: Rounds before, that do not count.
        threads: Threads of PyTorch during the timing; None keeps them.
        device: What all calls compute on; if it is CUDA, its own events are the clock.

    Returns:
        The median of each call, in milliseconds.
    """
    clock = _event_clock if device is not None and device.type == "cuda" else _wall_clock
    before, order = torch.get_num_threads(), random.Random(0)
    if threads is not None:
        torch.set_num_threads(threads)
    places = range(len(calls))
    orders = [order.sample(places, len(calls)) for _ in range(warm_up + repeats)]
    try:
        return medians([partial(clock, call) for call in calls], orders, warm_up)
    finally:
        torch.set_num_threads(before)


def medians(
    timers: Sequence[Callable[[], float]], orders: Iterable[Sequence[int]], warm_up: int
) -> list[float]:
    """Give the median of what each timer says, one round after the other.

    Args:
        timers: Each runs something and says how long that took.
        orders: For each round the places of the timers, in the order in which they run.
        warm_up: Rounds at the start that do not count.
    """
    times: list[list[float]] = [[] for _ in timers]
    for round_, order in enumerate(orders):
        for place in order:
            elapsed = timers[place]()
            if round_ >= warm_up:
                times[place].append(elapsed)
    return [statistics.median(spent) for spent in times]


def _wall_clock(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return 1000 * (time.perf_counter() - start)


def _event_clock(call: Callable[[], Any]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)
