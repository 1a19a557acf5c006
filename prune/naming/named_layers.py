"""Layers that users name: kept whole, the only ones pruned, or pruned to a limit."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from torch import nn

from regrow.errors import BadInput
from regrow.prune.channels.records import WEIGHTED_TYPES, Group, Groups

MAX_NEAR = 3  # names that an error offers


def is_named(layer: str, pattern: str) -> bool:
    """Whether a pattern matches the name of a layer, or of a module that holds it.

    Args:
        layer: The name of the layer inside the network.
        pattern: A name, or a pattern with `*`, `?` and `[...]` as of file names; `*` matches dots.
    """
    parts = layer.split(".")
    names = (".".join(parts[: count + 1]) for count in range(len(parts)))
    return any(fnmatchcase(name, pattern) for name in names)


def layers_of(group: Group, net: nn.Module) -> list[str]:
    """Return the layers whose outputs a group removes: convolutions, linear layers, attention."""
    modules = dict(net.named_modules())
    sides = [member.layer for member in group.members if member.side == "out"]
    weighted = [name for name in sides if isinstance(modules.get(name), WEIGHTED_TYPES)]
    return list(dict.fromkeys(weighted)) or [group.layer]


def keep_named(
    found: Groups,
    net: nn.Module,
    keep: Sequence[str] | None = None,
    only: Sequence[str] | None = None,
) -> Groups:
    """Return the groups that may still go when users have named layers, and what is left whole.

    Layers that are coupled with one that stays must stay too, which their reasons say.

    Args:
        found: The groups of the network, and what is left whole already.
        net: The network.
        keep: Names or patterns of layers whose outputs all stay; None is none.
        only: Names or patterns of the layers that may lose outputs; None is all.
    """
    if keep is None and only is None:
        return found
    groups: list[Group] = []
    kept: dict[str, str] = {}
    for group in found.groups:
        why = _why_kept(group, net, keep or (), only)
        if why is None:
            groups.append(group)
            continue
        cause, said, pattern = why
        kept[cause] = f"{said} it" if pattern in (None, cause) else f"{said} it by {pattern!r}"
        for layer in (group.layer, *layers_of(group, net)):
            kept.setdefault(layer, f"its channels go with those of {cause}, which {said}")
    pruned = {layer for group in groups for layer in layers_of(group, net)}
    whole = {layer: reason for layer, reason in kept.items() if layer not in pruned}
    return replace(found, groups=groups, left_whole=found.left_whole | whole)


def _why_kept(
    group: Group, net: nn.Module, keep: Sequence[str], only: Sequence[str] | None
) -> tuple[str, str, str | None] | None:
    """Return the layer that keeps a group, the option that says so, and the pattern, if any."""
    layers = layers_of(group, net)
    # Norms and attention may be named too.
    others = [group.layer, *(member.layer for member in group.members if member.side == "out")]
    for layer in dict.fromkeys([*layers, *others]):
        pattern = next((pattern for pattern in keep if is_named(layer, pattern)), None)
        if pattern is not None:
            return layer, "selection.keep names", pattern
    for layer in layers:
        if only is not None and not any(is_named(layer, pattern) for pattern in only):
            return layer, "selection.only does not name", None
    return None


def largest_share(
    group: Group, net: nn.Module, limit: Mapping[str, float], max_share: float
) -> float:
    """Return the largest share of a group that may go: the smallest of its layers'.

    Args:
        group: The group.
        net: The network.
        limit: The largest share of the layers that a name or pattern matches; the smallest counts
            where several do.
        max_share: The largest share of all other layers.
    """
    shares = [
        min((share for name, share in limit.items() if is_named(layer, name)), default=max_share)
        for layer in layers_of(group, net)
    ]
    return min(shares)


def refuse_unmatched(
    option: str, patterns: Iterable[str], net: nn.Module, groups: Iterable[Group]
) -> None:
    """Refuse names and patterns that match no layer of a network.

    Args:
        option: The option that holds them.
        patterns: The names and patterns.
        net: The network.
        groups: Its groups, some of which are named after what is no module.

    Raises:
        BadInput: Naming the first that matches none, and layers of nearly that name.
    """
    own = [name for name, part in net.named_modules() if name and list(part.parameters(False))]
    layers = dict.fromkeys([*own, *(member.layer for g in groups for member in g.members)])
    for pattern in patterns:
        if not any(is_named(layer, pattern) for layer in layers):
            known = [name for name, part in net.named_modules() if name and list(part.parameters())]
            near = difflib.get_close_matches(pattern, known, MAX_NEAR)
            told = f"did you mean {', '.join(near)}?" if near else f"it has {_some(list(layers))}"
            raise BadInput(
                f"{option}: {pattern!r} matches no layer of {type(net).__name__}; {told}"
            )


def _some(names: Sequence[str]) -> str:
    more = len(names) - MAX_NEAR
    return ", ".join(names[:MAX_NEAR]) + (f" and {more} more" if more > 0 else "")
