"""Latency of networks, measured side by side with a reference in the same rounds."""

import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime
import torch

from regrow.errors import BadInput
from regrow.models.modes import copied
from regrow.models.onnx.command_clock import PATTERN, Program
from regrow.models.onnx.graph import OPSET, build_graph, fix_batch_
from regrow.models.onnx.metadata import InputType
from regrow.models.task import Task

WARM_UP = 3  # rounds of timing that do not count


@dataclass(frozen=True)  # slots would hide its defaults from the command line
class Clock:
    """Settings of latency measurements: runtime, batch size, rounds.

    On the CPU networks run in ONNX Runtime, in one thread, by the CPU time of that thread, which
    other programs on the machine disturb least. A network that cannot be exported, and every
    network on CUDA, runs in PyTorch.

    Args:
        runtime: Runtime for timing: `onnxruntime`, `torch`, or `auto`, which is PyTorch for a
            network on CUDA and ONNX Runtime for any other.
        batch: Batch size for timing.
        rounds: Number of timed rounds; their median counts.
        command: A program of your own that times an ONNX file and prints milliseconds; `{onnx}`
            stands for the file, whose batch size is fixed, as in `trtexec --onnx={onnx}`. It is run
            without a shell, and replaces the runtime; null is none.
        pattern: The regular expression that finds the milliseconds in what the command prints: its
            first group that matches, or all of it; the last match counts. By default a line with
            nothing but a number, or the median of trtexec or of OpenVINO's benchmark_app.
        runs: Number of runs of the command for each network, in turns; their median counts.
        seconds: Time limit of one run of the command.
        input_type: Data type of the images in the ONNX file of the command.
        opset: Version of the ONNX operators (opset) in the file of the command.

    Raises:
        BadInput: If a value is out of range.
    """

    runtime: Literal["auto", "onnxruntime", "torch"] = "auto"
    batch: int = 1
    rounds: int = 15
    command: str | None = None
    pattern: str | None = None
    runs: int = 3
    seconds: float = 600.0
    input_type: InputType = "uint8"
    opset: int = OPSET

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.runs < 1:
            raise BadInput(f"clock.runs is {self.runs}, it must be at least 1")
        if self.command is not None:
            if self.runtime != "auto":
                raise BadInput(
                    f"clock.runtime {self.runtime} has no say beside clock.command; give one"
                )
            Program(self.command, self.pattern or PATTERN, self.seconds)
        elif self.pattern is not None:
            raise BadInput("clock.pattern has no say without clock.command; give both or none")
        if self.batch < 1 or self.rounds < 1:
            raise BadInput(
                f"clock.batch is {self.batch} and clock.rounds {self.rounds}; both must be > 0"
            )

    def beside(self, reference: Task) -> "Latency":
        """Return a timer of networks side by side with a reference.

        Raises:
            BadInput: If ONNX Runtime is asked for and the network cannot be exported.
            ClockFailed: If the command does not give a time; it is tried once.
        """
        if self.command is not None:
            return CommandLatency(reference, self, self.program)
        is_on_cuda = reference.mean.device.type == "cuda"
        if self.runtime == "torch" or (self.runtime == "auto" and is_on_cuda):
            return Latency(reference, self, "PyTorch")
        try:
            return Latency(reference, self, "ONNX Runtime")
        except BadInput:
            if self.runtime == "onnxruntime":
                raise
            return Latency(reference, self, "PyTorch")

    @property
    def program(self) -> Program:
        """Return the program of the user's that the command names."""
        return Program(self.command or "", self.pattern or PATTERN, self.seconds)


class Latency:
    """Timer of networks side by side with a reference network.

    Args:
        reference: The reference, as it is now.
        clock: Batch size and rounds.
        runtime: The runtime of both networks.
    """

    def __init__(
        self, reference: Task, clock: Clock, runtime: Literal["ONNX Runtime", "PyTorch"]
    ) -> None:
        self.clock = clock
        self.runtime: str = runtime
        self.prepared = _in_torch if runtime == "PyTorch" else _in_onnxruntime
        self.reference = self.prepared(reference, clock.batch)

    def __call__(self, task: Task) -> tuple[float, float]:
        """Measure the latency of the reference and of a network, in milliseconds per batch.

        Both run in every round, so that they see the same machine; the median of each counts.
        """
        return times_of(self.reference, self.prepared(task, self.clock.batch), self.clock.rounds)

    def share(self, task: Task) -> float:
        """Measure the latency of a network as a share of the reference's."""
        before, after = self(task)
        return after / before


