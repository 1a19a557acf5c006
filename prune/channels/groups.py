"""Finding the channels that must be removed together, on torch-pruning's dependency graph."""

import random
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial

from timm.models.metaformer import Scale
from torch import Tensor, nn
from torch_pruning.dependency import Node
from torchvision.models import VisionTransformer
from torchvision.ops import FrozenBatchNorm2d

from regrow.errors import BadInput
from regrow.models.task import Task
from regrow.prune.channels import surgery
from regrow.prune.channels.disturbing import disturb_, rouse_
from regrow.prune.channels.fixed import guesses, unfix_
from regrow.prune.channels.heads import find_heads, reading
from regrow.prune.channels.proof import SILENT
from regrow.prune.channels.records import (
    NORM_TYPES,
    STATISTICS_TYPES,
    TRANSPOSED_TYPES,
    WEIGHTED_TYPES,
    Group,
    Groups,
    Member,
    Side,
    is_depthwise,
    num_blocks,
    width,
)
from regrow.prune.channels.tracing import (
    Effort,
    LeftWhole,
    OutOfWork,
    Pairs,
    closure,
    is_output,
    refuse_unready,
    trace_,
)
from regrow.prune.channels.ways import untried_layer
from regrow.prune.memory import enough_memory

# Share of every group that is removed to prove that it can be.
PROBED_SHARE = 0.25
# More than any network of torchvision or timm takes: some minutes.
MAX_WORK = 500_000_000
CUTTABLE_TYPES = (*WEIGHTED_TYPES, *NORM_TYPES, nn.PReLU, nn.Embedding, FrozenBatchNorm2d)
# Counts that networks keep besides the layers or parameters whose channels they count; of a tuple
# the place.
MIRRORS: dict[tuple[type[nn.Module], str], tuple[str, int | None]] = {
    (VisionTransformer, "conv_proj"): ("hidden_dim", None),
    (Scale, "scale"): ("shape", 0),
}


