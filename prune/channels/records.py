"""The records of structured pruning: which channels of which layers must go together."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor, nn

Side = Literal["out", "in"]
Removed = dict[tuple[str, Side], list[int]]

CONV_TYPES = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED_TYPES = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
STATISTICS_TYPES = (nn.LayerNorm, nn.GroupNorm)
NORM_TYPES = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)
WEIGHTED_TYPES = (*CONV_TYPES, *TRANSPOSED_TYPES, nn.Linear)


@dataclass(frozen=True, slots=True)
class Member:
    """One side of one layer that loses channels when its group does.

    Args:
        layer: The layer's name inside `task.net`, or the name of a bare parameter, of a buffer that
            is fixed, or of a count.
        side: `out` for what it makes (and for layers that keep the width), `in` for what it reads.
        units: The channels of each unit; empty where the layer does not see the unit.
        dim: The dimension that is cut, for a bare tensor only; the place in a tuple of counts.
        is_count: Whether it is a whole number that counts channels, such as `attn.num_heads`.
    """

    layer: str
    side: Side
    units: tuple[tuple[int, ...], ...]
    dim: int | None = None
    is_count: bool = False

    def channels(self, units: Iterable[int]) -> list[int]:
        """Return the channels of some units, ascending."""
        return sorted({channel for unit in units for channel in self.units[unit]})


@dataclass(frozen=True, slots=True)
class Branch:
    """The branch of a residual block, which gives a constant where a group of it is all gone.

    Args:
        block: The residual block.
        shortcut: Its layer on the shortcut; empty for the identity.
        activation: What is behind the addition, as `ShortcutBlock` names it.
        reader: The layer that reads the group last and makes the branch's channels.
    """

    block: str
    shortcut: str
    activation: str
    reader: str


@dataclass(frozen=True, slots=True)
class Group:
    """Channels of several layers that are coupled, and can only be removed together.

    Args:
        layer: The layer that the group is named by. Its first member is that layer's side `out`,
            or for heads of attention what reads them.
        members: All sides of layers that lose channels.
        is_normed: Whether norms take statistics over the channels.
        branch: The residual branch that goes if all units do; None if all of them cannot go.
    """

    layer: str
    members: tuple[Member, ...]
    is_normed: bool = False
    branch: Branch | None = None

    @property
    def is_heads(self) -> bool:
        """Whether each unit is a head of attention."""
        return self.members[0].side == "in"

    @property
    def num_units(self) -> int:
        """Count the units, each of which can be removed by itself."""
        return len(self.members[0].units)

    @property
    def channels_per_unit(self) -> int:
        """Count the channels of the naming layer in one unit."""
        return len(self.members[0].units[0])

    @property
    def width(self) -> int:
        """Count the channels of the naming layer that the group covers."""
        return self.num_units * self.channels_per_unit

    def after(self, removed: Removed, units: Sequence[int] = ()) -> "Group":
        """Return the same group in the smaller network.

        Args:
            removed: The channels that left each side of each layer, in the old numbering.
            units: The units of this group that left.
        """
        gone = set(units)
        members = []
        for member in self.members:
            lost = sorted(removed.get((member.layer, member.side), ()))
            kept = [unit for index, unit in enumerate(member.units) if index not in gone]
            members.append(replace(member, units=tuple(_renumber(unit, lost) for unit in kept)))
        return replace(self, members=tuple(members))


# Groups with the units to be removed from each.
Plan = Sequence[tuple[Group, Sequence[int]]]


@dataclass(slots=True)
class Groups:
    """The groups of a network that can be pruned, and why the others cannot.

    Args:
        groups: The groups, in the order of their naming layers in the network.
        left_whole: The reason for every layer whose outputs are never pruned.
        branches_left: The reason for every group of which some units must stay, by its layer, where
            it was asked for.
    """

    groups: list[Group]
    left_whole: dict[str, str] = field(default_factory=dict)
    branches_left: dict[str, str] = field(default_factory=dict)


def removal(plan: Plan) -> Removed:
    """Return the channels that each side of each layer loses by a plan, ascending."""
    lost: dict[tuple[str, Side], set[int]] = {}
    for group, units in plan:
        for member in group.members:
            lost.setdefault((member.layer, member.side), set()).update(member.channels(units))
    return {key: sorted(channels) for key, channels in lost.items() if channels}


def members_of(plan: Plan) -> list[tuple[Member, list[int]]]:
    """Return each side of each layer that a plan removes channels from, with these, ascending."""
    members = {(m.layer, m.side): m for group, _ in plan for m in group.members}
    return [(members[key], channels) for key, channels in removal(plan).items()]


def width(module: nn.Module, side: Side) -> int | None:
    """Count the channels on one side of a layer; None if it has none of its own."""
    if isinstance(module, (*CONV_TYPES, *TRANSPOSED_TYPES)):
        return module.out_channels if side == "out" else module.in_channels
    if isinstance(module, nn.Linear):
        return module.out_features if side == "out" else module.in_features
    if isinstance(module, nn.Embedding):
        return module.embedding_dim
    if isinstance(module, NORM_TYPES):
        return module.num_features
    if isinstance(module, nn.GroupNorm):
        return module.num_channels
    if isinstance(module, nn.LayerNorm):
        return module.normalized_shape[0] if len(module.normalized_shape) == 1 else None
    if isinstance(module, nn.PReLU):
        return module.num_parameters if module.num_parameters > 1 else None
    entries = per_channel(module)
    return int(module.get_buffer(next(iter(entries))).numel()) if entries else None


def per_channel(module: nn.Module) -> dict[str, int]:
    """Return the buffers of a layer without weights that each have one entry a channel.

    Args:
        module: A layer, such as a frozen batch norm of whatever library.

    Returns:
        The dimension of the channels by name; nothing if the layer has other tensors too.
    """
    # All tensors of its own and of the layers in it, such as the activation of timm's norms.
    if isinstance(module, NORM_TYPES) or next(module.parameters(), None) is not None:
        return {}
    buffers = {name: b for name, b in module.named_buffers() if b.is_floating_point()}
    counts = {buffer.numel() for buffer in buffers.values()}
    is_vector = all(max(b.shape, default=0) == b.numel() > 1 for b in buffers.values())
    if len(counts) != 1 or not is_vector or any("." in name for name in buffers):
        return {}
    return {name: buffer.shape.index(buffer.numel()) for name, buffer in buffers.items()}


def is_depthwise(module: nn.Module) -> bool:
    """Whether a convolution has one filter a channel."""
    return (
        isinstance(module, (*CONV_TYPES, *TRANSPOSED_TYPES))
        and module.groups > 1
        and module.groups == module.out_channels == module.in_channels
    )


def num_blocks(module: nn.Module) -> int:
    """Count the blocks of channels that a grouped convolution keeps apart, else 1."""
    is_conv = isinstance(module, (*CONV_TYPES, *TRANSPOSED_TYPES))
    return module.groups if is_conv and not is_depthwise(module) else 1  # type: ignore[return-value]


def channel_tensors(module: nn.Module, side: Side) -> list[tuple[str, int]]:
    """Return the names of a layer's tensors with one entry a channel, and that dimension."""
    if isinstance(module, nn.Embedding):
        return [("weight", 1)]
    if is_depthwise(module):
        return [("weight", 0), *([("bias", 0)] if module.bias is not None else [])]
    if isinstance(module, WEIGHTED_TYPES):
        out_dim, in_dim = (1, 0) if isinstance(module, TRANSPOSED_TYPES) else (0, 1)
        names = [("weight", out_dim if side == "out" else in_dim)]
        return [*names, ("bias", 0)] if side == "out" and module.bias is not None else names
    if entries := per_channel(module):
        return list(entries.items())
    names = [(name, 0) for name in ("weight", "bias", "running_mean", "running_var")]
    return [(name, dim) for name, dim in names if isinstance(getattr(module, name, None), Tensor)]


