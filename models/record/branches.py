"""Residual blocks without their branch: the shortcut, a constant a channel, and an activation."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regrow.errors import BadInput

# What ends a block that calls it as a function, not as a layer of its own.
RELU = "relu"
CONSTANT = "constant"
MAX_CHANNELS = 10**6


class ShortcutBlock(nn.Module):
    """A residual block whose branch is removed: the shortcut plus what the branch gave.

    Layers of the block that stay keep their names.

    Args:
        block: The block before.
        shortcut: The name of its layer on the shortcut; empty for the identity.
        activation: The name of its layer behind the addition, or `relu` where it calls that as a
            function; empty for none.
        channels: Number of channels.
        trailing: Number of dimensions behind that of the channels: 2 for maps, 0 for tokens.

    Raises:
        BadInput: If the block has no such layers.
    """

    def __init__(
        self, block: nn.Module, shortcut: str, activation: str, channels: int, trailing: int
    ) -> None:
        super().__init__()
        layers = dict(block.named_children())
        for name in {shortcut, activation} & layers.keys():
            self.add_module(name, layers[name])
        if (shortcut and shortcut not in layers) or CONSTANT in {shortcut, activation}:
            raise BadInput(f"a residual block has no layer {shortcut!r} on its shortcut")
        if activation not in {"", RELU, *layers}:
            raise BadInput(f"a residual block has no layer {activation!r} behind its addition")
        like = next(iter((*block.parameters(), *block.buffers())), torch.empty(0))
        dtype = like.dtype if like.is_floating_point() else None
        self.shortcut_name, self.activation_name = shortcut, activation
        self.trailing = trailing
        self.constant = nn.Parameter(torch.zeros(channels, dtype=dtype, device=like.device))
        self.train(block.training)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the output of the block."""
        added = self.constant.view(-1, *[1] * self.trailing)
        x = (self.get_submodule(self.shortcut_name)(x) if self.shortcut_name else x) + added
        if self.activation_name in self._modules:
            activated: Tensor = self.get_submodule(self.activation_name)(x)
            return activated
        return F.relu(x) if self.activation_name else x


def replace_(net: nn.Module, name: str, part: nn.Module) -> None:
    """Put another module in the place of one, in place."""
    owner, _, key = name.rpartition(".")
    net.get_submodule(owner)._modules[key] = part


def record(net: nn.Module) -> dict[str, dict[str, Any]]:
    """Return the blocks of a network that have lost their branch, as plain data by name."""
    return {
        name: {
            "shortcut": block.shortcut_name,
            "activation": block.activation_name,
            "channels": len(block.constant),
            "trailing": block.trailing,
        }
        for name, block in net.named_modules()
        if isinstance(block, ShortcutBlock)
    }


def rebuild_(net: nn.Module, record: Any) -> set[str]:
    """Remove the branches of blocks by a record, in place, before weights are loaded.

    Args:
        net: The dense network, or one whose branches are removed as here.
        record: The result of `record`, perhaps from an untrusted file.

    Returns:
        The names of the constants, which are zero until weights are loaded.

    Raises:
        BadInput: If the record names a block that the network lacks, or what such a block cannot
            have.
    """
    if not isinstance(record, Mapping):
        raise BadInput("its structure has branches that are no record")
    for name, entry in record.items():
        modules = dict(net.named_modules())
        if not isinstance(name, str) or not name or name not in modules:
            raise BadInput(f"its structure names the block {name!r}, which the network lacks")
        if not isinstance(modules[name], ShortcutBlock):
            replace_(net, name, ShortcutBlock(modules[name], **_checked(name, entry)))
    return {f"{name}.{CONSTANT}" for name in record}


def _checked(name: str, entry: Any) -> dict[str, Any]:
    kinds = {"shortcut": str, "activation": str, "channels": int, "trailing": int}
    is_entry = isinstance(entry, Mapping) and entry.keys() == kinds.keys()
    if not is_entry or not all(type(entry[key]) is kind for key, kind in kinds.items()):
        raise BadInput(f"its structure has a block {name!r} that is no shortcut with a constant")
    if not 0 < entry["channels"] <= MAX_CHANNELS or not 0 <= entry["trailing"] <= 3:
        raise BadInput(
            f"its structure gives {name} {entry['channels']} channels before "
            f"{entry['trailing']} dimensions"
        )
    return dict(entry)
