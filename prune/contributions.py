"""Per-image first-order importance of units, from gradients of gates before their readers."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.models.modes import evaluating, thawed
from regrow.models.nets.attention import converted
from regrow.models.task import Task, loss_of
from regrow.prune.channels.gathering import combine
from regrow.prune.channels.records import WEIGHTED_TYPES, Group, Member

Batches = Iterable[tuple[Tensor, Any]]


def averaged(
    task: Task,
    groups: Sequence[Group],
    batches: Batches | None,
    num_batches: int,
    of_batch: Callable[[Tensor], Tensor],
) -> list[Tensor]:
    """Compute a score of each unit from its contributions to the loss, averaged over batches.

    Args:
        task: The task; it is left as it was.
        groups: Groups of its network.
        batches: Training images and targets.
        num_batches: Number of batches that are averaged.
        of_batch: Computes a score a unit, (units,), for contributions (b, units). Units whose
            readers cannot be watched have one row for the whole batch, from their weights.

    Raises:
        BadInput: If there are no batches.
    """
    totals = [torch.zeros(group.num_units) for group in groups]
    count = 0
    for images, targets in some(batches, num_batches):
        found = contributions(task, groups, images, targets)
        if any(rows is None for rows in found):
            grads = gradients(task, images, targets)
        for total, group, rows in zip(totals, groups, found, strict=True):
            if rows is None:
                rows = combine(group, task.net, lambda _, w, g: (w * g).sum(1), grads)[None]
            total += of_batch(rows)
        count += 1
    return [total / count for total in totals]


def contributions(
    task: Task, groups: Sequence[Group], images: Tensor, targets: Any
) -> list[Tensor | None]:
    """Compute for each image and unit what removing the unit takes off the loss, to first order.

    Before every layer that reads a unit, its channels are multiplied with a factor of 1. The
    derivative of the loss by it is the sum of input times gradient over all places. Since a unit is
    removed from all its readers at once, theirs add up: nothing is counted twice, whatever norms,
    activations and depthwise filters lie between what makes a unit and what reads it.

    Source: Molchanov et al., Pruning Convolutional Neural Networks for Resource Efficient
    Inference, 2017, arXiv 1611.06440, equation 8, there after each layer that makes a channel and
    averaged over places.

    Args:
        task: The task, whose network is run in evaluation mode and left as it was.
        groups: Groups of its network.
        images: Images of one batch, uint8 (b, 3, h, w).
        targets: Their targets.

    Returns:
        For each group (rows, units) on the CPU, signed, in units of the loss of one image. There is
        a row an image, or one for the whole batch where layers see it in other numbers of rows.
        None where a layer reads the units without being called, as attention does with its last.
    """
    readers = {m.layer for group in groups for m in group.members if _is_reader(task.net, m)}
    # Converted attention calls what reads its heads, which PyTorch's own does not.
    with converted(task.net), _gated(task.net, readers) as gates, _differentiable(task):
        loss = loss_of(task, images, targets)
        flat = [gate for called in gates.values() for gate in called]
        grads = iter(torch.autograd.grad(loss, flat, allow_unused=True) if flat else ())
    found = {
        name: [_rows(gate, next(grads), task.net.get_submodule(name)) for gate in called]
        for name, called in gates.items()
    }
    return [_of_group(task.net, group, found, len(images)) for group in groups]


def _is_reader(net: nn.Module, member: Member) -> bool:
    if member.dim is not None or member.side != "in":
        return False
    return isinstance(net.get_submodule(member.layer), WEIGHTED_TYPES)


@contextmanager
def _gated(net: nn.Module, names: set[str]) -> Iterator[dict[str, list[Tensor]]]:
    """Put a factor of 1 before the input of each layer, at each of its calls."""
    gates: dict[str, list[Tensor]] = defaultdict(list)

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            shape = [1] * inputs[0].ndim
            shape[0], shape[_dim(module)] = inputs[0].shape[0], inputs[0].shape[_dim(module)]
            gates[name].append(inputs[0].new_ones(shape).requires_grad_())
            return (inputs[0] * gates[name][-1], *inputs[1:])

        return hook

    handles = [net.get_submodule(name).register_forward_pre_hook(watch(name)) for name in names]
    try:
        yield gates
    finally:
        for handle in handles:
            handle.remove()


def _dim(module: nn.Module) -> int:
    return -1 if isinstance(module, nn.Linear) else 1


def _rows(gate: Tensor, grad: Tensor | None, module: nn.Module) -> Tensor:
    """Return one row for each row of the layer's input, (rows, channels)."""
    grad = torch.zeros_like(gate) if grad is None else grad.detach()
    return grad.reshape(gate.shape[0], gate.shape[_dim(module)]).float().cpu()


