"""Initial weights of a warm start: shrink-perturb and DASH."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.models.masks import zero_masked_
from regrow.models.modes import evaluating, thawed
from regrow.models.record.structure import fresh_twin
from regrow.models.task import Task, loss_of

Batches = Iterable[tuple[Tensor, Any]]
WarmInit = Literal["keep", "shrink-perturb", "dash"]
# How much of the newest batch's gradient is in the average that DASH takes a direction from.
NEWEST = 0.3


@torch.no_grad()
def shrink_perturb_(task: Task, shrink: float, perturb: float, *, seed: int = 0) -> None:
    """Shrink all parameters and add fresh noise, in place; masked weights stay zero.

    A network that has learnt its first data by heart generalises worse after more data than a fresh
    one; smaller weights give the new data's gradients more say.

    Source: Ash and Adams, On Warm-Starting Neural Network Training, 2020, arXiv 1910.08475,
    section 4: w <- shrink * w + perturb * w_fresh, over all parameters.

    Args:
        task: The network, pruned or not.
        shrink: Factor of each parameter, in [0, 1].
        perturb: Factor of a fresh network's parameters that are added, >= 0.
        seed: Seed of the fresh parameters.

    Raises:
        BadInput: If a share is out of range.
    """
    _refuse_share("shrink", shrink)
    if not perturb >= 0:
        raise BadInput(f"perturb is {perturb}, it must be 0 or more")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = dict(fresh_twin(task.net, task.fresh_net()).named_parameters())
    for name, parameter in task.net.named_parameters():
        drawn = fresh[name].to(parameter.device, parameter.dtype)
        parameter.mul_(shrink).add_(drawn, alpha=perturb)
    zero_masked_(task.net)


def dash_(task: Task, batches: Batches, shrink: float) -> None:
    """Shrink weights by their angle to the negative gradient of the data's loss, in place.

    Each kernel of a convolution, (h, w) for one input and output, and each row of a linear layer,
    is multiplied with the cosine of the angle between it and the negative gradient, at least
    `shrink`: what more training would only enlarge stays.

    Source: Shin et al., DASH: Warm-Starting Neural Network Training in Stationary Settings without
    Loss of Plasticity, 2024, arXiv 2410.23495, algorithm 1, with its moving average of gradients;
    there over all batches and in training mode, here over those given and in evaluation mode, so
    that norms keep their statistics. Biases stay, as do kernels of one weight, which have no
    direction but their sign: a convolution of 1x1 counts as a linear layer.

    Args:
        task: The network.
        batches: Training images and targets.
        shrink: The least factor, in [0, 1].

    Raises:
        BadInput: If `shrink` is out of range, or there are no batches.
    """
    _refuse_share("shrink", shrink)
    layers = [m for m in task.net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for layer, wanted in zip(layers, _downhill(task, layers, batches), strict=True):
        with torch.no_grad():
            weight = layer.weight
            is_kernel = weight.ndim > 2 and weight[0, 0].numel() > 1
            rows = weight.flatten(2) if is_kernel else weight.flatten(1)
            # PyTorch's own eps takes the gradients of a network that is nearly right for none.
            cosine = torch.cosine_similarity(wanted.view_as(rows), rows, dim=-1, eps=1e-18)
            factor = cosine.clamp(shrink, 1)
            weight.mul_(factor.view(*factor.shape, *[1] * (weight.ndim - factor.ndim)))
    zero_masked_(task.net)


def _downhill(task: Task, layers: Sequence[nn.Module], batches: Batches) -> list[Tensor]:
    """Return the moving average of the negative gradient of each layer's weight."""
    weights: list[Any] = [layer.weight for layer in layers]
    average = [torch.zeros_like(weight) for weight in weights]
    count = 0
    with evaluating(task.net), thawed(task.net), torch.enable_grad():
        for images, targets in batches:
            grads = torch.autograd.grad(loss_of(task, images, targets), weights, allow_unused=True)
            for mean, grad in zip(average, grads, strict=True):
                mean.mul_(1 - NEWEST)
                if grad is not None:
                    mean.sub_(grad, alpha=NEWEST)
            count += 1
    if not count:
        raise BadInput("warm_init dash needs training images, and there are none")
    return average


def _refuse_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise BadInput(f"{name} is {value}, it must lie in [0, 1]")
