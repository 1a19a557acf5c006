"""Unstructured pruning: the importance of single weights, and the choice of those to mask."""

from collections.abc import Mapping, Sequence
from itertools import islice
from math import ceil, inf
from typing import Literal

import torch
from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.models.masks import masks_of
from regrow.models.task import Task
from regrow.prune.channels.coupling import fixed_layers
from regrow.prune.channels.records import TRANSPOSED_TYPES, WEIGHTED_TYPES, is_depthwise
from regrow.prune.contributions import Batches, mean_gradients, one_by_one, some
from regrow.prune.criteria import Criterion, Fisher, Lamp, Magnitude, Random, Taylor, lamp

ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


def find_weights(task: Task) -> tuple[list[str], dict[str, str]]:
    """Return the names of the weights that may be masked one by one, and why others may not.

    Those of convolutions, linear layers and attention may. Biases and norms are few, and decide
    about whole channels; so is each filter of a depthwise convolution all that its channel has. The
    rows of output layers belong to single classes and boxes, which a ranking over the whole network
    could empty: those of a rare class are small.

    Args:
        task: The task.

    Returns:
        The names of the weights in the order of the network, and the reason for every layer with
        weights that is left whole.
    """
    outputs = fixed_layers(task)
    names = {parameter: name for name, parameter in task.net.named_parameters()}
    found: dict[str, None] = {}
    left_whole = {}
    for layer, module in task.net.named_modules():
        for key in _keys(module):
            weight = module._parameters.get(key)
            if layer in outputs:
                left_whole[layer] = "its rows belong to classes or boxes"
            elif is_depthwise(module):
                left_whole[layer] = "a depthwise convolution has one filter a channel"
            elif weight is None:
                left_whole[layer] = f"its {key} is made of other tensors"
            else:
                found[names[weight]] = None  # layers that share it name it once
    return list(found), left_whole


def score_weights(
    task: Task, names: Sequence[str], criterion: Criterion, batches: Batches | None = None
) -> dict[str, Tensor]:
    """Score single weights, so that scores compare across layers; the lowest are masked first.

    Magnitude gives |w|. Taylor averages over single images the loss that the image owes to the
    weight, |w g|, or with `power` 2 its square; each image of its batches is a backward pass.
    Fisher gives w^2 E[g^2] / 2 with the gradients of single images. Lamp divides w^2 by the sum of
    the squares of all weights of the tensor that are not smaller. Random draws.

    Source: Han et al. 2015, arXiv 1506.02626 (magnitude); Molchanov et al. 2019, arXiv 1906.10771,
    equation 8, there for filters and squared (Taylor); Theis et al. 2018, arXiv 1801.05787
    (Fisher); Lee et al. 2021, arXiv 2010.07611, equation 1 (Lamp).

    Args:
        task: The task; it is left as it was.
        names: The names of the weights.
        criterion: The way to score; its options count, but for the exponent of a norm.
        batches: Training images and targets, for criteria that need them.

    Returns:
        By the name of the weight scores of its shape, >= 0, on its device.

    Raises:
        BadInput: If the criterion ranks channels only, has no images, or a score is not finite.
    """
    weights = {name: task.net.get_parameter(name).detach() for name in names}
    scores = _scores(task, weights, criterion, batches)
    for name, values in scores.items():
        if not torch.isfinite(values).all():
            raise BadInput(
                f"{name}: weights score NaN or infinity by {type(criterion).__name__}; the weights "
                "or gradients are not finite"
            )
    return scores


def choose_masks(
    net: nn.Module,
    scores: Mapping[str, Tensor],
    share: float,
    *,
    scope: Literal["global", "local"] = "global",
    max_share: float = 0.99,
) -> dict[str, Tensor]:
    """Choose the weights with the lowest scores, exactly as many as asked for.

    What the network has masked already is chosen first; of equal scores, those that come first in
    the network.

    Args:
        net: The network, which is not changed.
        scores: By the name of the weight, scores of its shape.
        share: The share of all scored weights that is masked then, in [0, 1), rounded to the
            nearest weight.
        scope: `global` takes the lowest scores of all weights, `local` the same share of each
            tensor.
        max_share: The largest share of a tensor's weights that may go, in (0, 1], rounded up; one
            weight always stays. A global ranking can otherwise empty a layer, and nothing passes.

    Returns:
        By the name of the weight booleans of its shape, True where it is kept; for `mask_weights_`.

    Raises:
        BadInput: If a share is out of range, or so many weights may not go.
    """
    if not 0 <= share < 1 or not 0 < max_share <= 1:
        raise BadInput(
            f"weights.share is {share} and weights.max_share {max_share}; they must lie in [0, 1) "
            "and (0, 1]"
        )
    masks = masks_of(net)
    flat = {n: _masked_first(values, masks.get(n)).flatten() for n, values in scores.items()}
    orders = {name: values.argsort(stable=True) for name, values in flat.items()}
    limits = {name: _limit(values, max_share) for name, values in flat.items()}
    if scope == "local":
        asked = [round(share * values.numel()) for values in flat.values()]
        counts = [min(pair) for pair in zip(asked, limits.values(), strict=True)]
    else:
        asked = [round(share * sum(values.numel() for values in flat.values()))]
        ranked = [values[orders[name][: limits[name]]] for name, values in flat.items()]
        counts = _lowest(ranked, asked[0])
    if sum(counts) < sum(asked):
        raise BadInput(
            f"weights.share {share:g} is out of reach: with at most {max_share:g} of each tensor, "
            f"{sum(limits.values())} weights may go; lower it, or raise weights.max_share"
        )
    chosen = {}
    for (name, values), count in zip(flat.items(), counts, strict=True):
        kept = torch.ones_like(values, dtype=torch.bool)
        kept[orders[name][: max(count, _num_masked(values))]] = False
        chosen[name] = kept.view(scores[name].shape)
    return chosen