def find_groups(
    task: Task,
    *,
    inexact: bool = False,
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
        inexact: Whether to give the groups too that layer norms and group norms take statistics
            over. Without some of their channels these norms give something else, so that the
            proof is against norms that leave out the channels set to zero.
        images: Real images for the proof, besides those made up, uint8 (b, 3, h, w).
        max_work: Work that it may take, in pairs of channels that are followed; each layer that is
            run counts as 100.

    Returns:
        The groups, and the reason for every layer that is left whole.

    Raises:
        BadInput: If the network cannot be traced, it takes too much work, or memory runs out.
    """
    name = type(task.net).__name__
    refuse_unready(task.net)
    try:
        with enough_memory(f"prove what can be pruned from {name}"):
            return _find(task, inexact, images, Effort(max_work))
    except OutOfWork:
        raise BadInput(
            f"{name}: its channels are so coupled that finding what can be pruned takes more work "
            f"than max_work, {max_work:.3g}; give the task a smaller size, or "
            "`regrow.prune.channels.groups.find_groups` more and its groups to the engine"
        ) from None


def _find(task: Task, inexact: bool, images: Tensor | None, effort: Effort) -> Groups:
    heads = find_heads(task.net)
    makers = {f"{name}.in_proj": name for name in heads}
    for name, layouts in heads.items():
        makers |= {m.layer: name for layout in layouts for m in layout.members if m.side == "out"}
    follow = partial(_follow, task, makers=set(makers), inexact=inexact, effort=effort)
    found, traced = follow(surgery.clone(task))
    followed = {group.layer for group in found.groups}
    _prove(task, found, heads, images, effort)
    if followed & found.left_whole.keys():
        _add_with_buffers_(task, found, follow, images, effort)
    _explain_(found, task.net, makers, traced)
    return found


def _follow(
    task: Task,
    twin: Task,
    fixed: Collection[str] = (),
    *,
    makers: set[str],
    inexact: bool,
    effort: Effort,
) -> tuple[Groups, set[str]]:
    """Find the groups of channels in the graph, which nothing proves yet.

    Args:
        task: The task.
        twin: Its copy to trace, which is given up for this.
        fixed: The names of the parameters of the copy that are buffers of the task.
        makers: The layers that make heads of attention.
        inexact: As `find_groups` takes it.
        effort: The work that it may take.

    Returns:
        The groups, with reasons for layers left whole, and the names of the layers in the graph.
    """
    effort.watch_(twin.net)
    graph = trace_(twin)
    net = twin.net
    names: dict[object, str] = {module: name for name, module in net.named_modules()}
    names |= {parameter: name for name, parameter in net.named_parameters()}
    check = partial(
        _refuse_operation,
        names=names,
        protected=fixed_layers(task),
        tied=_tied(task.net),
        inexact=inexact,
    )
    found = Groups([])
    seen = set(makers)
    for name, module in net.named_modules():
        is_traced = module in graph.module2node
        if name in seen or not is_traced or not isinstance(module, WEIGHTED_TYPES):
            continue
        try:
            pairs = closure(graph, module, check, effort)
            seen |= {names[n.module] for n, side in pairs if side == "out" and n.module in names}
            found.groups.append(_group(name, pairs, names, net, fixed))
        except LeftWhole as refusal:
            found.left_whole[name] = str(refusal)
        # torch-pruning's maps from one layer's channels to another's raise what Python raises.
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError):
            found.left_whole[name] = "its channels are not followed to the layers that read them"
    return found, {name for name, layer in net.named_modules() if layer in graph.module2node}


def _add_with_buffers_(
    task: Task, found: Groups, follow: Callable, images: Tensor | None, effort: Effort
) -> None:
    """Add the groups that can be cut if buffers are cut with them, such as fixed embeddings."""
    twin = surgery.clone(task)
    fixed = unfix_(twin.net)
    try:
        more = follow(twin, fixed)[0] if fixed else Groups([])
    except BadInput:  # it writes to its buffers, which no parameter allows
        return
    proved = {(m.layer, m.side) for group in found.groups for m in group.members}
    disturbed = surgery.clone(task)
    disturb_(disturbed.net)
    effort.watch_(disturbed.net)
    likely = []
    for group in more.groups:
        sides = {(member.layer, member.side) for member in group.members}
        if sides & proved or not any(layer in fixed for layer, _ in sides):
            continue
        for guess in guesses(group, task.net, fixed):
            reason = surgery.probe(disturbed, _probing([guess]), images)
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


def fixed_layers(task: Task) -> set[str]:
    """Name the layers whose output width must stay."""
    try:
        rows = task.class_rows()
    except BadInput:  # which row is which class's matters to growth alone
        rows = []
    return {*task.output_layers(), *(entry.layer for entry in rows)}


def _explain_(found: Groups, net: nn.Module, makers: dict[str, str], traced: set[str]) -> None:
    """Give a reason for every layer that no group has."""
    covered = {member.layer for group in found.groups for member in group.members}
    for name, layer in net.named_modules():
        if isinstance(layer, WEIGHTED_TYPES) and name not in covered:
            reason = "its outputs go with those of a layer that is left whole"
            if name in makers:
                reason = f"it makes the heads of {makers[name]}, which is left whole"
            elif name not in traced:
                reason = "its weights are used outside of it, or not at all"
            found.left_whole.setdefault(name, reason)


def _refuse_operation(
    node: Node,
    side: Side,
    *,
    names: dict[object, str],
    protected: set[str],
    tied: set[str],
    inexact: bool,
) -> None:
    """Raise for what must not lose channels, or is not understood."""
    module, name = node.module, names.get(node.module)
    if is_output(node, side) or (side == "out" and name in protected):
        raise LeftWhole(f"its channels are outputs of {name or 'the network'} and must stay")
    if name in tied:
        raise LeftWhole(f"{name} shares its weights with another layer")
    is_cut = inexact and isinstance(module, nn.Module) and width(module, side) is not None
    if isinstance(module, STATISTICS_TYPES) and not is_cut:
        raise LeftWhole(f"{name} takes statistics over its channels ({type(module).__name__})")
    if name is None:
        _refuse_function(node.grad_fn, inexact)
    elif isinstance(module, nn.Parameter):
        return
    elif not isinstance(module, (*CUTTABLE_TYPES, *STATISTICS_TYPES)):
        raise LeftWhole(f"{name} is a {type(module).__name__}, which is not cut")
    else:
        _refuse_layer(module, name)


def _refuse_function(grad_fn: object, inexact: bool) -> None:
    operation = getattr(grad_fn, "name", str)()
    # Padding beyond height and width pads the channels, unless these come last, as in Swin.
    is_padded = any(getattr(grad_fn, "_saved_pad", ())[4:]) and not inexact
    if operation.startswith("ConstantPad") and is_padded:
        raise LeftWhole("its channels are padded with zeros, as in an option A shortcut")
    if "Shuffle" in operation:
        raise LeftWhole(f"its channels are reordered ({operation.rstrip('0123456789')})")


def _refuse_layer(module: nn.Module, name: str) -> None:
    if num_blocks(module) > 1 and isinstance(module, TRANSPOSED_TYPES):
        raise LeftWhole(f"{name} is a transposed convolution in groups")
    is_tracking = getattr(module, "track_running_stats", False)
    if isinstance(module, nn.modules.instancenorm._InstanceNorm) and is_tracking:
        raise LeftWhole(f"{name} is an instance norm with running statistics")
    # torch-pruning takes a convolution for depthwise by its outputs alone.
    looks_depthwise = getattr(module, "groups", 1) == getattr(module, "out_channels", 0) > 1
    if looks_depthwise and not is_depthwise(module):
        raise LeftWhole(f"{name} is a convolution in as many groups as outputs, not inputs")


def _group(
    root: str, pairs: Pairs, names: dict[object, str], net: nn.Module, fixed: Collection[str]
) -> Group:
    """Make the record of a group from the channels that each layer sees."""
    cut = {
        (names[node.module], side): (node, channels)
        for (node, side), channels in pairs.items()
        if node.module in names
        and isinstance(node.module, (nn.Parameter, *CUTTABLE_TYPES, *STATISTICS_TYPES))
        # Bare parameters and PReLU may have one entry for all channels.
        and (size := _size(node, side)) is not None
        # A buffer that has not these channels, such as a filter or a mask of places, stays.
        and not (names[node.module] in fixed and any(c.idx >= size for c in channels))
    }
    units = _units(cut)
    if len(set(units.values())) < 2:
        raise LeftWhole("its channels can only be removed all at once")
    numbers = {unit: number for number, unit in enumerate(sorted(set(units.values())))}
    members: list[Member] = []
    for (name, side), (node, channels) in cut.items():
        by_unit: list[set[int]] = [set() for _ in numbers]
        for channel in channels:
            by_unit[numbers[units[channel.root_idx]]].add(channel.idx)
        _refuse_uneven(name, node, side, by_unit)
        members += _members(name, side, node, net, tuple(tuple(sorted(unit)) for unit in by_unit))
    members.sort(key=lambda member: (member.layer, member.side) != (root, "out"))
    is_inexact = any(
        isinstance(node.module, nn.LayerNorm) or getattr(node.module, "num_groups", 0) == 1
        for node, _ in cut.values()
    )
    return Group(root, tuple(members), is_inexact)


def _members(
    name: str, side: Side, node: Node, net: nn.Module, units: tuple[tuple[int, ...], ...]
) -> list[Member]:
    """Make the records of one side of one layer, and of the counts that follow it."""
    module = node.module
    # What is not called may well be a reader, whose inputs nobody sees.
    members = [Member(name, side, units)]
    if isinstance(module, nn.Parameter):
        members = [Member(name, "in", units, node.pruning_dim)]
    unseen = reading(name, net)
    if unseen:
        members = [Member(unseen, "in", units, 1)]
    if _norm_groups(module) > 1:
        size = module.num_channels // module.num_groups
        groups = tuple(tuple(sorted({channel // size for channel in unit})) for unit in units)
        members.append(Member(f"{name}.num_groups", "out", groups, is_count=True))
    owner, _, own = name.rpartition(".")
    attribute, place = MIRRORS.get((type(net.get_submodule(owner)), own), (None, None))
    if attribute and (side == "out" or isinstance(module, nn.Parameter)):
        counted = f"{owner}.{attribute}" if owner else attribute
        members.append(Member(counted, "out", units, place, is_count=True))
    return members


def _norm_groups(module: object) -> int:
    return module.num_groups if isinstance(module, nn.GroupNorm) else 1


def _size(node: Node, side: Side) -> int | None:
    if isinstance(node.module, nn.Parameter):
        return node.module.shape[node.pruning_dim]
    return width(node.module, side)


def _units(cut: dict) -> dict[int, int]:
    """Join the root's channels that meet in one place; give each the first of its unit."""
    first: dict[int, int] = {}

    def find(channel: int) -> int:
        while first.setdefault(channel, channel) != channel:
            channel = first[channel]
        return channel

    for (_, side), (node, channels) in cut.items():
        blocks = num_blocks(node.module) if isinstance(node.module, nn.Module) else 1
        # A grouped convolution loses one channel of every block at once.
        size = (_size(node, side) or 0) // blocks
        # A group norm loses its groups whole, so that the statistics of the others stay.
        run = size // _norm_groups(node.module) if _norm_groups(node.module) > 1 else 1
        places: dict[int, int] = {}
        for channel in channels:
            place = channel.idx % size if blocks > 1 else channel.idx // run
            one, other = find(channel.root_idx), find(places.setdefault(place, channel.root_idx))
            first[max(one, other)] = min(one, other)
    return {channel: find(channel) for channel in list(first)}


def _refuse_uneven(name: str, node: Node, side: Side, by_unit: list[set[int]]) -> None:
    size = _size(node, side) or 0
    blocks = num_blocks(node.module) if isinstance(node.module, nn.Module) else 1
    is_even = len({len(unit) for unit in by_unit if unit}) == 1
    if not is_even or max(map(max, filter(None, by_unit))) >= size:
        raise LeftWhole(f"{name} reads its channels unevenly, after a reshape or a slice")
    for unit in by_unit if blocks > 1 else ():
        if len(unit) != len({channel % (size // blocks) for channel in unit}) * blocks:
            raise LeftWhole(f"{name} is a grouped convolution that sees part of its channels")


def _tied(net: nn.Module) -> set[str]:
    """Name the layers and parameters that share a tensor with others."""
    owners: dict[Tensor, set[str]] = defaultdict(set)
    for name, module in net.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            owners[parameter] |= {name, f"{name}.{own}" if name else own}
    return {name for names in owners.values() if len(names) > 2 for name in names}


def _prove(
    task: Task,
    found: Groups,
    heads: dict[str, list[Group]],
    images: Tensor | None,
    effort: Effort,
    proved: Sequence[Group] = (),
) -> None:
    """Keep what can be cut as it should, and say of the rest that it is left whole.

    Args:
        task: The task.
        found: The groups in question; it is changed.
        heads: Guesses of the heads of each attention layer, in question too.
        images: As `find_groups` takes them.
        effort: The work that it may take.
        proved: Groups that can be cut, together with which the others must be.
    """
    disturbed = surgery.clone(task)
    disturb_(disturbed.net)
    effort.watch_(disturbed.net)
    untried = untried_layer(surgery.clone(disturbed), images)
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
    sound, refused = surgery.sift(disturbed, _probing(candidates), before, images=images)
    # One unit alone fits many a place that two do not, by broadcasting.
    lone = [g for g, units in sound if g.num_units - len(units) == 1 and g.num_units > 2]
    if lone:
        rest = [(group, units) for group, units in sound if group not in lone]
        pairs = [(group, list(range(group.num_units - 2))) for group in lone]
        kept, others = surgery.sift(disturbed, pairs, [*before, *rest], images=images)
        sound, refused = [*rest, *kept], refused | others
    silent = [group for group in candidates if refused.get(group.layer, "").startswith(SILENT)]
    if silent:
        # What is dead in this network is proved where nothing is.
        roused = surgery.clone(disturbed)
        rouse_(roused.net)
        awake, still = surgery.sift(roused, _probing(silent), images=images)
        sound_too, not_exact = surgery.sift(
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
            verdicts[kind] = [surgery.probe(task, _probing([layout]), images) for layout in layouts]
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


def without_layers(groups: Groups, refused: dict[str, str]) -> Groups:
    """Give the groups less those named, whose reasons join those of the layers left whole."""
    rest = [group for group in groups.groups if group.layer not in refused]
    return Groups(rest, groups.left_whole | refused)
