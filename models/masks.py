"""Masks for unstructured sparsity: single weights that are zero and stay zero in training.

A mask is a non-persistent boolean buffer of a layer, beside its weight. So it moves with the layer
to another device, into a copy or another task, and the state dict keeps the names of the dense
network. The weights themselves hold the zeros, so the forward pass, an export and other tools need
no mask. Two steps keep them zero in training: gradients of masked weights are cleared before
clipping, so that norm, momentum and moments are those of a network without these weights, and
masked weights are set to zero after each optimizer step. Pruning of channels moves the masks with
the weights (`carried`). A checkpoint holds the masks as bits in its record, since zeros alone do
not tell a masked weight from one that happens to be zero.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from regrow.errors import BadInput

_SUFFIX = "_kept"


@dataclass(frozen=True, slots=True)
class Sparsity:
    """The sparsity of a network: the shares of its weights that are masked, in [0, 1].

    Args:
        by_weight: The masked share of each weight tensor that has a mask.
        masked: The masked share of all weight tensors with masks together; 0 without masks.
        overall: The masked share of all parameters.
    """

    by_weight: dict[str, float]
    masked: float
    overall: float


def mask_weights_(net: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Mask weights of a network, in place; weights that are masked already stay masked.

    Args:
        net: The network.
        masks: For each weight by name a boolean tensor of its shape, True where a weight is kept.

    Raises:
        BadInput: If the network has no such weight, it is a bias or a scale, or the mask has
            another shape or type; the network is unchanged then.
    """
    places = {name: _place(net, name, mask) for name, mask in masks.items()}
    for name, mask in masks.items():
        module, key = places[name]
        mask = mask.to(module._parameters[key].device)  # type: ignore[union-attr]
        old = module._buffers.get(key + _SUFFIX)
        _set(module, key, mask.clone() if old is None else mask & old)
    zero_masked_(net)