class CommandLatency(Latency):
    """Timer of networks side by side with a reference by a program of the user's.

    Args:
        reference: The reference, as it is now.
        clock: Batch size, number of runs, and what the ONNX files hold.
        program: The program; it is run once at the start, so that it fails before any work.

    Attributes:
        times: The times of the last measurement, in milliseconds: the reference's, the network's.

    Raises:
        BadInput: If the network cannot be exported.
        ClockFailed: If the program does not give a time.
    """

    def __init__(self, reference: Task, clock: Clock, program: Program) -> None:
        self.clock, self.program, self.runtime = clock, program, program.name
        self.times: list[list[float]] = []
        self.graph = self._graph(reference)
        with _as_files(reference=self.graph) as files:
            program.milliseconds(files[0])

    def __call__(self, task: Task) -> tuple[float, float]:
        """Measure the latency of the reference and of a network, in milliseconds per batch."""
        with _as_files(reference=self.graph, network=self._graph(task)) as files:
            timers = [partial(self.program.milliseconds, file) for file in files]
            self.times = times_in_turns(timers, _alternating(len(timers), self.clock.runs))
        before, after = map(statistics.median, self.times)
        return before, after

    def _graph(self, task: Task) -> bytes:
        clock, is_on_cpu = self.clock, task.mean.device.type == "cpu"
        still = task if is_on_cpu else copied(task).cpu()
        model = build_graph(still, opset=clock.opset, input_type=clock.input_type)
        fix_batch_(model, clock.batch)
        contents: bytes = model.SerializeToString()
        return contents


def time_files(
    files: Mapping[str, Path], images: np.ndarray, clock: Clock = Clock()
) -> dict[str, list[float]]:
    """Time ONNX files side by side, by the clock's command or else in ONNX Runtime, in one thread.

    Args:
        files: The files by name; a command sees copies of these names, of one batch size.
        images: The images as the graphs take them, (clock.batch, 3, h, w).
        clock: The rounds or runs, and the command.

    Returns:
        The times of each file, in milliseconds per batch.

    Raises:
        ClockFailed: If the command does not give a time for one of them.
    """
    if clock.command is None:
        timers = [timed_graph(file, images).milliseconds for file in files.values()]
        times = times_in_turns(timers, _alternating(len(timers), WARM_UP + clock.rounds))
        return {name: own[WARM_UP:] for name, own in zip(files, times, strict=True)}
    graphs = {name: onnx.load(file) for name, file in files.items()}
    for graph in graphs.values():
        fix_batch_(graph, clock.batch)
    fixed = {name: graph.SerializeToString() for name, graph in graphs.items()}
    with _as_files(**fixed) as copies:
        timers = [partial(clock.program.milliseconds, copy) for copy in copies]
        times = times_in_turns(timers, _alternating(len(timers), clock.runs))
        return dict(zip(files, times, strict=True))


def _alternating(count: int, rounds: int) -> list[Sequence[int]]:
    """Return the order of each round, every other one reversed: who comes later is warm."""
    return [range(count)[:: (-1) ** round_] for round_ in range(rounds)]


@contextmanager
def _as_files(**graphs: bytes) -> Iterator[list[Path]]:
    """Write ONNX graphs into a folder that is removed afterwards; yields their files."""
    with TemporaryDirectory(prefix="regrow-clock-") as folder:
        files = [Path(folder) / f"{name}.onnx" for name in graphs]
        for file, graph in zip(files, graphs.values(), strict=True):
            file.write_bytes(graph)
        yield files


@dataclass(frozen=True, slots=True)
class Timed:
    """A call and the clock by which it is timed.

    Args:
        call: Function that runs the network once.
        clock: Function that returns the time in seconds.
    """

    call: Callable[[], Any]
    clock: Callable[[], float]

    def milliseconds(self) -> float:
        """Run the call once and return its time, in milliseconds."""
        start = self.clock()
        self.call()
        return 1000 * (self.clock() - start)


def times_of(one: Timed, other: Timed, rounds: int, warm_up: int = WARM_UP) -> tuple[float, float]:
    """Time two calls in turns; returns the median of each, in milliseconds."""
    orders = _alternating(2, warm_up + rounds)
    first, second = medians([one.milliseconds, other.milliseconds], orders, warm_up)
    return first, second


def _in_onnxruntime(task: Task, batch: int) -> Timed:
    images = task.example_images(batch).numpy(force=True)
    return timed_graph(build_graph(task).SerializeToString(), images)


def timed_graph(graph: bytes | Path, images: np.ndarray) -> Timed:
    """Return the run of an ONNX graph in ONNX Runtime, in one thread, by the CPU time of it.

    Args:
        graph: The graph: its contents, or its file.
        images: The images as it takes them, (b, 3, h, w).
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        graph if isinstance(graph, bytes) else str(graph),
        options,
        providers=["CPUExecutionProvider"],
    )
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
    """Measure the latency of several calls side by side.

    All calls run in every round, each round in a random order, so that none always runs after the
    same one.

    Args:
        calls: The timed functions.
        repeats: Number of timed rounds.
        warm_up: Number of rounds before that do not count.
        threads: Number of PyTorch threads during the timing; None keeps the current number.
        device: The device that all calls compute on; on CUDA they are timed by its events.

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
    """Run timers round by round and return the median of each.

    Args:
        timers: Functions that run something and return its time.
        orders: For each round the indices of the timers, in the order in which they run.
        warm_up: Number of rounds at the start that do not count.
    """
    times = times_in_turns(timers, orders)
    return [statistics.median(spent[warm_up:]) for spent in times]


def times_in_turns(
    timers: Sequence[Callable[[], float]], orders: Iterable[Sequence[int]]
) -> list[list[float]]:
    """Run timers round by round, each round in its own order; returns the times of each."""
    times: list[list[float]] = [[] for _ in timers]
    for order in orders:
        for place in order:
            times[place].append(timers[place]())
    return times


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
    return float(start.elapsed_time(end))
