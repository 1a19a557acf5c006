"""Importance of channels: pure functions of weights and gradients, and criteria that use them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Literal

import torch
from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.models.task import Task
from regrow.prune.channels.gathering import combine
from regrow.prune.channels.records import NORM_TYPES, Group, per_channel
from regrow.prune.contributions import Batches, averaged, mean_gradients, one_by_one, some

Normalizer = Literal["mean", "none"]


def magnitude(weight: Tensor, p: float = 2) -> Tensor:
    """Compute the norm of each channel's weights.

    Source: Li et al., Pruning Filters for Efficient ConvNets, 2017, arXiv 1608.08710, for p = 1.

    Args:
        weight: The weights, (channels, ...).
        p: The exponent of the norm, >= 1.

    Returns:
        One norm a channel, (channels,), >= 0.
    """
    norms: Tensor = torch.linalg.vector_norm(weight.flatten(1), ord=p, dim=1)
    return norms


def fisher(weight: Tensor, squares: Tensor) -> Tensor:
    """Compute the loss that removing each channel would cost, to second order.

    Source: LeCun et al., Optimal Brain Damage, 1990, equation 5, with the empirical Fisher
    information for the second derivatives (Theis et al. 2018, arXiv 1801.05787).

    Args:
        weight: The weights, (channels, ...).
        squares: The squared gradient of the loss of one image by the weights, averaged over
            images, same shape.

    Returns:
        One score a channel, (channels,), >= 0, in units of the loss.

    Raises:
        ValueError: If the shapes differ.
    """
    if weight.shape != squares.shape:
        raise ValueError(
            f"squares has shape {tuple(squares.shape)}, the weights {tuple(weight.shape)}"
        )
    return 0.5 * (weight.square() * squares).flatten(1).sum(1)


def lamp(norms: Tensor) -> Tensor:
    """Compute each unit's share in the squared weights of all units that are not smaller (LAMP).

    Source: Lee et al. 2021, arXiv 2010.07611, equation 1.

    Args:
        norms: The L2 norms of the units of one group, (units,), >= 0.

    Returns:
        One score a unit, (units,), in [0, 1]; the largest has 1, unless all are 0.
    """
    squares, order = norms.double().square().sort(stable=True)
    not_smaller = squares.flip(0).cumsum(0).flip(0)
    scores = torch.zeros_like(squares)
    scores[order] = squares / not_smaller.clamp_min(1e-300)
    return scores.to(norms.dtype)


def normalised(scores: Tensor) -> Tensor:
    """Divide scores by their mean, so that layers of any scale compare; all zero stays so.

    Args:
        scores: Scores of the units of one group, (units,), >= 0.
    """
    mean = scores.mean()
    return scores / mean if mean > 0 else scores


class Criterion(ABC):
    """An importance criterion: it scores units, and the lowest are removed first.

    Attributes:
        is_normalised: Whether scores compare between groups as they are; others are divided by
            their group's mean.
    """

    is_normalised: bool = False

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
    """Magnitude: the norm of a unit's weights, averaged over the layers that share the unit.

    Args:
        p: The exponent of the norm: 2 or 1.
    """

    def __init__(self, p: float = 2) -> None:
        if not p >= 1:
            raise BadInput(f"criterion.p is {p}, a norm's exponent is 1 or more")
        self.p = p

    def scores(self, task: Task, groups: Sequence[Group], batches: Batches | None) -> list[Tensor]:
        """Score by the weights alone."""
        return [combine(group, task.net, self.of_weight) for group in groups]

    def of_weight(self, name: str, weight: Tensor) -> Tensor | None:
        """Return the norms of the units' part in one tensor, (units,); None for a bias."""
        return None if name.endswith("bias") else magnitude(weight, self.p)


