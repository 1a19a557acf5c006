"""Weight imprinting: head rows of new classes from the features of their images."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from regrow.models.modes import evaluating, thawed
from regrow.models.task import Task, loss_of


def imprint_(task: Task, names: Sequence[str], batches: Iterable[tuple[Tensor, Any]]) -> None:
    """Turn the weights of new classes towards the features of their images, in place.

    The direction is that of the negative gradient of the loss by the rows of each class: for a
    linear classifier the sum of the features of its images, less what the others give it, and for
    dense heads and detectors the same sum over the places where the class is. Its length is the
    mean length of the other classes' rows. A row whose loss has no gradient stays, and so do those
    of a class's own boxes, which no feature points to.

    Source: Qi et al., Low-Shot Learning with Imprinted Weights, 2018, arXiv 1712.07136, section
    3.2, there the normalised mean of the features themselves, for classifiers of cosines.

    Args:
        task: The network, whose head has the rows already.
        names: The new classes.
        batches: Training images and targets that show them.
    """
    count = len(task.classes)
    specs = [rows for rows in task.class_rows() if rows.rows_per_class == 1]
    weights: list[Any] = [task.net.get_submodule(rows.layer).weight for rows in specs]
    totals = [torch.zeros_like(weight) for weight in weights]
    with evaluating(task.net), thawed(task.net), torch.enable_grad():
        for images, targets in batches:
            loss = loss_of(task, images, targets)
            grads = torch.autograd.grad(loss, weights, allow_unused=True)
            for total, grad in zip(totals, grads, strict=True):
                if grad is not None:
                    total.sub_(grad)
    new = [task.classes.index(name) for name in names]
    old = [index for index in range(count) if index not in new] or new
    for rows, weight, total in zip(specs, weights, totals, strict=True):
        for place in range(len(rows.indices(0, count))):
            others = torch.tensor([rows.indices(index, count)[place] for index in old])
            length = weight.detach()[others].flatten(1).norm(dim=1).mean()
            for index in new:
                row = rows.indices(index, count)[place]
                norm = total[row].norm()
                if norm > 0 and norm.isfinite():
                    with torch.no_grad():
                        weight[row] = total[row] * (length / norm)
