"""How much each channel matters: pure functions of weights and gradients, and what calls them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from regrow.data.errors import BadInput
from regrow.models.modes import evaluating, thawed
from regrow.models.task import Task
from regrow.prune.channels import Group, Member, channel_tensors, named_tensor, rows

Batches = Iterable[tuple[Tensor, Any]]


def magnitude(weight: Tensor, p: float = 2) -> Tensor:
    """Score each channel by the size of its weights.

    Source: Li et al., Pruning Filters for Efficient ConvNets, 2017, arXiv 1608.08710, for p = 1.

    Args:
        weight: The weights, (channels, ...).
        p: The exponent of the norm, >= 1.

    Returns:
        One norm a channel, (channels,), >= 0.
    """
    return torch.linalg.vector_norm(weight.flatten(1), ord=p, dim=1)


def taylor(weight: Tensor, grad: Tensor) -> Tensor:
    """Score each channel by how much the loss would change without it, to first order.

    Source: Molchanov et al., Importance Estimation for Neural Network Pruning, 2019, arXiv
    1906.10771, equation 8; there squared, here the absolute value, which adds up over the layers
    of a group and over batches in units of the loss.

    Args:
        weight: The weights, (channels, ...).
        grad: The gradient of the loss of one batch by the weights, same shape.

    Returns:
        One score a channel, (channels,), >= 0, in units of the loss.

    Raises:
        ValueError: If the shapes differ.
    """
    if weight.shape != grad.shape:
        raise ValueError(f"grad has shape {tuple(grad.shape)}, the weights {tuple(weight.shape)}")
    return (weight * grad).flatten(1).sum(1).abs()


def normalised(scores: Tensor) -> Tensor:
    """Divide scores by their mean, so that layers of any scale compare; all zero stays so.

    Args:
        scores: Scores of the units of one group, (units,), >= 0.
    """
    mean = scores.mean()
    return scores / mean if mean > 0 else scores


class Criterion(ABC):
    """A way to score units: the lower, the sooner they are removed."""

    @abstractmethod
    def scores(self, task: Task, groups: Sequence[Group], batches: Batches | None) -> list[Tensor]:
        """Score the units of each group.

        Args:
            task: The task; it is left as it was.
            groups: Groups of its network.
            batches: Training images and targets, for criteria that need them.

        Returns:
            For each group one score a unit, (units,), >= 0.
        """


class Magnitude(Criterion):
    """The norms of a unit's weights, added up over the layers that share the unit.

    Args:
        p: The exponent of the norm: 2 or 1.
    """

    def __init__(self, p: float = 2) -> None:
        if not p >= 1:
            raise BadInput(f"criterion.p is {p}, a norm's exponent is 1 or more")
        self.p = p

    def scores(self, task: Task, groups: Sequence[Group], batches: Batches | None) -> list[Tensor]:
        """Score by the weights alone."""
        return [
            _combine(group, task.net, lambda name, rows: self._score(name, rows))
            for group in groups
        ]

    def _score(self, name: str, weight: Tensor) -> Tensor | None:
        return None if name.endswith("bias") else magnitude(weight, self.p)


class Taylor(Criterion):
    """The loss that a unit is worth to first order, by gradients on training images.

    Args:
        num_batches: Number of batches that are averaged.
    """

    def __init__(self, num_batches: int = 8) -> None:
        if num_batches < 1:
            raise BadInput(f"criterion.num_batches is {num_batches}, it must be at least 1")
        self.num_batches = num_batches

    def scores(self, task: Task, groups: Sequence[Group], batches: Batches | None) -> list[Tensor]:
        """Score by weight times gradient, one batch after the other, in evaluation mode.

        Raises:
            BadInput: If there are no batches, or the gradients are not finite.
        """
        if batches is None:
            raise BadInput("the Taylor criterion needs training images")
        totals = [torch.zeros(group.num_units) for group in groups]
        count = 0
        # Norms keep their statistics, dropout is off; frozen layers are ranked too.
        with evaluating(task.net), thawed(task.net):
            for images, targets in islice(batches, self.num_batches):
                grads = _gradients(task, images, targets)
                for total, group in zip(totals, groups, strict=True):
                    total += _combine(group, task.net, _taylor_of, grads)
                count += 1
        if not count:
            raise BadInput("the Taylor criterion got no training images")
        return [total / count for total in totals]


class Random(Criterion):
    """Scores drawn at random: what every other criterion must beat.

    Args:
        seed: The seed of the draw.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def scores(self, task: Task, groups: Sequence[Group], batches: Batches | None) -> list[Tensor]:
        """Draw the scores; the same for the same groups."""
        generator = torch.Generator().manual_seed(self.seed)
        return [torch.rand(group.num_units, generator=generator) for group in groups]