def remask_(net: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Replace masks of a network, in place; unmasked weights are zero until they are trained.

    Args:
        net: The network.
        masks: As for `mask_weights_`; other weights keep their masks.

    Raises:
        BadInput: As `mask_weights_` does.
    """
    places = {name: _place(net, name, mask) for name, mask in masks.items()}
    for name, mask in masks.items():
        module, key = places[name]
        _set(module, key, mask.to(module._parameters[key].device, copy=True))  # type: ignore[union-attr]
    zero_masked_(net)


def masks_of(net: nn.Module) -> dict[str, Tensor]:
    """Return the masks of a network by weight name, True where a weight is kept."""
    found = {}
    for name, module, key in _masked(net):
        found[f"{name}.{key}" if name else key] = module._buffers[key + _SUFFIX]
    return found  # type: ignore[return-value]


def unmask_(net: nn.Module) -> None:
    """Remove all masks of a network, in place; the weights are zero until they are trained."""
    for _, module, key in _masked(net):
        del module._buffers[key + _SUFFIX]


def zero_masked_(net: nn.Module) -> None:
    """Set the masked weights of a network to zero, in place."""
    _fill_(_weights(net), 0)


def sparsity(net: nn.Module) -> Sparsity:
    """Compute the sparsity of a network."""
    masks = masks_of(net)
    gone = {name: int((~mask).sum()) for name, mask in masks.items()}
    size = sum(mask.numel() for mask in masks.values())
    total = sum(parameter.numel() for parameter in net.parameters())
    by_weight = {name: gone[name] / mask.numel() for name, mask in masks.items()}
    return Sparsity(
        by_weight, sum(gone.values()) / max(size, 1), sum(gone.values()) / max(total, 1)
    )


class Hold:
    """Keeps masked weights at zero while an optimizer trains the network.

    Args:
        net: The network, on the device where it is trained.
        optimizer: The optimizer of its parameters, which gets a hook after each step.
    """

    def __init__(self, net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.net = net
        self.follow()
        if self.weights:
            optimizer.register_step_post_hook(self._zero_weights)

    def follow(self) -> None:
        """Take up the current masks of the network; call it when they have changed."""
        self.weights = _weights(self.net)

    def clear_gradients(self) -> None:
        """Set the gradients of masked weights to zero; call it before they are clipped."""
        _fill_([(w.grad, gone) for w, gone in self.weights if w.grad is not None], 0)

    def _zero_weights(self, *_: Any) -> None:
        _fill_(self.weights, 0)


@contextmanager
def carried(net: nn.Module) -> Iterator[None]:
    """Context manager: carry masks along while weights are moved, as by the pruning of channels.

    Masked weights are NaN meanwhile, and wherever a NaN ends up is masked afterwards. New weights
    are not masked.

    Args:
        net: The network, whose layers stay the same objects.

    Raises:
        BadInput: If a masked layer holds weights that are NaN already.
    """
    places = [(module, key) for _, module, key in _masked(net)]
    for name, mask in masks_of(net).items():
        if net.get_parameter(name)[mask].isnan().any():
            raise BadInput(f"{name} holds weights that are not a number; train the network anew")
    _fill_(_weights(net), math.nan)
    try:
        yield
    finally:
        for module, key in places:
            _set(module, key, ~module._parameters[key].detach().isnan())  # type: ignore[union-attr]
        zero_masked_(net)


def record(net: nn.Module) -> dict[str, Tensor]:
    """Return the masks of a network as packed bits, for a checkpoint.

    Returns:
        For each weight of n entries by name, uint8 (ceil(n / 8),): eight entries per byte in the
        order of the flat tensor, the first in the highest bit, 1 where a weight is kept, padded
        with zeros.

    Raises:
        BadInput: If a masked weight is not zero.
    """
    masks = masks_of(net)
    _refuse_grown(net, masks, "was trained without its mask; call zero_masked_ on the network")
    bits = {name: np.packbits(mask.flatten().cpu().numpy()) for name, mask in masks.items()}
    return {name: torch.from_numpy(packed) for name, packed in bits.items()}


def rebuild_(net: nn.Module, record: Any) -> None:
    """Mask a network by a record, in place.

    Args:
        net: The network with its weights.
        record: The result of `record`, perhaps from an untrusted file.

    Raises:
        BadInput: If the record names a weight that the network lacks, has another number of bits,
            or masks a weight that is not zero.
    """
    if not isinstance(record, Mapping):
        raise BadInput("its masks are not a record")
    masks = {}
    for name, packed in record.items():
        shape = _parameter(net, name)[0].shape
        is_bits = isinstance(packed, Tensor) and packed.dtype == torch.uint8
        if not is_bits or packed.shape != (math.ceil(shape.numel() / 8),):
            raise BadInput(f"its mask of {name} is not {shape.numel()} bits")
        bits = np.unpackbits(packed.cpu().numpy(), count=shape.numel())
        masks[name] = torch.from_numpy(bits).bool().view(shape)
    _refuse_grown(net, masks, "is not zero where its mask says so")
    mask_weights_(net, masks)


def is_n_of_m(kept: Tensor, n: int = 2, m: int = 4, dim: int = 1) -> bool:
    """Whether a mask has the pattern n:m: of m consecutive inputs at most n are kept.

    Args:
        kept: True where a weight is kept.
        n: Most weights kept in a block.
        m: Number of weights in a block.
        dim: The dimension of the inputs, 1 unless the layer is a transposed convolution.
    """
    if kept.shape[dim] % m:
        return False
    return bool((kept.movedim(dim, -1).reshape(-1, m).sum(1) <= n).all())


def pattern_dim(layer: nn.Module, kept: Tensor) -> int | None:
    """Return the input dimension of a mask that has the pattern 2:4, or None if it has not.

    A very sparse mask may fit by chance, so at least a quarter of its weights must be kept, half of
    what the pattern allows.

    Args:
        layer: The layer of the weight.
        kept: True where a weight is kept.
    """
    dim = 0 if isinstance(layer, nn.modules.conv._ConvTransposeNd) else 1
    is_dense_enough = 4 * int(kept.sum()) >= kept.numel()
    return dim if is_dense_enough and is_n_of_m(kept, dim=dim) else None


def _masked(net: nn.Module) -> list[tuple[str, nn.Module, str]]:
    """Return the modules with masks, each with its name and the name of the weight in it."""
    return [
        (name, module, buffer.removesuffix(_SUFFIX))
        for name, module in net.named_modules()
        for buffer in module._buffers
        if buffer.endswith(_SUFFIX) and buffer.removesuffix(_SUFFIX) in module._parameters
    ]


def _weights(net: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Return the weights with masks, each with a tensor that is True where it is masked."""
    places = [
        (module._parameters[k], module._buffers[k + _SUFFIX]) for _, module, k in _masked(net)
    ]
    return [(weight, ~mask) for weight, mask in places]  # type: ignore[misc, operator]


@torch.no_grad()
def _fill_(tensors: Iterable[tuple[Tensor, Tensor]], value: float) -> None:
    for tensor, gone in tensors:
        tensor.masked_fill_(gone, value)


def _set(module: nn.Module, key: str, mask: Tensor) -> None:
    module.register_buffer(key + _SUFFIX, mask, persistent=False)


def _parameter(net: nn.Module, name: Any) -> tuple[nn.Parameter, nn.Module, str]:
    owner, _, key = str(name).rpartition(".")
    module = dict(net.named_modules()).get(owner)
    weight = None if module is None else module._parameters.get(key)
    if module is None or weight is None:
        raise BadInput(f"there is a mask for {name!r}, a parameter which the network lacks")
    if weight.ndim < 2:
        raise BadInput(f"{name} has {weight.ndim} dimension; biases and scales have no masks")
    return weight, module, key


def _place(net: nn.Module, name: str, mask: Tensor) -> tuple[nn.Module, str]:
    weight, module, key = _parameter(net, name)
    if mask.dtype != torch.bool or mask.shape != weight.shape:
        raise BadInput(
            f"the mask of {name} is {mask.dtype} of shape {tuple(mask.shape)}; it must be "
            f"torch.bool of the weight's, {tuple(weight.shape)}"
        )
    return module, key


def _refuse_grown(net: nn.Module, masks: Mapping[str, Tensor], reason: str) -> None:
    for name, mask in masks.items():
        weight = net.get_parameter(name).detach()
        if weight[~mask.to(weight.device)].any():
            raise BadInput(f"{name} {reason}")
