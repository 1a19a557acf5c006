"""Selection: the choice of units to remove, so that the cost ends just under its ceiling."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

from torch import Tensor

from regrow.errors import BadInput
from regrow.models.task import Task
from regrow.prune.channels.records import Group, Plan
from regrow.prune.channels.surgery import clone, cut_
from regrow.prune.cost_model import CostModel, Costs, costs_of, time_left
from regrow.prune.criteria import Normalizer
from regrow.prune.memory import is_out_of_memory
from regrow.prune.naming.named_layers import largest_share
from regrow.prune.schedule import alignment, counts_of, first_length, legal_count, removal_order


@dataclass(frozen=True)  # slots would hide its defaults from the command line
class Selection:
    """The choice of units: which may be removed, and in what order.

    Args:
        scope: The range of the ranking: `global` removes the lowest scores of the whole network,
            `local` the same share of every layer.
        per: The normalisation of scores before ranking: `unit` not at all, `macs` by the MACs that
            removing the unit saves, `latency` by the time that it saves, of which each layer has
            the share that was measured in PyTorch.
        normalizer: The normalizer of scores before a global ranking: `mean` divides each layer's
            by their mean, so that layers of any scale compare; `none` ranks the raw scores, as
            where they are estimates of the loss, such as Taylor's.
        round_to: Width alignment: widths stay multiples of this, of less in layers that are
            narrower than four times this; 1 does not align. Rounding never removes more than asked
            for. 16 channels are a block of ONNX Runtime's convolutions with AVX-512, twice one with
            AVX2 or NEON.
        max_share: The largest share of a layer's channels that may go, in (0, 1).
        inexact: Without effect: channels that layer norms take statistics over are removed exactly.
            Configs of earlier versions may give it.
        branches: Also remove whole residual branches, by the ranking or a search like channels: a
            branch goes when all channels do that its last layer reads, beyond `max_share`.
        keep: Layers whose channels all stay, by names or patterns such as `layer1.*`; the name of a
            module stands for all layers in it. Layers that are coupled with them stay too.
        only: Layers that may lose channels, by names or patterns; null is all.
        limit: The largest share of channels that may go, by name or pattern of layers, in place of
            `max_share`, in (0, 1).
    """

    scope: Literal["global", "local"] = "global"
    per: Literal["unit", "macs", "latency"] = "unit"
    normalizer: Normalizer = "mean"
    round_to: int = 16
    max_share: float = 0.8
    inexact: bool = False
    branches: bool = False
    keep: list[str] | None = None
    only: list[str] | None = None
    limit: dict[str, float] | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.round_to < 1:
            raise BadInput(f"selection.round_to is {self.round_to}, it must be at least 1")
        if not 0 < self.max_share < 1:
            raise BadInput(f"selection.max_share is {self.max_share}, it must lie in (0, 1)")
        for pattern, share in (self.limit or {}).items():
            if not 0 < share < 1:
                raise BadInput(
                    f"selection.limit of {pattern!r} is {share}, it must lie in (0, 1); "
                    "selection.keep keeps layers whole"
                )
        if self.scope == "local" and self.per != "unit":
            raise BadInput(
                f"selection.per {self.per} has no say where selection.scope is local: every layer "
                "loses the same share; set one of them to its default"
            )


def lowest(
    groups: Sequence[Group], scores: Sequence[Tensor], share: float, *, round_to: int = 1
) -> list[tuple[Group, list[int]]]:
    """Return the plan that removes the lowest-scored units of each group, the same share of all.

    Args:
        groups: Groups of a network.
        scores: For each group one score a unit, (units,).
        share: The share of the units that goes, in [0, 1), rounded down.
        round_to: Widths that are left are multiples of this, of less in narrow layers.

    Raises:
        BadInput: If the share is out of range.

    Examples:
        >>> from torch import nn
        >>> from regrow.prune import Magnitude, as_task, find_groups, lowest, score_groups
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2))
        >>> dead = nn.init.zeros_(net[0].weight[3:5])
        >>> task = as_task(net, size=(8, 8))
        >>> groups = find_groups(task).groups
        >>> plan = lowest(groups, score_groups(task, groups, Magnitude()), share=0.25)
        >>> [(group.layer, units) for group, units in plan]
        [('0', [3, 4])]
    """
    if not 0 <= share < 1:
        raise BadInput(f"share is {share}, the share of units to remove must lie in [0, 1)")
    plan = []
    for group, values in zip(groups, scores, strict=True):
        align = alignment(group.width, round_to)
        asked = int(share * group.num_units + 1e-9)
        count = legal_count(asked, group.width, group.channels_per_unit, align, smallest=1)
        if count:
            plan.append((group, sorted(values.argsort(stable=True)[:count].tolist())))
    return plan


class Chooser:
    """The choice of the units of one step, by the costs that would be left.

    Costs are predicted, and the choice is measured on a trial cut; should the two ever differ, all
    costs are measured on trial cuts instead.

    Args:
        task: The network as it is, which is not changed.
        groups: Its groups.
        scores: For each group one score a unit, (units,).
        dense: The width of each group before any pruning, by the group's layer.
        selection: Which units may go.
        times: Each layer's share of the time, where latency is a target or ranks.
        now: The share of the unpruned network's latency that this one takes.

    Attributes:
        may_vanish: For each group whether all its units may go, and a residual branch with them.
    """

    def __init__(
        self,
        task: Task,
        groups: Sequence[Group],
        scores: Sequence[Tensor],
        dense: Mapping[str, int],
        selection: Selection,
        times: Mapping[str, float] | None = None,
        now: float = 1.0,
    ) -> None:
        self.task = task
        self.groups = list(groups)
        self.dense = dense
        self.selection = selection
        self.times, self.now = times, now
        self.model = CostModel(task)
        scores = [values / gain for values, gain in zip(scores, self._gains(), strict=True)]
        self.ranked = [values.argsort(stable=True).tolist() for values in scores]
        self.scores = [values.sort(stable=True).values.tolist() for values in scores]
        whole = [dense[group.layer] // group.channels_per_unit for group in self.groups]
        limit, most = selection.limit or {}, selection.max_share
        self.largest = [largest_share(group, task.net, limit, most) for group in self.groups]
        named = [largest_share(group, task.net, limit, 1.0) for group in self.groups]
        self.may_vanish = [
            selection.branches and group.branch is not None and share == 1.0
            for group, share in zip(self.groups, named, strict=True)
        ]
        self.order = removal_order(self.scores, selection.scope, whole)
        self.known: dict[tuple[int, ...], dict[str, float]] = {}
        self.costs: Callable[[Plan], dict[str, int]] = self.model.predict

    def choose(self, ceilings: Costs, *, tightly: bool = False) -> Plan | None:
        """Choose the fewest units, by their order, that bring all costs under their ceilings.

        Args:
            ceilings: The largest accepted value of each cost.
            tightly: Also give back what other layers can keep without exceeding a ceiling.

        Returns:
            The plan; None if all units that may go are too few.
        """
        counts = self._fewest(ceilings, tightly)
        plan = None if counts is None else self.plan(counts)
        wrong = plan is not None and self.costs(plan) != self._measure(plan)
        if wrong and self.costs == self.model.predict:
            self.costs, self.known = self._measure, {}
            return self.choose(ceilings, tightly=tightly)
        return plan

    def _fewest(self, ceilings: Costs, tightly: bool) -> list[int] | None:
        def is_enough(length: int) -> bool:
            return self.is_under(self._counts(length), ceilings)

        length = first_length(is_enough, len(self.order))
        if length is None:
            return None
        counts = self._counts(length)
        return self._give_back(counts, ceilings) if tightly else counts

    def least(self) -> Plan:
        """Return the plan that removes all units that may go."""
        return self.plan(self._counts(len(self.order)))

    def _gains(self) -> list[float]:
        """Compute what one unit of each group saves of the cost that scores are divided by."""
        if self.selection.per == "unit":
            return [1.0] * len(self.groups)
        per = self.selection.per
        before = self._with_latency({**self.model.dense}, [])[per]
        after = [self._with_latency(self.model.predict(p), p)[per] for p in self._single()]
        saved = [before - cost for cost in after]
        mean = sum(saved) / max(len(saved), 1)
        # A unit that saves next to nothing stays to the last.
        return [max(gain / mean, 1e-3) if mean > 0 else 1.0 for gain in saved]

    def _single(self) -> list[Plan]:
        return [[(group, [0])] for group in self.groups]

    def _counts(self, length: int) -> list[int]:
        asked = counts_of(self.order, length, len(self.groups))
        return [self.legal(index, count) for index, count in enumerate(asked)]

    def legal(self, index: int, asked: int) -> int:
        """Return the largest legal number of units to remove, not above the number asked for."""
        group = self.groups[index]
        if self.may_vanish[index] and asked >= group.num_units:
            return group.num_units
        width = self.dense[group.layer]
        align = alignment(width, self.selection.round_to)
        kept_share = 1 - self.largest[index]
        # Less the rounding of the subtraction.
        smallest = max(align, ceil(width * kept_share - 1e-9))
        return legal_count(asked, group.width, group.channels_per_unit, align, smallest)

    def _give_back(self, counts: list[int], ceilings: Costs) -> list[int]:
        # The most valuable removed channels come back first.
        values = [self.scores[i][n - 1] if n else 0.0 for i, n in enumerate(counts)]
        for index in sorted(range(len(counts)), key=lambda i: -values[i]):
            while counts[index]:
                fewer = [*counts]
                fewer[index] = self.legal(index, counts[index] - 1)
                if not self.is_under(fewer, ceilings):
                    break
                counts = fewer
        return counts

    def plan(self, counts: Sequence[int]) -> Plan:
        """Return the plan that removes a number of the lowest units of each group."""
        chosen = zip(self.groups, self.ranked, counts, strict=True)
        return [(group, sorted(ranked[:count])) for group, ranked, count in chosen if count]

    def is_under(self, counts: Sequence[int], ceilings: Costs) -> bool:
        """Whether the costs after a removal of so many units a group stay under their ceilings."""
        costs = self.costs_after(counts)
        return all(costs[name] <= ceiling for name, ceiling in ceilings.items())

    def costs_after(self, counts: Sequence[int]) -> dict[str, float]:
        """Predict the costs after a removal of so many units a group."""
        key = tuple(counts)
        if key not in self.known:
            plan = self.plan(counts)
            self.known[key] = self._with_latency(self.costs(plan), plan)
        return self.known[key]

    def _with_latency(self, costs: Mapping[str, float], plan: Plan) -> dict[str, float]:
        if self.times is None:
            return dict(costs)
        return {**costs, "latency": self.now * time_left(self.task.net, self.times, plan)}

    def _measure(self, plan: Plan) -> dict[str, int]:
        trial = clone(self.task)
        try:
            cut_(trial, plan)
            return costs_of(trial)
        # Whatever a network raises when it is cut, the plan is refused where it is proved.
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return self.model.predict(plan)
