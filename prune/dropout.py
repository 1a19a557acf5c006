"""Kinds of dropout that are added to any network from outside, as hooks.

Names, weights and structure of the network stay as they are, so nobody's code has to know. Draws
come from torch's default generator, which a task seeds before each step.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from torchvision.ops import FrozenBatchNorm2d, drop_block2d

from regrow.errors import BadInput
from regrow.models.modes import evaluating
from regrow.models.task import Task
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.records import CONV_TYPES, NORM_TYPES, Group, Member
from regrow.prune.criteria import Magnitude

Inputs = tuple[Any, ...]


class Dropout(ABC):
    """A kind of dropout, with its rate."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Return its name with its rate, such as `dropout-0.3`."""

    @abstractmethod
    def attach(self, task: Task) -> list[RemovableHandle]:
        """Add hooks to the network, which act while it is in training mode."""

    @contextmanager
    def applied(self, task: Task) -> Iterator[None]:
        """Context manager: add it to a network, and remove it afterwards.

        Args:
            task: The network; it is left without a trace.
        """
        handles = self.attach(task)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class HeadDropout(Dropout):
    """Ordinary dropout: of single features, before the layers that give the outputs.

    Source: Srivastava et al. 2014, Journal of Machine Learning Research 15.

    Args:
        rate: The probability that a feature is dropped, in [0, 1); those that stay are scaled up.
    """

    def __init__(self, rate: float = 0.5) -> None:
        self.rate = _share("rate", rate)

    @property
    def name(self) -> str:
        """Name it with its rate."""
        return f"dropout-{self.rate:g}"

    def attach(self, task: Task) -> list[RemovableHandle]:
        """Put it before the output layers."""
        net = task.net

        def hook(module: nn.Module, inputs: Inputs) -> Inputs:
            return (F.dropout(inputs[0], self.rate, net.training), *inputs[1:])

        layers = [net.get_submodule(name) for name in task.output_layers()]
        return [layer.register_forward_pre_hook(hook) for layer in layers]


class _MapDropout(Dropout):
    """Dropout of feature maps, after the norms in the deeper part of a network.

    A ReLU that follows changes nothing: what is zero stays so, and scales pass through.
    """

    def __init__(self, rate: float, depth: float) -> None:
        self.rate, self.depth = _share("rate", rate), depth
        if not 0 < depth <= 1:
            raise BadInput(f"{type(self).__name__}: depth is {depth}, it must lie in (0, 1]")

    @abstractmethod
    def drop(self, maps: Tensor) -> Tensor:
        """Drop something of maps, (b, d, h, w)."""

    def attach(self, task: Task) -> list[RemovableHandle]:
        """Put it after the last norms.

        Raises:
            BadInput: If no layer gives maps.
        """
        net = task.net

        def hook(module: nn.Module, inputs: Inputs, maps: Tensor) -> Tensor | None:
            return self.drop(maps) if net.training else None

        places = find_maps(task)
        count = max(1, round(self.depth * len(places)))
        return [place.register_forward_hook(hook) for place in places[-count:]]


class SpatialDropout(_MapDropout):
    """Spatial dropout: whole channels are dropped.

    Source: Tompson et al. 2015, arXiv 1411.4280.

    Args:
        rate: The probability that a channel of an image is dropped, in [0, 1); those that stay are
            scaled up.
        depth: Share of the norms that it follows, the last ones, in (0, 1].
    """

    def __init__(self, rate: float = 0.1, depth: float = 0.5) -> None:
        super().__init__(rate, depth)

    @property
    def name(self) -> str:
        """Name it with its rate."""
        return f"spatial-{self.rate:g}"

    def drop(self, maps: Tensor) -> Tensor:
        """Drop channels."""
        return F.dropout2d(maps, self.rate)


class DropBlock(_MapDropout):
    """DropBlock: square blocks of each channel are dropped.

    Source: Ghiasi et al. 2018, arXiv 1810.12890, whose rate rises during training; here it stays.

    Args:
        rate: About the share of places that is dropped, in [0, 1); those that stay are scaled up.
        block_size: Height and width of a block; maps that are smaller have blocks as large as they
            can hold. It must be odd.
        depth: Share of the norms that it follows, the last ones, in (0, 1].
    """

    def __init__(self, rate: float = 0.1, block_size: int = 3, depth: float = 0.5) -> None:
        super().__init__(rate, depth)
        if block_size < 1 or block_size % 2 == 0:
            raise BadInput(f"DropBlock: block_size is {block_size}, it must be odd and > 0")
        self.block_size = block_size

    @property
    def name(self) -> str:
        """Name it with its rate."""
        return f"dropblock-{self.rate:g}"

    def drop(self, maps: Tensor) -> Tensor:
        """Drop blocks."""
        side = min(self.block_size, *maps.shape[-2:])
        # In bfloat16 the count of places that stay, which maps are scaled by, would be rounded.
        dropped: Tensor = drop_block2d(maps.float(), self.rate, side - (side + 1) % 2)
        return dropped.to(maps.dtype)


