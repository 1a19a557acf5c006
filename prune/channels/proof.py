"""The proof that a cut is exact: a cut network compared with the masked one, layer by layer.

Equal outputs prove nothing where they cannot differ: where they are clipped, where no image brings
anything to what was cut, on ways that no image takes. So every layer is compared besides the
outputs, in both modes, on images of several kinds, on each way that the network can be led along;
and what reads cut channels must have read different values from them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from regrow.models.modes import double_precision
from regrow.models.task import Task
from regrow.prune.channels.layer_calls import ROUNDING, Run, moved, run_watched
from regrow.prune.channels.records import WEIGHTED_TYPES, Branch, Plan, Removed, removal, width
from regrow.prune.channels.sights import sights
from regrow.prune.channels.ways import Guide, Site, Way, led, reraise, ways
from regrow.prune.depth.skipping import emptied, is_lost_with

# Two float64 networks that do the same differ by rounding alone.
TOLERANCE = 1e-9
# Batch norms that train divide by deviations of a few values, which makes more of rounding.
TRAINING_TOLERANCE = 1e-6
# How it is told that a comparison could not have seen anything.
SILENT = "no image of the proof brings different values to "


@dataclass(slots=True)
class Findings:
    """The outcome of a comparison of two networks.

    Args:
        error: The largest difference of a raw output over the largest value of that output, in
            evaluation mode; infinite where one is not finite, or the shapes differ.
        reason: Why the networks are not proved to be the same; None if they are.
    """

    error: float = 0.0
    reason: str | None = None


def compare(
    masked: Task,
    cut: Task,
    plan: Plan,
    images: Tensor | None = None,
    *,
    needs_signal: bool = True,
) -> Findings:
    """Compare a masked network with the cut one, in both modes, in float64.

    Args:
        masked: The network in float64 whose chosen channels are zero; it is given up for this.
        cut: The same without these channels; it is given up too.
        plan: Groups of the network before with the units that are gone.
        images: Real images to compare on besides those made up, uint8 (b, 3, h, w).
        needs_signal: Whether a group is refused where nothing that differs from channel to channel
            reaches what reads it. A trained network may have layers that are dead.
    """
    pair = _Pair(masked, cut, removal(plan), emptied(plan), explains=len(plan) == 1)
    batches = sights(masked, images)
    with double_precision(), _Signal(cut.net, plan, pair.removed) as signal, torch.no_grad():
        for is_training in (False, True):
            pair.train_(is_training)
            # Batch norms take statistics over images; a mixed batch has some of all kinds.
            mixed = [torch.cat([batch[:1] for batch in batches])]
            pair.compare_(mixed if is_training else batches)
            if pair.found.reason is not None:
                return pair.found
    pair.found.reason = signal.missing() if needs_signal else None
    return pair.found


def outputs_differ(masked: Task, cut: Task, images: Tensor | None = None) -> float:
    """Compute the largest difference of raw outputs over the largest value of that output.

    Args:
        masked: A network.
        cut: Another one.
        images: Images to compare on besides those made up, uint8 (b, 3, h, w).

    Returns:
        The difference; infinite if one of them is not finite or the shapes differ.
    """
    # The cut one first: where it fails, it does so at once.
    return max(_difference(cut(batch), masked(batch)) for batch in reversed(sights(masked, images)))


@dataclass(slots=True)
class _Pair:
    """A masked network, the cut one, and how they compare so far.

    Args:
        masked: The masked one.
        cut: The cut one.
        removed: The channels that it lacks.
        lost: The branches that it lacks.
        explains: Whether to find out which of them is at fault.
        found: The outcome so far.
    """

    masked: Task
    cut: Task
    removed: Removed
    lost: list[Branch]
    explains: bool
    found: Findings = field(default_factory=Findings)

    def train_(self, is_training: bool) -> None:
        """Put both into training or evaluation mode, but for the branches that one of them lacks.

        What came in their place is what they give in evaluation mode.
        """
        self.masked.net.train(is_training)
        self.cut.net.train(is_training)
        blocks = {branch.block for branch in self.lost}
        for name, module in self.masked.net.named_modules():
            if name in blocks or is_lost_with(name, self.lost):
                module.training = False

    def compare_(self, batches: list[Tensor]) -> None:
        """Compare on batches, and on the ways that none of them leads the networks along."""
        asked: dict[Site, list[Any]] = {}
        for batch in batches:
            guide = self._compare_on(batch, {})
            if guide is None:
                return
            asked = {**guide.asked, **asked}
        for way, _ in ways(self.masked, batches[0], asked):
            if self._compare_on(batches[0], way) is None:
                places = ", ".join(f"{Path(site[0]).name}:{site[1]}" for site in way)
                self.found.reason = (
                    f"{self.found.reason} (on images for which {places} decides otherwise)"
                )
                return

    def _compare_on(self, batch: Tensor, way: Way) -> Guide | None:
        """Compare on a batch, on one way; None if there is a reason against the cut."""
        try:
            after = run_watched(self.cut, batch, way, {}, None)
        # Whatever a network raises when it is cut, it cannot be cut there.
        except Exception as problem:
            reraise(problem)
            self.found.error = float("inf")
            self.found.reason = (
                self._fault(batch, way) or f"cutting it fails: {first_line(problem)}"
            )
            return None
        try:
            before = run_watched(self.masked, batch, way, self.removed, after.calls, self.lost)
        except Exception as problem:
            reraise(problem)
            self.found.reason = f"the network fails with channels at zero: {first_line(problem)}"
            return None
        self.found.reason = self._differ(before, after)
        return before.guide if self.found.reason is None else None

    def _fault(self, batch: Tensor, way: Way) -> str | None:
        """Return how the masked network fails on its own, if it does."""
        try:
            if self.explains:
                led(self.masked, batch, way)
        except Exception as problem:
            reraise(problem)
            mode = "training" if self.masked.net.training else "evaluation"
            return (
                f"the network itself fails in {mode} mode on the images of the proof, in float64: "
                f"{first_line(problem)}"
            )
        return None

    def _differ(self, before: Run, after: Run) -> str | None:
        is_training = self.masked.net.training
        tolerance = TRAINING_TOLERANCE if is_training else TOLERANCE
        wrong = "cutting it is not exact" + (" in training mode" if is_training else "")
        error = _difference(after.outputs, before.outputs)
        if not is_training:
            self.found.error = max(self.found.error, error)
        if not error <= tolerance:
            return f"{wrong}: the output moves by {error:.1e} of its largest value"
        for one, other in zip(before.calls, after.calls, strict=False):
            if not moved(one, other) <= tolerance:
                return (
                    f"{wrong}: what {one.layer} gives changes, though the outputs may not show it"
                )
        if len(before.calls) != len(after.calls):
            return f"{wrong}: the network runs other layers then"
        return None


class _Signal:
    """Checks that the readers of each group are given values that tell its channels apart.

    Args:
        net: The cut network.
        plan: Groups of the network before with the units that are gone.
        removed: The channels that are gone.
    """

    def __init__(self, net: nn.Module, plan: Plan, removed: Removed) -> None:
        self.silent: dict[tuple[str, str], bool] = {}
        self.handles = []
        for group, units in plan:
            if len(units) == group.num_units:
                continue  # nothing is left that could be told apart
            after = group.after(removed, units)
            for member in after.members:
                if is_lost_with(member.layer, emptied(plan)):
                    continue
                is_bare = member.is_count or member.dim is not None or member.side == "out"
                layer = None if is_bare else net.get_submodule(member.layer)
                left = member.channels(range(after.num_units))
                if isinstance(layer, WEIGHTED_TYPES) and left:
                    hook = self._hook((group.layer, member.layer), layer, torch.tensor(left))
                    self.handles.append(layer.register_forward_pre_hook(hook))

    def __enter__(self) -> "_Signal":
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def missing(self) -> str | None:
        """Return which layer has read nothing that tells channels apart; None if there is none."""
        for (_, reader), is_silent in self.silent.items():
            if is_silent:
                return (
                    f"{SILENT}{reader}, which reads it, so that nothing would show if it was cut "
                    "in a wrong place"
                )
        return None

    def _hook(
        self, key: tuple[str, str], layer: nn.Module, channels: Tensor
    ) -> Callable[..., None]:
        dim = -1 if isinstance(layer, nn.Linear) else 1

        def look(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            if not inputs or self.silent.get(key) is False:
                return
            with torch.utils._python_dispatch._disable_current_modes():
                x = inputs[0]
                if x.shape[dim] != width(layer, "in"):
                    return  # it fails, and says so
                seen = x.index_select(dim, channels.to(x.device))
                spread = seen.amax(dim) - seen.amin(dim) if len(channels) > 1 else seen
                least = ROUNDING * float(seen.abs().max())
                self.silent[key] = not float(spread.abs().max()) > least

        return look


def _difference(after: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> float:
    worst = 0.0
    for name, expected in before.items():
        got = after.get(name)
        if got is None or got.shape != expected.shape:
            return float("inf")
        if not expected.is_floating_point() or not expected.numel():
            continue
        error = float((got - expected).abs().max() / expected.abs().max().clamp_min(1e-300))
        if not error < float("inf"):
            return float("inf")
        worst = max(worst, error)
    return worst


def first_line(problem: Exception) -> str:
    """Return the first line of what an exception says; its type where it says nothing."""
    first = str(problem).strip().splitlines()
    return first[0] if first else type(problem).__name__
