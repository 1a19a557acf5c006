"""Checksums of the output of each layer on a batch, by which two networks are compared."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from regrow.models.nets.attention import is_converted, is_convertible
from regrow.models.record.branches import ShortcutBlock
from regrow.models.task import Task
from regrow.prune.channels.records import Branch, Removed
from regrow.prune.channels.ways import Guide, Way, guided
from regrow.prune.depth.skipping import is_lost_with

# Less of what a layer reads than this share is rounding.
ROUNDING = 1e-6
# Numbers of a map that are compared as one sum.
RUN = 1021


@dataclass(slots=True)
class Call:
    """The output of a layer at one call, as checksums, and the scale of its values."""

    layer: str
    shape: torch.Size
    sums: Tensor
    scale: float


@dataclass(slots=True)
class Run:
    """The outputs of a network on a batch, and the calls of its layers."""

    outputs: dict[str, Tensor]
    guide: Guide
    calls: list[Call] = field(default_factory=list)


def run_watched(
    task: Task,
    batch: Tensor,
    way: Way,
    removed: Removed,
    others: list[Call] | None,
    lost: Collection[Branch] = (),
) -> Run:
    """Run a network, and compute checksums of the output of each layer.

    Args:
        task: The task.
        batch: Images.
        way: How it is led.
        removed: The channels that are left out of the sums, where the other network lacks them.
        others: The calls of the other network, in order.
        lost: The branches that the other network lacks, whose layers are passed over.
    """
    calls: list[Call] = []

    def keep(name: str, module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
        output = output[0] if isinstance(output, tuple) and output else output
        if not isinstance(output, Tensor) or not output.is_floating_point() or not output.numel():
            return
        scale = 0.0
        if others is not None:
            read = [_largest(x) for x in inputs[:1] if isinstance(x, Tensor) and x.numel()]
            scale = max(_largest(output), *(ROUNDING * value for value in read), 0.0)
        if others is not None and len(calls) < len(others):
            output = _kept(output, others[len(calls)].shape, removed.get((name, "out"), []))
        calls.append(Call(name, output.shape, _sums(output), scale))

    with _watching(task.net, keep, lost), guided(batch, way) as guide:
        outputs = task(batch)
    return Run(outputs, guide, calls)


def moved(before: Call, after: Call) -> float:
    """Compute how far the output of a layer has moved; 0 where the shapes do not compare."""
    if before.layer != after.layer:
        return float("inf")
    if before.shape != after.shape or not bool(before.sums.isfinite().all()):
        return 0.0
    moved = float((before.sums - after.sums).abs().max())
    return moved / max(before.scale, 1e-300) / RUN**0.5 if moved == moved else float("inf")


@contextmanager
def _watching(
    net: nn.Module, keep: Callable[..., None], lost: Collection[Branch]
) -> Iterator[None]:
    """Hook the layers that have parameters or buffers of their own, and are in both networks."""

    def hook(name: str) -> Callable[..., None]:
        def watch(module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
            with torch.utils._python_dispatch._disable_current_modes():
                keep(name, module, inputs, output)

        return watch

    modules = dict(net.named_modules())
    blocks = {branch.block for branch in lost}
    # What is in PyTorch's attention is called in the converted one alone.
    inside = {
        child
        for module in modules.values()
        if is_convertible(module) or is_converted(module)
        for child in module.modules()
        if child is not module
    }
    layers = [
        (name, module)
        for name, module in modules.items()
        if (module._parameters or module._buffers) and module not in inside
        if not isinstance(module, ShortcutBlock)
        if name not in blocks and not is_lost_with(name, lost)
    ]
    handles = [module.register_forward_hook(hook(name)) for name, module in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _largest(x: Tensor) -> float:
    return float(torch.linalg.vector_norm(x.to(torch.get_default_dtype()), torch.inf))


def _kept(output: Tensor, shape: torch.Size, gone: list[int]) -> Tensor:
    """Return an output without the channels that the other network lacks."""
    pairs = enumerate(zip(output.shape, shape, strict=False))
    dims = [dim for dim, (own, other) in pairs if own != other]
    if len(output.shape) != len(shape) or len(dims) != 1:
        return output
    length = output.shape[dims[0]]
    if not gone or length - len(gone) != shape[dims[0]] or gone[-1] >= length:
        return output
    kept = sorted(set(range(length)) - set(gone))
    return output.index_select(dims[0], torch.tensor(kept, device=output.device))


def _sums(output: Tensor) -> Tensor:
    """Compute weighted sums of runs of a map, such that any change shows."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(RUN, generator=generator, dtype=output.dtype).to(output.device) + 0.5
    flat = output.reshape(-1)
    whole = len(flat) // RUN * RUN
    rest = flat[whole:]
    return torch.cat([flat[:whole].view(-1, RUN) @ weights, (rest @ weights[: len(rest)])[None]])