class TargetedDropout(Dropout):
    """Targeted dropout: of the units that pruning by magnitude would remove first.

    A unit is what pruning removes at once, in all layers that share it. It is dropped for a whole
    batch, before every layer that reads it: the batch sees the network without it, and it gets no
    gradient. Norms before that go on seeing it, so their statistics stay those of the network.

    Source: Gomez et al. 2019, arXiv 1905.13678, with units of a layer in place of a group's. As
    there, what stays is not scaled up: the network learns to do without.

    Args:
        rate: The probability that a targeted unit is dropped, in [0, 1]; the source's alpha.
        share: The share of the units of each group that is targeted, in [0, 1); the source's gamma.
        rank_every: After how many batches the units are ranked anew.
    """

    def __init__(self, rate: float = 0.5, share: float = 0.5, rank_every: int = 10) -> None:
        if not 0 <= rate <= 1:
            raise BadInput(f"TargetedDropout: rate is {rate}, it must lie in [0, 1]")
        if rank_every < 1:
            raise BadInput(f"TargetedDropout: rank_every is {rank_every}, it must be at least 1")
        self.rate, self.share = rate, _share("share", share)
        self.rank_every = rank_every

    @property
    def name(self) -> str:
        """Name it with its rate."""
        return f"targeted-{self.rate:g}"

    def attach(self, task: Task) -> list[RemovableHandle]:
        """Put it before every layer that reads a unit.

        Raises:
            BadInput: If no units can be removed, or the network cannot be traced.
        """
        groups = find_groups(task).groups
        if not groups:
            raise BadInput("targeted dropout has nothing to target: no layer can be pruned")
        scores: list[Tensor] = []
        kept: dict[str, Tensor] = {}
        num_batches = 0

        def draw(module: nn.Module, inputs: Inputs) -> None:
            nonlocal num_batches
            if not task.net.training:
                return
            if num_batches % self.rank_every == 0:
                scores[:] = Magnitude().scores(task, groups, None)
            num_batches += 1
            for group, values in zip(groups, scores, strict=True):
                keep = draw_kept(values, self.share, self.rate)
                # The last entry is that of channels which are no unit of the group.
                kept[group.layer] = F.pad(keep, (0, 1), value=1).to(task.mean.device)

        handles = [task.register_forward_pre_hook(draw)]
        for group, member in _readers(groups):
            layer = task.net.get_submodule(member.layer)
            handles.append(layer.register_forward_pre_hook(_mask_input(task, group, member, kept)))
        return handles


def draw_kept(scores: Tensor, share: float, rate: float) -> Tensor:
    """Draw which units stay: those of the lowest scores are at risk.

    Args:
        scores: One score a unit, (units,).
        share: The share of units at risk, rounded down to whole units, in [0, 1].
        rate: The probability that a unit at risk is dropped, in [0, 1].

    Returns:
        1 for each unit that stays and 0 for each that is dropped, float32 (units,).
    """
    kept = torch.ones(len(scores))
    lowest = scores.argsort(stable=True)[: int(share * len(scores))]
    kept[lowest] = (torch.rand(len(lowest)) >= rate).float()
    return kept


def find_maps(task: Task) -> list[nn.Module]:
    """Return the norms whose outputs are maps (b, d, h, w), in the order of their first call.

    Args:
        task: The network, which is run once in evaluation mode and left as it was.

    Returns:
        The norms; convolutions where the network has no such norms, less those that give outputs.

    Raises:
        BadInput: If there are neither.
    """
    outputs = set(task.output_layers())
    layers = [module for name, module in task.net.named_modules() if name not in outputs]
    for types in ((*NORM_TYPES, nn.GroupNorm, FrozenBatchNorm2d), CONV_TYPES):
        found = _called(task, [layer for layer in layers if isinstance(layer, types)])
        if found:
            return found
    raise BadInput(f"{type(task.net).__name__}: no layer gives maps that could be dropped")


def _called(task: Task, layers: list[nn.Module]) -> list[nn.Module]:
    found: dict[nn.Module, None] = {}

    def hook(module: nn.Module, inputs: Inputs, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4:
            found.setdefault(module)

    handles = [layer.register_forward_hook(hook) for layer in layers]
    try:
        with evaluating(task), torch.no_grad():
            task(task.example_images(1))
    finally:
        for handle in handles:
            handle.remove()
    return list(found)


def _readers(groups: list[Group]) -> list[tuple[Group, Member]]:
    return [
        (group, member)
        for group in groups
        for member in group.members
        if member.side == "in" and member.dim is None
    ]


def _mask_input(
    task: Task, group: Group, member: Member, kept: dict[str, Tensor]
) -> Callable[[nn.Module, Inputs], Inputs | None]:
    """Return the hook that drops the units of a group from what a layer reads."""
    units: Tensor | None = None

    def hook(module: nn.Module, inputs: Inputs) -> Inputs | None:
        nonlocal units
        if not task.net.training or group.layer not in kept:
            return None
        is_linear = isinstance(module, nn.Linear)
        if units is None:
            units = _unit_of_channel(member, inputs[0].shape[-1 if is_linear else 1])
            units = units.to(inputs[0].device)
        mask = kept[group.layer][units].to(inputs[0].dtype)
        shape = mask.shape if is_linear else (-1, *[1] * (inputs[0].ndim - 2))
        return (inputs[0] * mask.view(shape), *inputs[1:])

    return hook


def _unit_of_channel(member: Member, width: int) -> Tensor:
    """Return the unit of each channel that a layer reads; one past the last for all others."""
    units = torch.full((width,), len(member.units))
    for unit, channels in enumerate(member.units):
        units[list(channels)] = unit
    return units


def _share(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise BadInput(f"dropout: {name} is {value}, it must lie in [0, 1)")
    return value