def choose_n_of_m(
    net: nn.Module, scores: Mapping[str, Tensor], n: int = 2, m: int = 4
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Choose masks that keep the best n of each m consecutive weights along the inputs of a layer.

    That is the pattern of sparse tensor cores: for a linear layer the one that PyTorch's
    semi-structured kernels read, for a convolution m input channels at one place of the filter.
    What the network has masked already stays so; of equal scores, those that come first go.

    Source: Mishra et al., Accelerating Sparse Deep Neural Networks, 2021, arXiv 2104.08378.

    Args:
        net: The network, which is not changed.
        scores: By the name of the weight, scores of its shape.
        n: The number of weights that are kept of each block.
        m: The size of a block.

    Returns:
        By the name of the weight booleans of its shape, True where it is kept, for `mask_weights_`;
        and the reason for every weight that is left dense.

    Raises:
        BadInput: If n is not between 0 and m.
    """
    if not 0 < n < m:
        raise BadInput(f"weights.pattern is {n}:{m}; of m weights 1 to m - 1 are kept, as in 2:4")
    masks, chosen, left_dense = masks_of(net), {}, {}
    for name, values in scores.items():
        layer = net.get_submodule(name.rpartition(".")[0])
        dim = 0 if isinstance(layer, TRANSPOSED_TYPES) else 1
        if values.shape[dim] % m:
            left_dense[name] = f"its {values.shape[dim]} inputs are no multiple of {m}"
            continue
        moved = _masked_first(values, masks.get(name)).movedim(dim, -1)
        blocks = moved.reshape(-1, m)
        lowest = blocks.argsort(dim=1, stable=True)[:, : m - n]
        kept = torch.ones_like(blocks, dtype=torch.bool).scatter_(1, lowest, False)
        kept &= ~blocks.isneginf()
        chosen[name] = kept.view(moved.shape).movedim(-1, dim).contiguous()
    return chosen, left_dense


def _keys(module: nn.Module) -> list[str]:
    """Return the names of a layer's weights whose rows make outputs from inputs."""
    if isinstance(module, nn.MultiheadAttention):
        return [key for key in ATTENTION if module._parameters.get(key) is not None]
    return ["weight"] if isinstance(module, WEIGHTED_TYPES) else []


def _scores(
    task: Task, weights: dict[str, Tensor], criterion: Criterion, batches: Batches | None
) -> dict[str, Tensor]:
    match criterion:
        case Magnitude():
            return {name: weight.abs() for name, weight in weights.items()}
        case Lamp():
            return {n: lamp(w.abs().flatten()).view_as(w) for n, w in weights.items()}
        case Random():
            generator = torch.Generator().manual_seed(criterion.seed)
            return {n: torch.rand(w.shape, generator=generator).to(w) for n, w in weights.items()}
        case Taylor():
            power = criterion.power
            images = one_by_one(some(batches, criterion.num_batches))
            means = mean_gradients(task, images, lambda grad: grad.abs().pow(power))
            return {n: w.abs().pow(power) * _found(means, n, w) for n, w in weights.items()}
        case Fisher():
            images = islice(one_by_one(some(batches, criterion.num_images)), criterion.num_images)
            means = mean_gradients(task, images, torch.square)
            return {n: w.square() * _found(means, n, w) / 2 for n, w in weights.items()}
    raise BadInput(
        f"criterion: {type(criterion).__name__} ranks channels, not single weights; take "
        "Magnitude, Taylor, Fisher, Lamp or Random"
    )


def _found(means: dict[str, Tensor], name: str, weight: Tensor) -> Tensor:
    """Return the gradients of a weight, zeros where it takes no part in the loss."""
    return means.get(name, torch.zeros_like(weight))


def _masked_first(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return scores in which what is masked already is below all others."""
    return values if mask is None else values.masked_fill(~mask.to(values.device), -inf)


def _num_masked(values: Tensor) -> int:
    return int(values.isneginf().sum())


def _limit(values: Tensor, max_share: float) -> int:
    """Count the weights of a tensor that may be masked; less the rounding of the product."""
    most = min(ceil(max_share * values.numel() - 1e-9), values.numel() - 1)
    return max(most, _num_masked(values))


def _lowest(ranked: Sequence[Tensor], count: int) -> list[int]:
    """Count how many of each ascending tensor are among the lowest of all."""
    sizes = torch.tensor([len(values) for values in ranked])
    places = torch.repeat_interleave(torch.arange(len(ranked)), sizes)
    lowest = torch.cat(list(ranked)).argsort(stable=True)[:count].cpu()
    return torch.bincount(places[lowest], minlength=len(ranked)).tolist()
