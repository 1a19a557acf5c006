"""What a network costs: parameters, multiply-accumulates, latency, bytes."""

import io
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from regrow.models.modes import evaluating
from regrow.models.task import Task


@dataclass(frozen=True, slots=True)
class Cost:
    """What one network costs.

    Args:
        params: Number of parameters.
        macs: Multiply-accumulates of one image on the raw graph.
        latency_ms: Median time of one image, in milliseconds.
        bytes: Size of a file with its weights alone.
    """

    params: int
    macs: int
    latency_ms: float | None = None
    bytes: int | None = None


def count_params(net: nn.Module) -> int:
    """Count the parameters of a network."""
    return sum(parameter.numel() for parameter in net.parameters())


@contextmanager
def counted_attention(task: Task) -> Iterator[None]:
    """Let attention run as the matrix products that a counter can see; in evaluation mode."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with evaluating(task), sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def count_macs(task: Task) -> int:
    """Count the multiply-accumulates of one image: half of PyTorch's own floating-point count.

    Convolutions and matrix products count, with attention in full (the fast paths hide it);
    norms and activations do not.
    """
    counter = FlopCounterMode(display=False)
    images = task.example_images(1)
    with counted_attention(task), counter:
        task(images)
    return counter.get_total_flops() // 2


def latency_ms(
    *calls: Callable[[], Any], repeats: int = 30, warm_up: int = 5, threads: int | None = None
) -> list[float]:
    """Time calls side by side: one round after the other, the median of each.

    Args:
        calls: What is timed.
        repeats: Number of rounds.
        warm_up: Rounds before, that do not count.
        threads: Threads of PyTorch during the timing; None keeps them.

    Returns:
        The median of each call, in milliseconds.
    """
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    times: list[list[float]] = [[] for _ in calls]
    try:
        for round_ in range(warm_up + repeats):
            for call, spent in zip(calls, times, strict=True):
                start = time.perf_counter()
                call()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                if round_ >= warm_up:
                    spent.append(1000 * (time.perf_counter() - start))
    finally:
        torch.set_num_threads(before)
    return [statistics.median(spent) for spent in times]


def measure(task: Task) -> Cost:
    """Give parameters, MACs and the file size; latency is measured side by side instead."""
    return Cost(count_params(task.net), count_macs(task), None, file_size(task.net))


def file_size(net: nn.Module) -> int:
    """Give the size of a file with the weights alone, in bytes."""
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    return file.tell()
