"""Norms whose statistics count the channels that pruning removed, as zeros.

A layer norm over the channels that are left of a residual stream has another mean and variance than
one over all of them, among which the removed ones are zero. The norms here put the zeros back, for
the statistics alone: a pruned network gives exactly what the one with channels at zero gives, from
parameters of the pruned width. Any class of norm will do, since its own code is what runs.

Source: arXiv 2606.14346 for a layer norm that keeps its original count; there by a formula,
mean = sum(x) / d and var = (sum((x - mean)^2) + (d - k) mean^2) / d over k of d channels, which is
what d - k zeros come to.
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regrow.errors import BadInput

# What norms call their number of channels.
COUNTS = ("normalized_shape", "num_channels")


class PaddedNorm(nn.Module):
    """A norm over channels that adds zeros in place of pruned ones, and leaves them out again.

    It is mixed into the class of the norm that it was made from.

    Attributes:
        kind: The class of that norm.
        full_width: How many channels there were.
        is_first: Whether channels are the second dimension, not the last.
    """

    kind: ClassVar[type[nn.Module]]
    full_width: int
    is_first: bool

    def forward(self, x: Tensor) -> Tensor:
        """Normalise over channels.

        Args:
            x: Maps (b, d, ...) or tokens (..., d).

        Returns:
            A tensor of the same shape.
        """
        width = width_of(self) or 0
        if self.full_width <= width:
            whole: Tensor = super().forward(x)
            return whole
        missing = self.full_width - width
        # Channels that come second have other dimensions behind them.
        behind = (0, 0) * (x.ndim - 2 if self.is_first else 0)
        padded: Tensor = self.kind.forward(self._whole(missing), F.pad(x, (*behind, 0, missing)))
        kept = padded.narrow(1 if self.is_first else -1, 0, width)
        return kept if self.is_first else kept.contiguous()

    def _whole(self, missing: int) -> nn.Module:
        """Return the norm of all channels, whose weights are zero where they were removed."""
        whole = object.__new__(self.kind)
        vars(whole).update(vars(self))
        vars(whole)["_parameters"] = {
            name: None if parameter is None else F.pad(parameter, (0, missing))
            for name, parameter in self._parameters.items()
        }
        _count_(whole, self.full_width)
        return whole

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle finds no class that was made by `type`.
        return _unfilled, (self.kind,), vars(self)


def width_of(norm: nn.Module) -> int | None:
    """Count the channels that a layer norm or group norm is over; None if it is over more."""
    if isinstance(norm, nn.GroupNorm):
        return norm.num_channels
    shape: tuple[int, ...] = norm.normalized_shape  # type: ignore[assignment]
    return shape[0] if len(shape) == 1 else None


def cut_norm_(norm: nn.Module, left: list[int]) -> None:
    """Leave only some channels of a norm, in place; a group norm loses the groups of the others."""
    for name, parameter in norm._parameters.items():
        if parameter is not None:
            index = torch.tensor(left, device=parameter.device)
            setattr(norm, name, nn.Parameter(parameter.detach()[index]))
    _count_(norm, len(left))


def _count_(norm: nn.Module, width: int) -> None:
    for name in COUNTS:
        if name in vars(norm):
            vars(norm)[name] = (width,) if isinstance(vars(norm)[name], tuple) else width


def is_paddable(module: nn.Module) -> bool:
    """Whether a layer is a norm over all its channels, which is not converted yet."""
    if isinstance(module, PaddedNorm):
        return False
    if isinstance(module, nn.GroupNorm):
        return module.num_groups == 1
    return isinstance(module, nn.LayerNorm) and width_of(module) is not None


def pad_(norm: nn.Module) -> None:
    """Make a norm remember how many channels it has, in place; what it gives is unchanged.

    Raises:
        BadInput: If the layer is no norm over channels.
    """
    if not is_paddable(norm):
        raise BadInput(f"a {type(norm).__name__} is no norm over its channels")
    norm.full_width = width_of(norm)  # type: ignore[assignment]
    norm.is_first = _is_first(norm)  # type: ignore[assignment]
    norm.__class__ = padded_class(type(norm))


def forget_(net: nn.Module) -> None:
    """Make all norms of a network take only the channels that they have for what there was."""
    for module in net.modules():
        if isinstance(module, PaddedNorm):
            module.full_width = width_of(module) or 0


@torch.no_grad()
def _is_first(norm: nn.Module) -> bool:
    """Whether a norm takes maps with their channels second, by what it does."""
    width = width_of(norm) or 1
    like = next(norm.parameters(), torch.empty(0))
    maps = like.new_zeros(1, width, 1, 3 if width == 2 else 2)
    try:
        return bool(norm.forward(maps).shape == maps.shape)
    except (RuntimeError, ValueError, IndexError):
        return False


CLASSES: dict[type[nn.Module], type[PaddedNorm]] = {}


def padded_class(kind: type[nn.Module]) -> type[PaddedNorm]:
    """Return the class of norms of a kind that count what was pruned, always the same one."""
    if kind not in CLASSES:
        CLASSES[kind] = type(f"Padded{kind.__name__}", (PaddedNorm, kind), {"kind": kind})
    return CLASSES[kind]


def _unfilled(kind: type[nn.Module]) -> PaddedNorm:
    return object.__new__(padded_class(kind))
