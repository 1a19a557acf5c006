"""Function-preserving widening: removed channels come back, the inverse of surgery.

What makes a new channel is drawn as the dense network draws it, and what reads it is zero. So the
outputs stay, the first step reaches the readers, and the second what makes the channels. Drawn
readers of channels that are made of zeros, as GradMax has them, are no way here: behind a batch
norm a channel of zeros has no scale of its own and its gradient divides by the norm's epsilon. What
is taken from GradMax is where to grow.

Source: Chen et al., Net2Net, 2016, arXiv 1511.05641, for widening that keeps the function, there by
copies of channels; Evci et al., GradMax, 2022, arXiv 2201.05125, for growing where the gradient of
the new weights is largest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.models.modes import copied, evaluating
from regrow.models.record import branches, structure
from regrow.models.task import Task
from regrow.prune.channels.exactness import check_exact
from regrow.prune.channels.gathering import combine
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.optimizer_state import Places
from regrow.prune.channels.proof import TOLERANCE
from regrow.prune.channels.records import Group, width
from regrow.prune.channels.surgery import clone, cut_
from regrow.prune.contributions import Batches, gradients, some
from regrow.prune.cost_model import Costs, costs_of
from regrow.prune.recovery import reestimate_batchnorm_
from regrow.prune.selection import Chooser, Selection
from regrow.prune.widening.placement import Placement, read_by

# Batches over which the gradients of new channels are averaged.
NUM_BATCHES = 8
# Every unit but one may go: what must stay is ranked above all.
ANY = 1 - 1e-6


@dataclass(frozen=True, slots=True)
class Widening:
    """The outcome of widening a network.

    Args:
        gained: How many channels each coupled group got back, by the layer that names it; heads,
            for attention.
        left_narrow: The reason for every such layer that is still narrower than in the dense
            network.
    """

    gained: dict[str, int]
    left_narrow: dict[str, str]


def widen_(
    task: Task,
    dense: nn.Module | None = None,
    *,
    limit: Costs | None = None,
    batches: Batches | None = None,
    seed: int = 0,
) -> Widening:
    """Restore a pruned network's channels in place; what it computes stays the same.

    The modules stay the same objects, in their mode and with their hooks, and so do the
    `requires_grad` flags; parameters that grow are new ones. Masked weights stay masked, new ones
    are not. Momenta of new weights are zero. Widths that layer norms or group norms take statistics
    over stay as they are, since a norm over more channels gives something else; removed residual
    branches stay removed.

    Args:
        task: The task whose network is widened.
        dense: A fresh network as wide as this one may become; by default that which the task's
            name and arguments build.
        limit: The most that the network may cost, by name (`macs`, `params`): channels come back
            where the gradients of their readers are largest for what they cost. By default all
            come back.
        batches: Training images and targets, from which the batch norms of new channels are
            measured; needed with a limit. By default these norms have a mean of 0 and a variance
            of 1.
        seed: What fresh weights are drawn from, where no dense network is given.

    Returns:
        What came back, and what did not.

    Raises:
        BadInput: If the network is no pruned form of the dense one, costs more than the limit
            already, a limit comes without images, or the outputs would change.

    Examples:
        >>> from regrow.models import Classification
        >>> from regrow.prune import cut_, find_groups, widen_
        >>> task = Classification(["cat", "dog"], (16, 16), net_args={"width": 8})
        >>> group = find_groups(task).groups[0]
        >>> removed = cut_(task, [(group, [0, 3])])
        >>> widen_(task).gained == {group.layer: 2}
        True
    """
    if limit is not None:
        _refuse_limit(task, limit, batches)
    full = _dense_task(task, dense, seed)
    _refuse_other_names(task.net, full.net)
    if not structure.record(task.net, full.net)["shapes"]:
        return Widening({}, {})
    groups = find_groups(full).groups
    plan = _narrowing(task.net, groups)
    placement = Placement.between(
        task, full, plan, [(g, units) for g, units in plan if g.is_normed]
    )
    _refuse_change(task, placement)
    placement.fill_(task)
    if batches is not None:
        _measure_new_(task, placement.new, batches)
    back = {group.layer: len(units) for group, units in plan if not group.is_normed}
    cut = {} if limit is None else _cut_back_(task, placement, limit, batches)
    gained = {layer: count - cut.get(layer, 0) for layer, count in back.items()}
    reasons = {g.layer: "norms take statistics over its channels" for g, _ in placement.kept_out}
    reasons |= dict.fromkeys(cut, "gradients ask for others before it")
    sizes = {group.layer: 1 if group.is_heads else group.channels_per_unit for group in groups}
    return Widening({n: sizes[n] * count for n, count in gained.items() if count}, reasons)


def _dense_task(task: Task, dense: nn.Module | None, seed: int) -> Task:
    full = clone(task)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        full.net = task.fresh_net() if dense is None else copied(dense)
    full.net.to(task.mean)
    full.momenta = {}
    _remove_branches_(full, branches.record(task.net))
    return full


def _remove_branches_(full: Task, blocks: dict[str, dict[str, Any]]) -> None:
    """Remove the branches of the dense network that the pruned one lacks: they do not come back."""

    def note(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Tensor) -> None:
            blocks[name]["channels"] = output.shape[-1 - blocks[name]["trailing"]]

        return hook

    handles = [full.net.get_submodule(n).register_forward_hook(note(n)) for n in blocks]
    if blocks:
        with torch.no_grad(), evaluating(full.net):
            full(full.example_images(1))
    for handle in handles:
        handle.remove()
    branches.rebuild_(full.net, blocks)


def _narrowing(net: nn.Module, groups: Sequence[Group]) -> list[tuple[Group, list[int]]]:
    """Return what to cut from the dense network for the widths of a pruned one.

    Which channels were cut is not known, and does not matter: the last ones can be, since the order
    of the others stays.
    """
    plan = []
    for group in groups:
        first = group.members[0]
        left = (width(net.get_submodule(first.layer), first.side) or 0) // group.channels_per_unit
        if left < group.num_units:
            plan.append((group, list(range(left, group.num_units))))
    return plan


@torch.no_grad()
def _measure_new_(task: Task, new: Places, batches: Batches) -> None:
    """Measure the batch norms of new channels, and of these alone."""
    before = {name: buffer.clone() for name, buffer in task.net.named_buffers()}
    reestimate_batchnorm_(task, batches)
    for name, buffer in task.net.named_buffers():
        places = new.get(name, {}).get(0, [])
        measured = buffer[places] if places else None
        buffer.copy_(before[name])
        if measured is not None:
            buffer[places] = measured


def _cut_back_(
    task: Task, placement: Placement, limit: Costs, batches: Batches | None
) -> dict[str, int]:
    """Cut the new units again that gradients ask for least, until the network is in its limit.

    Returns:
        How many units went again, by the group's layer.
    """
    groups = [group for group, _ in placement.groups]
    scores = asked_for(task, groups, batches)
    for values, (_, units) in zip(scores, placement.groups, strict=True):
        is_old = torch.ones_like(values, dtype=torch.bool).index_fill(0, torch.tensor(units), False)
        values.masked_fill_(is_old, float("inf"))
    widths = {group.layer: group.width for group in groups}
    selection = Selection(per="macs", round_to=1, max_share=ANY)
    plan = Chooser(task, groups, scores, widths, selection).choose(limit, tightly=True) or []
    cut_(task, plan)
    return {group.layer: len(units) for group, units in plan}


def asked_for(task: Task, groups: Sequence[Group], batches: Batches | None) -> list[Tensor]:
    """Compute how much the loss gains from a first step of the weights that read each unit.

    That is the squared norm of the gradient by the weights that read a unit, to first order and for
    a step of size one.

    Source: Evci et al. 2022, arXiv 2201.05125, equation 5, there to choose the new weights.

    Args:
        task: The task, whose network is run in evaluation mode and left as it was.
        groups: Groups of its network.
        batches: Training images and targets, of which the gradients are averaged.

    Returns:
        For each group one score a unit, (units,), >= 0.
    """
    totals: dict[str, Tensor] = {}
    for images, targets in some(batches, NUM_BATCHES):
        for name, grad in gradients(task, images, targets).items():
            totals[name] = totals.get(name, torch.zeros_like(grad)) + grad
    scores = []
    for group in groups:
        readers = tuple(m for m in group.members if read_by(task.net, m) is not None)
        means = combine(
            replace(group, members=readers), task.net, lambda _, w, g: g.square().sum(1), totals
        )
        scores.append(means * len(readers))
    return scores


def _refuse_limit(task: Task, limit: Costs, batches: Batches | None) -> None:
    if batches is None:
        raise BadInput("a limit on what comes back needs training images, whose gradients decide")
    unknown = sorted(limit.keys() - {"macs", "params"})
    if unknown:
        raise BadInput(f"a limit of {unknown[0]!r} is none of macs, params")
    now = costs_of(task, list(limit))
    for name, most in limit.items():
        if now[name] > most:
            raise BadInput(
                f"the network has {now[name]} {name} already, so nothing can come back within "
                f"{most:g}; raise the limit"
            )


def _refuse_change(task: Task, placement: Placement) -> None:
    trial = clone(task)
    placement.fill_(trial)
    error = check_exact(task, trial)
    if not error <= TOLERANCE:
        raise BadInput(
            f"{type(task.net).__name__} cannot be widened: its outputs would move by {error:.1e}; "
            "train it as narrow as it is"
        )


def _refuse_other_names(net: nn.Module, dense: nn.Module) -> None:
    own, other = set(dict(net.named_parameters())), set(dict(dense.named_parameters()))
    if own != other:
        raise BadInput(
            f"{type(net).__name__} cannot be widened: its dense form would be a "
            f"{type(dense).__name__} that differs in {min(own ^ other)}; give the dense network"
        )
