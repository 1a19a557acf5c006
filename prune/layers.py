"""Figures of each layer: its widths, the importance that is left, and its sensitivity."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from regrow.models.modes import evaluating
from regrow.models.task import Task, loss_of
from regrow.prune.channels.records import Group, widths
from regrow.prune.channels.surgery import clone, mask_
from regrow.prune.removal import Removal
from regrow.prune.state import Progress

PROBED_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Layer:
    """The figures of one layer before and after pruning.

    Args:
        before: Output channels before it.
        after: Output channels after it; 0 if it went with a residual branch.
        importance: The share of the scores of its group, at the start, that the units that are left
            had; None where it was left whole, or is scored under another layer's name.
        sensitivity: What the loss gained at the start when a quarter of its group was removed.
        group: The layer that its channels go with, if they are scored under that one's name.
    """

    before: int
    after: int
    importance: float | None
    sensitivity: float | None
    group: str | None = None


def layers_of(task: Task, state: Progress, removal: Removal) -> dict[str, Layer]:
    """Compare every layer with weights before and after pruning.

    Args:
        task: The network before any pruning.
        state: Where its run has ended.
        removal: The removal that the run was given.
    """
    old, new, kept = widths(task.net), widths(state.task.net), state.kept_units()
    shares = {}
    for name, scores in state.importance.items():
        total = sum(scores)
        shares[name] = sum(scores[unit] for unit in kept[name]) / total if total else 1.0
    # Heads of attention are counted under the name of the attention.
    old |= {name: len(scores) for name, scores in state.importance.items() if name not in old}
    new |= {name: len(units) for name, units in kept.items() if name not in new}
    groups = removal.groups.groups
    owners = {m.layer: g.layer for g in groups for m in g.members if m.side == "out"}
    return {
        name: Layer(
            before=old[name],
            after=new.get(name, 0),
            importance=shares.get(name),
            sensitivity=state.sensitivity.get(name),
            group=owners.get(name) if owners.get(name) != name else None,
        )
        for name in old
    }


def sensitivities(
    task: Task, groups: Sequence[Group], scores: Sequence[Tensor], batch: tuple[Tensor, Any]
) -> dict[str, float]:
    """Compute how much the loss rises when a quarter of one group's units is removed.

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
