"""Predicted costs of a plan: MACs and parameters by arithmetic, time by each layer's share."""

import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from regrow.models.cost import count_macs, count_params, counted_attention
from regrow.models.modes import evaluating
from regrow.models.nets.attention import converted
from regrow.models.task import Task
from regrow.prune.channels.heads import find_heads
from regrow.prune.channels.records import (
    TRANSPOSED_TYPES,
    WEIGHTED_TYPES,
    Member,
    Plan,
    channel_tensors,
    members_of,
    named_tensor,
    removal,
    width,
)
from regrow.prune.depth.skipping import count_constants, emptied, is_lost_with, lost_parameters

# Names of costs with the values that they have or must not exceed.
Costs = Mapping[str, float]


def costs_of(task: Task, names: Sequence[str] = ("macs", "params")) -> dict[str, int]:
    """Compute the costs of a task's network by name: `macs` of one image, `params`."""
    counters = {"macs": lambda: count_macs(task), "params": lambda: count_params(task.net)}
    return {name: counters[name]() for name in names}


class CostModel:
    """A model of the costs after a cut.

    A layer multiplies each of its weights once at each place of its map, and cutting channels
    leaves the places as they are. Attention besides compares its tokens once a head. What is
    neither is taken as fixed.

    Args:
        task: The network as it is.
    """

    def __init__(self, task: Task) -> None:
        self.net = task.net
        self.dense = costs_of(task)
        self.places, self.products = _measured(task)

    def predict(self, plan: Plan) -> dict[str, int]:
        """Compute the costs after a plan is carried out."""
        branches = emptied(plan)
        left: dict[str, float] = dict.fromkeys(lost_parameters(self.net, branches), 0.0)
        macs, params = float(self.dense["macs"]), float(self.dense["params"])
        params += count_constants(self.net, branches, removal(plan))
        for member, channels in members_of(plan):
            if is_lost_with(member.layer, branches):
                continue
            for name, total in self._tensors(member):
                left[name] = left.get(name, 1.0) * (1 - len(channels) / total)
            if member.side == "in" and member.layer in self.products:
                total = width(self.net.get_submodule(member.layer), member.side) or 1
                macs -= self.products[member.layer] * len(channels) / total
        for name, share in left.items():
            owner, attribute = named_tensor(self.net, name)
            tensor: Tensor = getattr(owner, attribute)
            if isinstance(tensor, nn.Parameter):
                params -= (1 - share) * tensor.numel()
            macs -= (1 - share) * tensor.numel() * self.places.get(name, 0)
        return {"macs": round(macs), "params": round(params)}

    def _tensors(self, member: Member) -> list[tuple[str, int]]:
        """Return the names of the tensors that one side of a layer cuts, with its channels."""
        if member.is_count:
            return []
        if member.dim is not None:
            owner, attribute = named_tensor(self.net, member.layer)
            return [(member.layer, getattr(owner, attribute).shape[member.dim])]
        module = self.net.get_submodule(member.layer)
        total = width(module, member.side) or 0
        return [
            (f"{member.layer}.{name}", total) for name, _ in channel_tensors(module, member.side)
        ]


def _measured(task: Task) -> tuple[dict[str, float], dict[str, float]]:
    """Count for one image at how many places each layer applies its weights, by their name.

    Also what attention multiplies besides its layers, by the layer that reads its heads.
    """
    places: dict[str, float] = defaultdict(float)
    whole: dict[str, float] = defaultdict(float)
    counter = FlopCounterMode(display=False)
    heads = find_heads(task.net)

    def place(name: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            is_transposed = isinstance(module, TRANSPOSED_TYPES)
            maps, channels = (inputs[0], "in") if is_transposed else (output, "out")
            places[f"{name}.weight"] += maps.numel() / (width(module, channels) or 1)  # type: ignore[arg-type]

        return module.register_forward_hook(hook)

    def multiply(name: str, sign: int) -> Any:
        def hook(*_: Any) -> None:
            whole[name] += sign * counter.get_total_flops() / 2

        return hook

    modules = dict(task.net.named_modules())
    handles = [place(name, m) for name, m in modules.items() if isinstance(m, WEIGHTED_TYPES)]
    for name in heads:
        handles.append(modules[name].register_forward_pre_hook(multiply(name, -1)))
        handles.append(modules[name].register_forward_hook(multiply(name, 1)))
    try:
        with converted(task.net), counted_attention(task), counter:
            task(task.example_images(1))
    finally:
        for handle in handles:
            handle.remove()
    sizes = {name: parameter.numel() for name, parameter in task.net.named_parameters()}
    products = {}
    for name, guesses in heads.items():
        reader = guesses[0].members[0].layer
        for projection in (f"{name}.in_proj_weight", f"{name}.qkv.weight"):
            # What is not called as a layer sees the tokens that the reader sees.
            if projection in sizes:
                places.setdefault(projection, places[f"{reader}.weight"])
        inside = [own for own in sizes if own.startswith(f"{name}.")]
        products[reader] = whole[name] - sum(places.get(own, 0) * sizes[own] for own in inside)
    return dict(places), products


@torch.no_grad()
def layer_times(task: Task, rounds: int = 5) -> dict[str, float]:
    """Measure each layer's share of the time that the network spends in its layers.

    Layer by layer in PyTorch, in one thread on the CPU. Shares say which layers are worth cutting;
    how long the whole network takes is measured by `regrow.models.latency`.

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
    branches = emptied(plan)
    left = {layer: 0.0 for layer in times if is_lost_with(layer, branches)}
    for (layer, side), channels in removal(plan).items():
        if layer in times and not is_lost_with(layer, branches):
            total = width(net.get_submodule(layer), side) or 1
            left[layer] = left.get(layer, 1.0) * (1 - len(channels) / total)
    return 1 - sum((1 - share) * times[layer] for layer, share in left.items())