def _of_group(
    net: nn.Module, group: Group, found: dict[str, list[Tensor]], num_images: int
) -> Tensor | None:
    total: Tensor | None = None
    for member in group.members:
        if member.side != "in":
            continue
        if member.layer not in found:
            return None
        chosen = torch.zeros(found[member.layer][0].shape[1], group.num_units)
        for unit, channels in enumerate(member.units):
            chosen[list(channels), unit] = 1
        for gradients in found[member.layer]:
            rows = gradients @ chosen
            if group.is_heads and len(rows) % num_images == 0:
                # The windows that attention runs in lie one image after another.
                rows = rows.unflatten(0, (num_images, -1)).sum(1)
            if len(rows) != num_images:
                rows = rows.sum(0, keepdim=True)
            if total is not None and len(total) != len(rows):
                total, rows = total.sum(0, keepdim=True), rows.sum(0, keepdim=True)
            total = rows if total is None else total + rows
    if total is None:
        return None
    return total * num_images if len(total) == num_images else total


def gradients(task: Task, images: Tensor, targets: Any) -> dict[str, Tensor]:
    """Compute the gradient of a batch's loss by each parameter that takes part, frozen ones too.

    Args:
        task: The task; it is run in evaluation mode, and no gradients of it change.
        images: Images of one batch, uint8 (b, 3, h, w).
        targets: Their targets.
    """
    with _differentiable(task):
        named = {n: p for n, p in task.net.named_parameters() if p.requires_grad}
        loss = loss_of(task, images, targets)
        # Not `backward`: the gradients that a training run holds are none of ours.
        grads = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: grad for name, grad in zip(named, grads, strict=True) if grad is not None}


def mean_gradients(
    task: Task, images: Iterable[tuple[Tensor, Any]], of_image: Callable[[Tensor], Tensor]
) -> dict[str, Tensor]:
    """Compute the average over single images of a function of each one's gradients.

    Args:
        task: The task; it is run in evaluation mode, and no gradients of it change.
        images: Single images and their targets, as `one_by_one` gives them.
        of_image: The function of a gradient that is averaged, such as its size or its square.

    Returns:
        The averages by the name of the parameter; those that take no part in any loss are missing.
    """
    totals: dict[str, Tensor] = {}
    count = 0
    for image, target in images:
        for name, grad in gradients(task, image, target).items():
            totals[name] = totals.get(name, torch.zeros_like(grad)) + of_image(grad)
        count += 1
    return {name: total / count for name, total in totals.items()}


def one_by_one(batches: Iterable[tuple[Tensor, Any]]) -> Iterator[tuple[Tensor, Any]]:
    """Yield the images of batches as batches of one."""
    for images, targets in batches:
        for index in range(len(images)):
            yield images[index : index + 1], targets[index : index + 1]


def some(batches: Batches | None, count: int) -> Iterator[tuple[Tensor, Any]]:
    """Yield the first batches.

    Raises:
        BadInput: If there are none.
    """
    if batches is None:
        raise BadInput("ranking needs training images")
    found = 0
    for batch in islice(batches, count):
        found += 1
        yield batch
    if not found:
        raise BadInput("there are no training images to rank by")


@contextmanager
def _differentiable(task: Task) -> Iterator[None]:
    """Put a network into evaluation mode, and let frozen layers have gradients."""
    with (
        evaluating(task.net),
        thawed(task.net),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        yield