def score_groups(
    task: Task, groups: Sequence[Group], criterion: Criterion, batches: Batches | None = None
) -> list[Tensor]:
    """Score the units of all groups so that they compare across groups.

    Args:
        task: The task; it is left as it was.
        groups: Groups of its network.
        criterion: The way to score.
        batches: Training images and targets.

    Returns:
        For each group one score a unit, (units,), with mean 1 (or all zero), on the CPU.

    Raises:
        BadInput: If a score is not finite.
    """
    scores = criterion.scores(task, groups, batches)
    for group, values in zip(groups, scores, strict=True):
        if not torch.isfinite(values).all():
            raise BadInput(
                f"{group.layer}: its channels score NaN or infinity by "
                f"{type(criterion).__name__}; its weights or gradients are not finite"
            )
    return [normalised(values) for values in scores]


def _combine(
    group: Group,
    net: nn.Module,
    score: Callable[..., Tensor | None],
    others: dict[str, Tensor] | None = None,
) -> Tensor:
    """Average over the layers that see a unit what each of them contributes."""
    total, seen = torch.zeros(group.num_units), torch.zeros(group.num_units)
    for member in group.members:
        present = [unit for unit, channels in enumerate(member.units) if channels]
        contribution: Tensor | None = None
        for name, tensor, dim in _parameters(net, member):
            gathered = [_gather(tensor, net, member, present, dim)]
            if others is not None:
                if name not in others:
                    continue
                gathered.append(_gather(others[name], net, member, present, dim))
            value = score(name, *gathered)
            if value is not None:
                contribution = value if contribution is None else contribution + value
        if contribution is not None:
            total[present] += contribution.detach().float().cpu()
            seen[present] += 1
    return total / seen.clamp_min(1)


def _parameters(net: nn.Module, member: Member) -> list[tuple[str, Tensor, int]]:
    if member.dim is not None:
        owner, attribute = named_tensor(net, member.layer)
        return [(member.layer, getattr(owner, attribute), member.dim)]
    module = net.get_submodule(member.layer)
    named = [(name, dim) for name, dim in channel_tensors(module, member.side)]
    return [
        (f"{member.layer}.{name}", getattr(module, name), dim)
        for name, dim in named
        if isinstance(getattr(module, name), nn.Parameter)
    ]


def _gather(tensor: Tensor, net: nn.Module, member: Member, present: list[int], dim: int) -> Tensor:
    """Give the entries of each unit, (units, entries)."""
    places: list[list[int]] = []
    for unit in present:
        channels = list(member.units[unit])
        module = net.get_submodule(member.layer) if member.dim is None else None
        places.append(channels if module is None else rows(module, member.side, dim, channels))
    index = torch.tensor(places, device=tensor.device)
    picked = tensor.detach().movedim(dim, 0)[index.flatten()]
    return picked.reshape(len(present), -1)


def _taylor_of(name: str, weight: Tensor, grad: Tensor) -> Tensor:
    return taylor(weight, grad)


def _gradients(task: Task, images: Tensor, targets: Any) -> dict[str, Tensor]:
    named = {n: p for n, p in task.net.named_parameters() if p.requires_grad}
    device = next(iter(named.values())).device
    with torch.inference_mode(False), torch.enable_grad():
        images, targets = _moved(images, device), _moved(targets, device)
        loss = torch.stack(list(task.losses(task(images), targets).values())).sum()
        # Not `backward`: the gradients that a training run holds are none of ours.
        grads = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: grad for name, grad in zip(named, grads, strict=True) if grad is not None}


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _moved(entry, device) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_moved(entry, device) for entry in value)
    return value
