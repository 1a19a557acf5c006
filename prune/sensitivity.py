"""How much the loss minds when one layer alone is pruned."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from regrow.models.modes import evaluating
from regrow.models.task import Task, loss_of
from regrow.prune.channels.records import Group
from regrow.prune.channels.surgery import clone, mask_

PROBED_SHARE = 0.25


def sensitivities(
    task: Task, groups: Sequence[Group], scores: Sequence[Tensor], batch: tuple[Tensor, Any]
) -> dict[str, float]:
    """Give what the loss gains when a quarter of one group's units is removed, one at a time.

    Source: Li et al., Pruning Filters for Efficient ConvNets, 2017, arXiv 1608.08710, section 3.2,
    there the accuracy.

    Args:
        task: The task; it stays as it is, and is run in evaluation mode.
        groups: Groups of its network.
        scores: For each group one score a unit, (units,); the lowest are removed.
        batch: Images and targets that the loss is taken on.

    Returns:
        The loss with the units removed less the loss of the whole network, by the group's layer.
    """
    whole = _loss(task, batch)
    found = {}
    for group, values in zip(groups, scores, strict=True):
        lowest = values.argsort(stable=True)[: max(1, round(PROBED_SHARE * group.num_units))]
        masked = clone(task)
        mask_(masked, [(group, lowest.tolist())])
        found[group.layer] = _loss(masked, batch) - whole
    return found


@torch.no_grad()
def _loss(task: Task, batch: tuple[Tensor, Any]) -> float:
    with evaluating(task.net):
        return float(loss_of(task, *batch))
