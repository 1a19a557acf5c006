"""Coupled groups of channels: found in the dependency graph, and proved by trial cuts."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.models.task import Task
from regrow.prune.channels.coupling import coupled_groups
from regrow.prune.channels.disturbing import disturb_, rouse_
from regrow.prune.channels.exactness import probe, sift
from regrow.prune.channels.fixed import guesses, unfix_
from regrow.prune.channels.heads import find_heads
from regrow.prune.channels.proof import SILENT
from regrow.prune.channels.records import WEIGHTED_TYPES, Group, Groups
from regrow.prune.channels.surgery import clone
from regrow.prune.channels.tracing import Effort, OutOfWork, refuse_unready
from regrow.prune.channels.ways import untried_layer
from regrow.prune.depth.finding import with_branches
from regrow.prune.memory import enough_memory

# Share of every group that is removed to prove that it can be.
PROBED_SHARE = 0.25
# More than any network of torchvision or timm takes: some minutes.
MAX_WORK = 500_000_000


def find_groups(
    task: Task,
    *,
    branches: bool = False,
    images: Tensor | None = None,
    max_work: int = MAX_WORK,
) -> Groups:
    """Find the coupled groups of channels that can be removed without changing anything else.

    Heads of attention are groups too, each head a unit.

    Each group is proved: a quarter of its units is set to zero in one float64 copy of the network
    and cut out of another, both with disturbed weights, and both must give the same, in each of
    their layers, in both modes, whatever they decide by what they see
    (`regrow.prune.channels.proof`).

    Args:
        task: The task; its network keeps its weights, mode and `requires_grad` flags.
        branches: Also find which residual branches can go whole, by
            `regrow.prune.depth.finding`.
        images: Real images for the proof, besides those made up, uint8 (b, 3, h, w).
        max_work: Work that it may take, in pairs of channels that are followed; each layer that is
            run counts as 100.

    Returns:
        The groups, and the reason for every layer that is left whole.

    Raises:
        BadInput: If the network cannot be traced, it takes too much work, or memory runs out.

    Examples:
        >>> from torch import nn
        >>> from regrow.prune import as_task, find_groups
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2))
        >>> found = find_groups(as_task(net, size=(8, 8)))
        >>> [(group.layer, group.num_units) for group in found.groups]
        [('0', 8)]
        >>> found.left_whole
        {'3': 'its channels are outputs of 3 and must stay'}
    """
    name = type(task.net).__name__
    refuse_unready(task.net)
    try:
        with enough_memory(f"prove what can be pruned from {name}"):
            found = _find(task, images, Effort(max_work))
            return with_branches(task, found, images) if branches else found
    except OutOfWork:
        raise BadInput(
            f"{name}: its channels are so coupled that finding what can be pruned takes more work "
            f"than max_work, {max_work:.3g}; give the task a smaller size, or "
            "`regrow.prune.channels.groups.find_groups` more and its groups to the engine"
        ) from None


def _find(task: Task, images: Tensor | None, effort: Effort) -> Groups:
    heads = find_heads(task.net)
    makers = {f"{name}.in_proj": name for name in heads}
    for name, layouts in heads.items():
        makers |= {m.layer: name for layout in layouts for m in layout.members if m.side == "out"}
    follow = partial(coupled_groups, task, makers=set(makers), effort=effort)
    found, traced = follow(clone(task))
    followed = {group.layer for group in found.groups}
    _prove(task, found, heads, images, effort)
    if followed & found.left_whole.keys():
        _add_with_buffers_(task, found, follow, images, effort)
    _explain_(found, task.net, makers, traced)
    return found


def _add_with_buffers_(
    task: Task, found: Groups, follow: Callable[..., Any], images: Tensor | None, effort: Effort
) -> None:
    """Add the groups that can be cut if buffers are cut with them, such as fixed embeddings."""
    twin = clone(task)
    fixed = unfix_(twin.net)
    try:
        more = follow(twin, fixed)[0] if fixed else Groups([])
    except BadInput:  # it writes to its buffers, which no parameter allows
        return
    proved = {(m.layer, m.side) for group in found.groups for m in group.members}
    disturbed = clone(task)
    disturb_(disturbed.net)
    effort.watch_(disturbed.net)
    likely = []
    for group in more.groups:
        sides = {(member.layer, member.side) for member in group.members}
        if sides & proved or not any(layer in fixed for layer, _ in sides):
            continue
        for guess in guesses(group, task.net, fixed):
            reason = probe(disturbed, _probing([guess]), images)
            if reason is None or reason.startswith(SILENT):
                likely.append(guess)
                break
    if not likely:
        return
    more.groups = likely
    _prove(task, more, {}, images, effort, found.groups)
    found.groups = _in_order([*found.groups, *more.groups], task.net)
    for member in (member for group in more.groups for member in group.members):
        if member.side == "out":
            found.left_whole.pop(member.layer, None)


def _in_order(groups: Iterable[Group], net: nn.Module) -> list[Group]:
    order = {name: place for place, (name, _) in enumerate(net.named_modules())}
    return sorted(groups, key=lambda group: order[group.layer])


def _explain_(found: Groups, net: nn.Module, makers: dict[str, str], traced: set[str]) -> None:
    """Add the reason for every layer that is in no group."""
    covered = {member.layer for group in found.groups for member in group.members}
    for name, layer in net.named_modules():
        if isinstance(layer, WEIGHTED_TYPES) and name not in covered:
            reason = "its outputs go with those of a layer that is left whole"
            if name in makers:
                reason = f"it makes the heads of {makers[name]}, which is left whole"
            elif name not in traced:
                reason = "its weights are used outside of it, or not at all"
            found.left_whole.setdefault(name, reason)


def _prove(
    task: Task,
    found: Groups,
    heads: dict[str, list[Group]],
    images: Tensor | None,
    effort: Effort,
    proved: Sequence[Group] = (),
) -> None:
    """Keep the groups whose trial cut is exact, and note why the others are left whole.

    Args:
        task: The task.
        found: The groups in question; it is changed.
        heads: Guesses of the heads of each attention layer, in question too.
        images: As `find_groups` takes them.
        effort: The work that it may take.
        proved: Groups that can be cut, together with which the others must be.
    """
    disturbed = clone(task)
    disturb_(disturbed.net)
    effort.watch_(disturbed.net)
    untried = untried_layer(clone(disturbed), images)
    if untried is not None:
        reason = (
            "the network decides by its images what it runs, and no image of the proof runs "
            f"{untried}: what that reads is not known"
        )
        layers = [*(group.layer for group in found.groups), *heads]
        found.groups, found.left_whole = [], found.left_whole | dict.fromkeys(layers, reason)
        return
    candidates = [*found.groups, *_likely(disturbed, heads, images, found.left_whole)]
    before = _probing(proved)
    sound, refused = sift(disturbed, _probing(candidates), before, images=images)
    # One unit alone fits many a place that two do not, by broadcasting.
    lone = [g for g, units in sound if g.num_units - len(units) == 1 and g.num_units > 2]
    if lone:
        rest = [(group, units) for group, units in sound if group not in lone]
        pairs = [(group, list(range(group.num_units - 2))) for group in lone]
        kept, others = sift(disturbed, pairs, [*before, *rest], images=images)
        sound, refused = [*rest, *kept], refused | others
    silent = [group for group in candidates if refused.get(group.layer, "").startswith(SILENT)]
    if silent:
        # What is dead in this network is proved where nothing is.
        roused = clone(disturbed)
        rouse_(roused.net)
        awake, still = sift(roused, _probing(silent), images=images)
        sound_too, not_exact = sift(
            disturbed, awake, [*before, *sound], images=images, needs_signal=False
        )
        sound = [*sound, *sound_too]
        for group, _ in sound_too:
            del refused[group.layer]
        refused |= still | not_exact
    found.groups = _in_order((group for group, _ in sound), task.net)
    found.left_whole |= refused


def _likely(
    task: Task,
    heads: dict[str, list[Group]],
    images: Tensor | None,
    left_whole: dict[str, str],
) -> list[Group]:
    """Choose the guess that fits each class of attention, by the first layer of the class."""
    verdicts: dict[type[nn.Module], list[str | None]] = {}
    chosen = []
    for name, layouts in heads.items():
        kind = type(task.net.get_submodule(name))
        if kind not in verdicts:
            verdicts[kind] = [probe(task, _probing([layout]), images) for layout in layouts]
        if None in verdicts[kind]:
            chosen.append(layouts[min(verdicts[kind].index(None), len(layouts) - 1)])
        else:
            left_whole[name] = f"its heads are not told apart: {verdicts[kind][0]}"
    return chosen


def _probing(groups: Sequence[Group]) -> list[tuple[Group, list[int]]]:
    generator = random.Random(0)
    plan = []
    for group in groups:
        last = group.num_units - 1
        count = min(max(3, round(PROBED_SHARE * group.num_units)), last)
        # Without the first and the last, and more of the first half than of the second, what takes
        # channels by their places takes others.
        chosen = {0, last} if count > 1 else {0}
        others = range(1, max(group.num_units // 2, 2))
        chosen.update(generator.sample(others, min(count - len(chosen), len(others))))
        plan.append((group, sorted(chosen)))
    return plan


def without_layers(groups: Groups, refused: Mapping[str, str]) -> Groups:
    """Return the groups without those named, whose reasons join those of the layers left whole.

    A group whose residual branch may go with it stays at first, without its branch: what was
    refused may have been to remove all of its units.
    """
    branched = {g.layer for g in groups.groups if g.branch is not None and g.layer in refused}
    rest = [
        replace(group, branch=None) if group.layer in branched else group
        for group in groups.groups
        if group.layer in branched or group.layer not in refused
    ]
    whole = {layer: reason for layer, reason in refused.items() if layer not in branched}
    stays = {layer: refused[layer] for layer in branched}
    return replace(
        groups,
        groups=rest,
        left_whole=groups.left_whole | whole,
        branches_left=groups.branches_left | stays,
    )