class Taylor(Criterion):
    """Taylor: what removing a unit changes in the loss of an image, to first order, averaged.

    Signs are dropped for each image by itself: a unit that helps some images and harms others as
    much is worth something, where the sum over a batch would call it worth nothing.

    Source: Molchanov et al. 2017, arXiv 1611.06440 (sizes), and 2019, arXiv 1906.10771 (squares).

    Args:
        num_batches: Number of batches that are averaged.
        power: 1 averages sizes, 2 their squares, which is twice the Fisher information of a factor
            on the unit (Liu et al., Group Fisher Pruning, 2021, arXiv 2108.00708).
    """

    def __init__(self, num_batches: int = 8, power: Literal[1, 2] = 1) -> None:
        _refuse_few(num_batches)
        self.num_batches, self.power = num_batches, power

    def scores(self, task: Task, groups: Sequence[Group], batches: Batches | None) -> list[Tensor]:
        """Score by gates before the layers that read a unit, in evaluation mode.

        Raises:
            BadInput: If there are no batches.
        """
        return averaged(task, groups, batches, self.num_batches, self._of_batch)

    def _of_batch(self, rows: Tensor) -> Tensor:
        return rows.abs().pow(self.power).mean(0)


class ActivationGradient(Criterion):
    """Activation times gradient, as AWS's Debugger example computes it: signs cancel.

    Source: Pruning machine learning models with Amazon SageMaker Debugger and Amazon SageMaker
    Experiments, AWS Machine Learning Blog, 2020. There at the outputs of activations; here where
    they are read, so that all layers that share a unit count.

    Args:
        num_batches: Number of batches that are averaged.
    """

    is_normalised = True

    def __init__(self, num_batches: int = 8) -> None:
        _refuse_few(num_batches)
        self.num_batches = num_batches

    def scores(self, task: Task, groups: Sequence[Group], batches: Batches | None) -> list[Tensor]:
        """Score by the mean over images, its size taken last and divided by the layer's norm.

        Raises:
            BadInput: If there are no batches.
        """
        signed = averaged(task, groups, batches, self.num_batches, lambda rows: rows.mean(0))
        return [values.abs() / values.norm().clamp_min(1e-30) for values in signed]


class Fisher(Criterion):
    """Fisher: the loss that removing a unit's weights costs, to second order, without cross terms.

    Half the square of each weight times the curvature, which the squared gradients of single images
    stand for (the empirical Fisher information).

    Source: LeCun et al., Optimal Brain Damage, 1990; Theis et al., Faster gaze prediction with
    dense networks and Fisher pruning, 2018, arXiv 1801.05787.

    Args:
        num_images: Number of images, each of which is a backward pass.
    """

    def __init__(self, num_images: int = 64) -> None:
        if num_images < 1:
            raise BadInput(f"criterion.num_images is {num_images}, it must be at least 1")
        self.num_images = num_images

    def scores(self, task: Task, groups: Sequence[Group], batches: Batches | None) -> list[Tensor]:
        """Score by the weights and their squared gradients, image by image, in evaluation mode.

        Raises:
            BadInput: If there are no images.
        """
        images = islice(one_by_one(some(batches, self.num_images)), self.num_images)
        means = mean_gradients(task, images, torch.square)
        return [combine(group, task.net, lambda _, w, h: fisher(w, h), means) for group in groups]


class ConsumerMagnitude(Criterion):
    """Magnitude of the consumers: the norm of the weights by which the next layers read a unit.

    Each consumer's norms are divided by their maximum, and averaged over the consumers; the layer
    that makes the unit, its norm and depthwise filters count nothing. Where no layer reads a unit,
    as where its map is averaged into the output, the layers that make it count instead.

    Source: importance of channels in NVIDIA ModelOpt's FastNAS, for p = 2.

    Args:
        p: The exponent of the norm: 2 or 1.
    """

    def __init__(self, p: float = 2) -> None:
        self.magnitude = Magnitude(p)

    def scores(self, task: Task, groups: Sequence[Group], batches: Batches | None) -> list[Tensor]:
        """Score by the weights alone."""
        return [self._of_group(task, group) for group in groups]

    def _of_group(self, task: Task, group: Group) -> Tensor:
        consumers = [m for m in group.members if m.side == "in" and not m.is_count]
        if not consumers:
            return combine(group, task.net, self.magnitude.of_weight)
        total = torch.zeros(group.num_units)
        for consumer in consumers:
            alone = replace(group, members=(consumer,))
            norms = combine(alone, task.net, self.magnitude.of_weight)
            total += norms / norms.max().clamp_min(1e-30)
        return total / len(consumers)


