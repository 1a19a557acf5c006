"""The placement of a pruned network's tensors in wider ones: old, fresh and zero entries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from regrow.errors import BadInput
from regrow.models.masks import mask_weights_, masks_of, unmask_
from regrow.models.record import structure
from regrow.models.task import Task
from regrow.prune.channels.optimizer_state import Places, lost_places
from regrow.prune.channels.records import (
    TRANSPOSED_TYPES,
    WEIGHTED_TYPES,
    Member,
    Plan,
    members_of,
    named_tensor,
)
from regrow.prune.channels.surgery import clone, cut_


@dataclass(frozen=True, slots=True)
class Placement:
    """The placement of a narrow network's tensors in a wide one with fresh weights elsewhere.

    Args:
        narrow: A network of the narrow shapes.
        wide: A fresh network of the wide shapes.
        old: For each tensor that grows, by name and dimension, the places of what was there.
        reading: The dimensions of each tensor along which it reads channels.
        groups: The groups that grow, in the wide network, with their new units.
        kept_out: The groups that do not, in the dense network.
    """

    narrow: nn.Module
    wide: nn.Module
    old: Places
    reading: dict[str, set[int]]
    groups: Plan
    kept_out: Plan

    @classmethod
    def between(cls, task: Task, full: Task, plan: Plan, kept_out: Plan) -> "Placement":
        """Find where a pruned network lies in the dense one, but for what does not come back.

        Args:
            task: The pruned network.
            full: The dense one.
            plan: What to cut from the dense one for the shapes of the pruned one.
            kept_out: The part of it that does not come back.
        """
        narrow, wide = clone(full), clone(full)
        cut_(narrow, plan)
        _refuse_other_shapes(task.net, narrow.net)
        removed = cut_(wide, kept_out)
        fresh = structure.fresh_twin(wide.net, full.net)
        gone, stays_gone = lost_places(full.net, plan), lost_places(full.net, kept_out)
        old: Places = {}
        for name, by_dim in gone.items():
            owner, attribute = named_tensor(full.net, name)
            shape = getattr(owner, attribute).shape
            for dim, lost in by_dim.items():
                absent = set(stays_gone.get(name, {}).get(dim, ()))
                present = [place for place in range(shape[dim]) if place not in absent]
                kept = set(range(shape[dim])) - set(lost)
                places = [index for index, place in enumerate(present) if place in kept]
                if len(places) < len(present):
                    old.setdefault(name, {})[dim] = places
        growing = [(g.after(removed), units) for g, units in plan if not g.is_normed]
        return cls(narrow.net, fresh, old, _reading(full.net, plan), growing, kept_out)

    @property
    def new(self) -> dict[str, dict[int, list[int]]]:
        """Return the new places of each tensor that grows, by name and dimension."""
        tensors = dict(self.wide.named_parameters()) | dict(self.wide.named_buffers())
        return {
            name: {
                dim: sorted(set(range(tensors[name].shape[dim])) - set(places))
                for dim, places in by_dim.items()
            }
            for name, by_dim in self.old.items()
        }

    @torch.no_grad()
    def fill_(self, task: Task) -> None:
        """Widen a network of the narrow shapes."""
        masks = masks_of(task.net)
        unmask_(task.net)
        shapes = {name: parameter.shape for name, parameter in task.net.named_parameters()}
        changed = structure.record(self.narrow, self.wide)
        for name in changed["converted"]:
            task.net.get_submodule(name).__class__ = type(self.wide.get_submodule(name))
        for name, attributes in changed["attributes"].items():
            for key in attributes:
                value = getattr(self.wide.get_submodule(name), key)
                setattr(task.net.get_submodule(name), key, value)
        for name in self.old:
            owner, key = named_tensor(task.net, name)
            before, (wide, _) = getattr(owner, key), named_tensor(self.wide, name)
            after = self.joined(name, before, getattr(wide, key).to(before))
            if isinstance(before, nn.Parameter):
                after = nn.Parameter(after, requires_grad=before.requires_grad)
            setattr(owner, key, after)
        grown = {n: torch.ones_like(task.net.get_parameter(n), dtype=torch.bool) for n in masks}
        mask_weights_(task.net, {n: self.placed(n, masks[n], grown[n]) for n in masks})
        task.momenta = {n: self.momentum(n, s, shapes[n]) for n, s in task.momenta.items()}
        # Moving nothing anywhere makes modules drop what they keep of their weights.
        task.net._apply(lambda tensor: tensor)

    def joined(self, name: str, before: Tensor, fresh: Tensor) -> Tensor:
        """Return a grown tensor: old and fresh entries, and zeros where old units read new ones."""
        readers = self.reading.get(name, set())
        rows = {d: places for d, places in self.old[name].items() if d not in readers}
        if readers:
            fresh = fresh.clone()
            fresh[_grid(fresh, rows)] = 0
        return self.placed(name, before, fresh)

    def placed(self, name: str, before: Tensor, into: Tensor) -> Tensor:
        """Return a tensor of the wide shape, with the old entries put where they lie."""
        result = into.clone()
        result[_grid(result, self.old.get(name, {}))] = before
        return result

    def momentum(self, name: str, state: Mapping[str, Any], shape: torch.Size) -> dict[str, Any]:
        """Return the optimizer's state for a weight, with zeros for what is new.

        As in a cut, nothing says how tensors of another shape would follow; such a weight begins
        anew.
        """
        if name not in self.old:
            return dict(state)
        tensors = [t for t in tree_leaves(dict(state)) if isinstance(t, Tensor) and t.ndim]
        if any(tensor.shape != shape for tensor in tensors):
            return {}
        size = self.wide.get_parameter(name).shape
        placed: dict[str, Any] = tree_map_only(
            Tensor,
            lambda t: self.placed(name, t, t.new_zeros(size)) if t.ndim else t,
            dict(state),
        )
        return placed


def read_by(net: nn.Module, member: Member) -> tuple[str, int] | None:
    """Return the tensor that reads the channels of one side of a layer, and its dimension for them.

    Returns:
        The tensor's name and its dimension; None where channels are made or kept, not read.
    """
    if member.is_count or member.side == "out":
        return None
    if member.dim is not None:
        owner, attribute = named_tensor(net, member.layer)
        tensor: Tensor = getattr(owner, attribute)
        # With one entry a channel it scales or shifts, which makes the channel. So do embeddings
        # that are fixed, where zeros would never become anything else.
        is_fixed = not isinstance(tensor, nn.Parameter)
        is_read = not is_fixed and tensor.numel() > tensor.shape[member.dim]
        return (member.layer, member.dim) if is_read else None
    module = net.get_submodule(member.layer)
    if not isinstance(module, WEIGHTED_TYPES):
        return None
    return f"{member.layer}.weight", 0 if isinstance(module, TRANSPOSED_TYPES) else 1


def _reading(net: nn.Module, plan: Plan) -> dict[str, set[int]]:
    """Return the dimensions of tensors along which layers read the channels of a plan."""
    found: dict[str, set[int]] = {}
    for member, _ in members_of(plan):
        reads = read_by(net, member)
        if reads is not None:
            found.setdefault(reads[0], set()).add(reads[1])
    return found


def _grid(tensor: Tensor, places: Mapping[int, Sequence[int]]) -> tuple[Tensor, ...]:
    """Return an index of some places of some dimensions, and all of the others."""
    index = []
    for dim, size in enumerate(tensor.shape):
        chosen = torch.tensor(places.get(dim, range(size)), device=tensor.device)
        index.append(chosen.view([-1 if axis == dim else 1 for axis in range(tensor.ndim)]))
    return tuple(index)


def _refuse_other_shapes(net: nn.Module, narrow: nn.Module) -> None:
    shapes = {name: parameter.shape for name, parameter in narrow.named_parameters()}
    for name, parameter in net.named_parameters():
        if parameter.shape != shapes[name]:
            raise BadInput(
                f"{type(net).__name__} cannot be widened: {name} has the shape "
                f"{tuple(parameter.shape)}, which no cut of coupled channels leaves; train it as "
                "narrow as it is"
            )