def rows(module: nn.Module, side: Side, dim: int, channels: Sequence[int]) -> list[int]:
    """Return the indices of channels along a dimension of a weight.

    Where the blocks of a grouped convolution share that dimension, a place stands for one channel
    in each block.
    """
    blocks = num_blocks(module)
    # The second dimension of a grouped convolution's weight runs over one block only.
    if blocks == 1 or dim != 1:
        return list(channels)
    size = (width(module, side) or 0) // blocks
    return sorted({channel % size for channel in channels})


def widths(net: nn.Module) -> dict[str, int]:
    """Count the output channels of every layer with weights."""
    return {
        name: width(module, "out") or 0
        for name, module in net.named_modules()
        if isinstance(module, WEIGHTED_TYPES)
    }


def widths_of(groups: Sequence[Group]) -> dict[str, int]:
    """Count the channels of each layer that groups cover, by each layer that may name one."""
    makers = {
        member.layer: len(member.channels(range(group.num_units)))
        for group in groups
        for member in group.members
        if member.side == "out" and not member.is_count
    }
    return makers | {group.layer: group.width for group in groups}


def named_tensor(net: nn.Module, name: str) -> tuple[nn.Module, str]:
    """Return the module that owns a parameter or a count, and its name there."""
    owner, _, attribute = name.rpartition(".")
    return net.get_submodule(owner), attribute


def _renumber(unit: tuple[int, ...], lost: list[int]) -> tuple[int, ...]:
    """Return the new indices of the channels that stay; `lost` is ascending."""
    gone = set(lost)
    return tuple(channel - bisect_left(lost, channel) for channel in unit if channel not in gone)