class NormScale(Criterion):
    """Network slimming: the size of the scale that batch norms give a unit.

    Source: Liu et al., Learning Efficient Convolutional Networks through Network Slimming, 2017,
    arXiv 1708.06519.
    """

    def scores(self, task: Task, groups: Sequence[Group], batches: Batches | None) -> list[Tensor]:
        """Score by the norms alone.

        Raises:
            BadInput: If a group has no norm with a scale.
        """
        return [combine(self._norms(task, group), task.net, self._score) for group in groups]

    def _norms(self, task: Task, group: Group) -> Group:
        norms = [m for m in group.members if m.dim is None and _has_scale(task.net, m.layer)]
        if not norms:
            raise BadInput(
                f"{group.layer}: no batch norm scales its channels; rank by another criterion"
            )
        return replace(group, members=tuple(norms))

    def _score(self, name: str, weight: Tensor) -> Tensor | None:
        return weight.abs().sum(1) if name.endswith("weight") else None


class Lamp(Criterion):
    """LAMP: the share of a unit's squared weights in those of all units that are not smaller.

    The largest unit of every layer scores 1, so that none is emptied, and layers compare as they
    are.

    Source: Lee et al., Layer-adaptive Sparsity for the Magnitude-based Pruning, 2021, arXiv
    2010.07611; there for single weights.
    """

    is_normalised = True

    def scores(self, task: Task, groups: Sequence[Group], batches: Batches | None) -> list[Tensor]:
        """Score by the weights alone."""
        return [lamp(scores) for scores in Magnitude(2).scores(task, groups, batches)]


class Random(Criterion):
    """Random scores: the baseline that every other criterion must beat.

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
    task: Task,
    groups: Sequence[Group],
    criterion: Criterion,
    batches: Batches | None = None,
    normalizer: Normalizer = "mean",
) -> list[Tensor]:
    """Score the units of all groups, so that scores compare across groups.

    Args:
        task: The task; it is left as it was.
        groups: Groups of its network.
        criterion: The way to score.
        batches: Training images and targets.
        normalizer: What each group's scores are divided by: their `mean`, or nothing (`none`).
            Criteria whose scores compare between groups as they are keep them either way.

    Returns:
        For each group one score a unit, (units,), on the CPU; divided by the mean, it is 1.

    Raises:
        BadInput: If a score is not finite.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> from torch.nn import functional
        >>> from regrow.prune import Taylor, as_task, find_groups, score_groups
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2))
        >>> task = as_task(net, size=(8, 8), loss=functional.cross_entropy)
        >>> groups = find_groups(task).groups
        >>> batches = [(torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 0, 1]))]
        >>> [tuple(scores.shape) for scores in score_groups(task, groups, Taylor(), batches)]
        [(8,)]
    """
    scores = criterion.scores(task, groups, batches)
    for group, values in zip(groups, scores, strict=True):
        if not torch.isfinite(values).all():
            raise BadInput(
                f"{group.layer}: its channels score NaN or infinity by "
                f"{type(criterion).__name__}; its weights or gradients are not finite"
            )
    is_raw = criterion.is_normalised or normalizer == "none"
    return scores if is_raw else [normalised(values) for values in scores]


def _refuse_few(num_batches: int) -> None:
    if num_batches < 1:
        raise BadInput(f"criterion.num_batches is {num_batches}, it must be at least 1")


def _has_scale(net: nn.Module, name: str) -> bool:
    module = net.get_submodule(name)
    if isinstance(module, NORM_TYPES):
        return module.weight is not None
    return "weight" in per_channel(module)
