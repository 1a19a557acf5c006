"""Whether a file is the network that was scored: it is reloaded and asked about real images."""

from pathlib import Path

import torch
from torch import Tensor

from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.models.checkpoint import load
from regrow.models.modes import evaluating
from regrow.models.task import Task

NUM_IMAGES = 4
# Largest difference as a share of the largest output where equal weights may give unequal bits: on
# a GPU, which chooses among algorithms, and where weights lie in memory in another order.
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}


def unlike_saved(
    path: Path, task: Task, data: GrowingData, allow: tuple[str, ...] = ()
) -> str | None:
    """Compare a network with the one that its file gives, on a few validation images.

    Args:
        path: The checkpoint that was written.
        task: The network that was scored.
        data: Its data.
        allow: Other people's packages that a file may name; the network's own is one of them.

    Returns:
        What is wrong with the file, in a line that ends without a full stop; None if nothing is.
    """
    with torch.random.fork_rng(devices=[]):  # a loader draws a seed
        images = next(iter(data.val_dataloader()))[0][:NUM_IMAGES]
    return difference(path, task, images, allow)


def difference(path: Path, task: Task, images: Tensor, allow: tuple[str, ...] = ()) -> str | None:
    """Compare a network with the one that its file gives, on images.

    On the CPU, equal weights that lie alike give equal bits. Elsewhere there is a tolerance.

    Args:
        path: The checkpoint that was written.
        task: The network; it stays as it is.
        images: Images, uint8 (b, 3, h, w).
        allow: Other people's packages that a file may name; the network's own is one of them.

    Returns:
        As `unlike_saved` does.
    """
    try:
        again = load(path, allow=(*allow, task.net_package)).to(task.mean.device)
    except BadInput as error:
        return f"the file that was written cannot be loaded: {error}"
    if task.channels_last:
        again.net.to(memory_format=torch.channels_last)
    wanted, found = _outputs(task, images), _outputs(again, images)
    if wanted.keys() != found.keys():
        return f"{path}: not the network that was scored, its outputs are {', '.join(found)}"
    is_exact = task.mean.device.type == "cpu" and _lies_alike(task, again)
    for name, value in wanted.items():
        other = found[name]
        limit = 0.0 if is_exact else TOLERANCES.get(value.dtype, 0.0)
        if value.shape != other.shape or not _is_close(value, other, limit):
            return (
                f"{path}: not the network that was scored, {name} differs on validation images "
                "once it is loaded; what the network keeps outside of parameters and buffers is "
                "lost in a file"
            )
    return None


def _outputs(task: Task, images: Tensor) -> dict[str, Tensor]:
    """Return the raw outputs for images, the same at every call even where they are random."""
    device = task.mean.device
    forked = [device] if device.type == "cuda" else []
    with evaluating(task), torch.inference_mode(), torch.random.fork_rng(devices=forked):
        torch.manual_seed(0)
        outputs: dict[str, Tensor] = task(images.to(device))
        return outputs


def _lies_alike(task: Task, other: Task) -> bool:
    pairs = zip(task.net.parameters(), other.net.parameters(), strict=False)
    return all(one.stride() == two.stride() for one, two in pairs)


def _is_close(value: Tensor, other: Tensor, limit: float) -> bool:
    """Whether a tensor is another up to a share of its largest entry; NaN is NaN."""
    if value.dtype != other.dtype:
        return False
    if not limit or not value.is_floating_point():
        return bool(((value == other) | ((value != value) & (other != other))).all())
    one, two = value.double().nan_to_num(), other.double().nan_to_num()
    scale = max(float(one.abs().max()) if one.numel() else 0.0, 1e-6)
    return bool(
        torch.equal(value.isnan(), other.isnan()) and ((one - two).abs() <= limit * scale).all()
    )
