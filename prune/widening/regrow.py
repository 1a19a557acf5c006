"""Regrowing channels: a pruned network is widened, trained, and pruned to its old cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from regrow.errors import BadInput
from regrow.models.masks import mask_weights_, masks_of, pattern_dim, zero_masked_
from regrow.models.task import Task
from regrow.prune.channels.groups import find_groups, without_layers
from regrow.prune.channels.records import Group, widths
from regrow.prune.contributions import Batches
from regrow.prune.cost_model import Costs, costs_of
from regrow.prune.criteria import Criterion, Magnitude, Taylor
from regrow.prune.recovery import Recover, reestimate_batchnorm_
from regrow.prune.removal import Channels
from regrow.prune.schedule import alignment, kept_share
from regrow.prune.selection import Selection
from regrow.prune.target import Target
from regrow.prune.weights import choose_masks, choose_n_of_m, score_weights
from regrow.prune.widening.widen import ANY, Widening, widen_


@dataclass(frozen=True, slots=True)
class Regrown:
    """The outcome of regrowing channels.

    Args:
        widening: What it got back.
        limit: What it cost before, by name, which is the most that it costs now.
        cost: What it costs now.
        before: The output channels of every layer before.
        after: The output channels of every layer now.
    """

    widening: Widening
    limit: dict[str, int]
    cost: dict[str, int]
    before: dict[str, int]
    after: dict[str, int]


def regrow_channels_(
    task: Task,
    *,
    train: Recover,
    batches: Batches,
    limit: Costs | None = None,
    num_steps: int = 1,
    criterion: Criterion | None = None,
    seed: int = 0,
) -> Regrown:
    """Widen a pruned network, train it, and prune it to what it cost, in place.

    It is trained before each cut, `num_steps` times in all. After the last cut it is not: that
    recovery is the caller's, whose logs and checkpoints then show networks of the final cost alone.
    There is no budget, since the cost is a promise here and the old score belongs to old data.

    Args:
        task: The network; where weights were masked, no more are kept in the end than before.
        train: Trains the network in place, given the number of the time, from 0.
        batches: Training images and targets, for scores and norm statistics.
        limit: The most that the wide network may cost, as for `widen_`; by default all channels
            come back.
        num_steps: In how many cuts it is pruned, of equal size.
        criterion: The way to score channels, by default Taylor's.
        seed: What fresh weights are drawn from.

    Returns:
        What changed.

    Raises:
        BadInput: If the network cannot be widened, or not be pruned again.
    """
    if num_steps < 1:
        raise BadInput(f"num_steps is {num_steps}, it must be at least 1")
    before, cost, num_kept = widths(task.net), costs_of(task), _num_kept(task.net)
    patterned = _patterned(task.net)
    widening = widen_(task, limit=limit, batches=batches, seed=seed)
    if not widening.gained:
        return Regrown(widening, cost, cost, before, before)
    groups = find_groups(task)
    # What cannot come back does not go either.
    normed = [group.layer for group in groups.groups if group.is_normed]
    groups = without_layers(groups, dict.fromkeys(normed, "norms take statistics over it"))
    # Half a unit of cost more, or rounding could take a channel too many.
    shares = {n: min((cost[n] + 0.5) / wide, 1.0) for n, wide in costs_of(task).items()}
    selection = Selection(round_to=_alignment(groups.groups, before), max_share=ANY)
    channels = Channels(task, Target(**shares), selection, criterion or Taylor(), groups)
    for step in range(num_steps):
        train(task, step)
        zero_masked_(task.net)  # whatever optimizer it trained with
        kept = {name: kept_share(share, (step + 1) / num_steps) for name, share in shares.items()}
        cut = channels.cut_(task, batches, kept, tightly=step + 1 == num_steps)
        if cut is None:
            raise BadInput(
                "some layers cannot be cut any more; prune the network in a run of its own"
            )
        channels.follow(cut)
        reestimate_batchnorm_(task, batches)
    _mask_again_(task, num_kept, patterned)
    return Regrown(widening, cost, costs_of(task), before, widths(task.net))


def _alignment(groups: Sequence[Group], before: Mapping[str, int]) -> int:
    """Return what the widths of the network were aligned to, at most 16."""
    pairs = [(before[group.layer], group.width) for group in groups if group.layer in before]
    fitting = (n for n in (16, 8, 4, 2) if all(w % alignment(full, n) == 0 for w, full in pairs))
    return next(fitting, 1)


def _num_kept(net: nn.Module) -> int:
    """Count the parameters of a network that are not masked."""
    masked = sum(int((~kept).sum()) for kept in masks_of(net).values())
    return sum(parameter.numel() for parameter in net.parameters()) - masked


def _patterned(net: nn.Module) -> set[str]:
    """Return the names of the weights whose masks have the pattern 2:4."""
    layers = {name: net.get_submodule(name.rpartition(".")[0]) for name in masks_of(net)}
    return {
        name for name, kept in masks_of(net).items() if pattern_dim(layers[name], kept) is not None
    }


def _mask_again_(task: Task, num_kept: int, patterned: set[str]) -> None:
    """Mask weights that came back with the channels, until no more are kept than before."""
    found = score_weights(task, list(masks_of(task.net)), Magnitude())
    if patterned:
        chosen, _ = choose_n_of_m(task.net, {name: found[name] for name in patterned})
        mask_weights_(task.net, chosen)
    free = {name: scores for name, scores in found.items() if name not in patterned}
    excess = _num_kept(task.net) - num_kept
    if excess > 0 and free:
        gone = sum(int((~masks_of(task.net)[name]).sum()) for name in free)
        share = (gone + excess) / sum(scores.numel() for scores in free.values())
        mask_weights_(task.net, choose_masks(task.net, free, share, max_share=1.0))
