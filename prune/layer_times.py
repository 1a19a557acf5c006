"""Where a network spends its time, and how much of it a plan would save."""

import statistics
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from regrow.models.modes import evaluating
from regrow.models.task import Task
from regrow.prune.channels.records import Plan, removal, width


@torch.no_grad()
def layer_times(task: Task, rounds: int = 5) -> dict[str, float]:
    """Measure each layer's share of the time that the network spends in its layers.

    Layer by layer in PyTorch, in one thread on the CPU. Shares say which layers are worth cutting;
    how long the whole network takes is for `regrow.models.latency` to say.

    Args:
        task: The task; its network is run in evaluation mode.
        rounds: Number of runs whose median counts, after one that does not.

    Returns:
        Shares that add up to 1, by the layer's name inside the network.
    """
    spent: dict[str, list[float]] = defaultdict(list)
    started: dict[str, float] = {}
    device = task.mean.device

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            return time.perf_counter()
        return time.thread_time()

    def before(name: str) -> Any:
        return lambda *_: started.__setitem__(name, now())

    def after(name: str) -> Any:
        return lambda *_: spent[name].append(now() - started[name])

    leaves = {n: m for n, m in task.net.named_modules() if n and not any(m.children())}
    handles = [m.register_forward_pre_hook(before(name)) for name, m in leaves.items()]
    handles += [m.register_forward_hook(after(name)) for name, m in leaves.items()]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    runs: list[dict[str, float]] = []
    try:
        with evaluating(task.net):
            for _ in range(rounds + 1):
                spent.clear()
                task(task.example_images(1))
                runs.append({name: sum(times) for name, times in spent.items()})
    finally:
        torch.set_num_threads(threads)
        for handle in handles:
            handle.remove()
    medians = {name: statistics.median(run[name] for run in runs[1:]) for name in runs[0]}
    total = sum(medians.values()) or 1.0
    return {name: median / total for name, median in medians.items()}


def time_left(net: nn.Module, times: Mapping[str, float], plan: Plan) -> float:
    """Predict the share of the time that a plan leaves.

    A layer's time is taken to follow the channels that it makes times those that it reads; what is
    in no layer, to stay.

    Args:
        net: The network before the cut.
        times: Shares by layer, as `layer_times` gives them.
        plan: Groups of this very network with the units to remove.
    """
    left: dict[str, float] = {}
    for (layer, side), channels in removal(plan).items():
        if layer in times:
            total = width(net.get_submodule(layer), side) or 1
            left[layer] = left.get(layer, 1.0) * (1 - len(channels) / total)
    return 1 - sum((1 - share) * times[layer] for layer, share in left.items())
