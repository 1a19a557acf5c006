"""What a plan would leave of a network's costs, by arithmetic instead of a trial cut."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from regrow.models.cost import count_macs, count_params
from regrow.models.modes import evaluating
from regrow.models.task import Task
from regrow.prune.channels import (
    TRANSPOSED_TYPES,
    WEIGHTED_TYPES,
    Plan,
    channel_tensors,
    named_tensor,
    removal,
    width,
)

# Names of costs with the values that they have or must not exceed.
Costs = Mapping[str, float]


def costs_of(task: Task, names: Sequence[str] = ("macs", "params")) -> dict[str, int]:
    """Measure the costs of a task's network by name: `macs` of one image, `params`."""
    counters = {"macs": lambda: count_macs(task), "params": lambda: count_params(task.net)}
    return {name: counters[name]() for name in names}


class CostModel:
    """Predicts costs after a cut.

    A layer multiplies each of its weights once at each place of its map, and cutting channels
    leaves the places as they are. What is not a layer's own is taken as fixed.

    Args:
        task: The network as it is.
    """

    def __init__(self, task: Task) -> None:
        self.net = task.net
        self.dense = costs_of(task)
        self.places = _places(task)

    def predict(self, plan: Plan) -> dict[str, int]:
        """Give the costs after a plan is carried out."""
        left: dict[str, float] = {}
        for (layer, side), channels in removal(plan).items():
            for name, total in self._tensors(layer, side):
                left[name] = left.get(name, 1.0) * (1 - len(channels) / total)
        macs, params = float(self.dense["macs"]), float(self.dense["params"])
        for name, share in left.items():
            owner, attribute = named_tensor(self.net, name)
            tensor: Tensor = getattr(owner, attribute)
            if isinstance(tensor, nn.Parameter):
                params -= (1 - share) * tensor.numel()
            macs -= (1 - share) * tensor.numel() * self.places.get(name, 0)
        return {"macs": round(macs), "params": round(params)}

    def _tensors(self, layer: str, side: Any) -> list[tuple[str, int]]:
        """Name the tensors that one side of a layer cuts, with the channels of that side."""
        owner, attribute = named_tensor(self.net, layer)
        if isinstance(getattr(owner, attribute), nn.Parameter):
            parameter = getattr(owner, attribute)
            return [(layer, max(parameter.shape))]
        module = self.net.get_submodule(layer)
        total = width(module, side) or 0
        return [(f"{layer}.{name}", total) for name, _ in channel_tensors(module, side)]


@torch.no_grad()
def _places(task: Task) -> dict[str, float]:
    """Count at how many places of one image each layer applies its weights, by their name."""
    counts: dict[str, float] = defaultdict(float)

    def watch(name: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            is_transposed = isinstance(module, TRANSPOSED_TYPES)
            maps, channels = (inputs[0], "in") if is_transposed else (output, "out")
            counts[f"{name}.weight"] += maps.numel() / (width(module, channels) or 1)  # type: ignore[arg-type]

        return module.register_forward_hook(hook)

    handles = [
        watch(name, module)
        for name, module in task.net.named_modules()
        if isinstance(module, WEIGHTED_TYPES)
    ]
    try:
        with evaluating(task.net):
            task(task.example_images(1))
    finally:
        for handle in handles:
            handle.remove()
    return dict(counts)
