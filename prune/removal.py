"""Removal of channels: what may go, and one step of it: score, choose, cut, prove."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from torch import Tensor

from regrow.errors import BadInput
from regrow.logs import log
from regrow.models.latency import Latency
from regrow.models.onnx.command_clock import ClockFailed
from regrow.models.optimization import Optimization
from regrow.models.task import Task
from regrow.prune.channels.exactness import cut_exactly_, telling_images
from regrow.prune.channels.groups import find_groups, without_layers
from regrow.prune.channels.records import Groups, Plan, Removed
from regrow.prune.channels.surgery import clone, cut_
from regrow.prune.compensation.compensate import Compensated, Compensation, compensate_
from regrow.prune.compensation.settling import settle_norms_
from regrow.prune.contributions import Batches
from regrow.prune.cost_model import costs_of, layer_times
from regrow.prune.criteria import Criterion, Magnitude, score_groups
from regrow.prune.depth.settling import settle_branches_
from regrow.prune.depth.skipping import followed
from regrow.prune.memory import is_out_of_memory
from regrow.prune.naming.named_layers import keep_named, refuse_unmatched
from regrow.prune.recovery import reestimate_batchnorm_
from regrow.prune.search.scoring import Scorer
from regrow.prune.search.settings import Memory, Search
from regrow.prune.search.space import Space
from regrow.prune.search.trials import Trials
from regrow.prune.search.widths import WidthSearch
from regrow.prune.selection import Chooser, Selection
from regrow.prune.target import Target
from regrow.text import plural
from regrow.training.evaluation import not_finite

# Latency is met when it lies between this share of its target and the target.
LEAST_LATENCY = 0.9
MAX_MEASUREMENTS = 8


@dataclass(frozen=True, slots=True)
class Cut:
    """The record of what one step removed, in the numbering before it.

    Args:
        removed: The channels that left each side of each layer.
        units: The units that left each group, by the group's layer.
        error: Largest difference of the cut from the masked network, over the largest output.
        num_masked: Number of single weights that were masked.
        latency: The share of the reference's time that the network takes after the cut; None where
            it was not measured.
    """

    removed: Removed
    units: dict[str, list[int]]
    error: float
    num_masked: int = 0
    latency: float | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether the network is as it was."""
        return not self.removed and not self.num_masked


NOTHING = Cut({}, {}, 0.0)


class Removal(ABC):
    """A way to remove parts of a network: whole channels, or single weights.

    Args:
        groups: The coupled groups of channels that may go, and what is left whole.
        shares: The share of each cost that is kept in the end, in (0, 1].
        reference: The network that costs and scores are compared with.
        latency: Times networks beside the reference; None where nobody asks for times.

    Attributes:
        scores: For each group one score a unit, (units,), as they were scored last.
        refused: Layers that were found on the way not to be prunable, with the reason.
        is_divisible: Whether a smaller step removes less; if not, none is tried after one that
            breaks the budget.
        memory: The seed of a step, and what its search goes on from if the run was stopped.
    """

    is_divisible: bool = True
    memory: Memory = Memory()

    def __init__(
        self,
        groups: Groups,
        shares: Mapping[str, float],
        reference: Task,
        latency: Latency | None = None,
    ) -> None:
        self.groups = replace(groups, groups=[*groups.groups], left_whole={**groups.left_whole})
        self.shares = dict(shares)
        self.reference, self.latency = reference, latency
        self.scores: list[Tensor] = []
        self.refused: dict[str, str] = {}

    @property
    def left_whole(self) -> dict[str, str]:
        """Return the reason for every layer that is left whole."""
        return self.groups.left_whole

    @abstractmethod
    def cut_(
        self, task: Task, batches: Batches, kept: Mapping[str, float], *, tightly: bool
    ) -> Cut | None:
        """Remove from the network in place until its costs are under their ceilings.

        Args:
            task: The network as it is, after the cuts that were followed.
            batches: Training images and targets, for scores.
            kept: The share of each cost that may stay.
            tightly: Whether this is the last step, which leaves no more than it must.

        Returns:
            What went, perhaps nothing; None if the ceilings are out of reach.
        """

    @abstractmethod
    def follow(self, cut: Cut) -> None:
        """Go on from the network after a cut; one that is not followed counts as undone."""

    def settle_norms_(self, task: Task, batches: Batches) -> None:
        """Measure the batch norms of a network that was cut anew, in place.

        Args:
            task: The network.
            batches: Training images and targets.
        """
        reestimate_batchnorm_(task, batches)

    def refuse(self, layers: Mapping[str, str]) -> None:
        """Leave layers whole from now on, of those with a residual branch at first that branch.

        Args:
            layers: The reason for each, by name.
        """
        self.refused |= layers
        self.groups = without_layers(self.groups, layers)


class Channels(Removal):
    """Removal of whole channels: which may go, in what order, down to what cost.

    Args:
        task: The network before any pruning; it stays as it is.
        target: The cost that it may keep, by default half of its MACs.
        selection: Which units may go, and in what order.
        criterion: The way to score channels, by default the L2 norm of their weights.
        groups: The groups to prune, by default all that `find_groups` finds.
        reference: The network that budget and target compare with, by default this one.
        latency: Times networks beside the reference; needed where latency is a target.
        dense: The width of groups before any pruning, by the group's layer, where this network has
            been pruned before; by default as they are.
        compensation: Least-squares compensation: how the layers that read what goes are fitted
            before it is cut; None leaves them as they are.
        search: Width search: how long joint candidates are tried for the widths of a step; None
            takes what the ranking of units gives.
        optimization: The optimizer of the search's trials, by default the network's own.

    Attributes:
        compensated: What the compensation of the last cut did.

    Raises:
        BadInput: If the target cannot be reached, the network cannot be traced, all of it is
            frozen, or a weight is not finite.

    Examples:
        >>> from regrow.models import Classification
        >>> from regrow.prune import Channels, Selection, Target, Taylor
        >>> task = Classification(["cat", "dog"], (16, 16), net_args={"width": 8})
        >>> channels = Channels(task, Target(macs=0.5), Selection(scope="local"), Taylor())
        >>> channels.left_whole
        {'head': 'its channels are outputs of head and must stay'}
    """

    def __init__(
        self,
        task: Task,
        target: Target = Target(),
        selection: Selection = Selection(),
        criterion: Criterion | None = None,
        groups: Groups | None = None,
        reference: Task | None = None,
        latency: Latency | None = None,
        dense: Mapping[str, int] | None = None,
        compensation: Compensation | None = None,
        search: Search | None = None,
        optimization: Optimization | None = None,
    ) -> None:
        if not any(parameter.requires_grad for parameter in task.net.parameters()):
            raise BadInput("all parameters are frozen, so nothing could recover; unfreeze some")
        refuse_not_finite(task)
        if target.latency is not None and latency is None:
            raise BadInput("target.latency needs a clock to measure it; give clock")
        found = groups or find_groups(task, branches=selection.branches)
        for option in ("keep", "only", "limit"):
            named = getattr(selection, option) or ()
            refuse_unmatched(f"selection.{option}", named, task.net, found.groups)
        found = keep_named(found, task.net, selection.keep, selection.only)
        super().__init__(found, target.shares(), reference or task, latency)
        self.selection, self.criterion = selection, criterion or Magnitude()
        self.compensation, self.compensated = compensation, Compensated()
        self.search, self.optimization = search, optimization or task.optimization
        self.dense = {g.layer: (dense or {}).get(g.layer, g.width) for g in found.groups}
        self.full: dict[str, float] = {**costs_of(self.reference), "latency": 1.0}
        self.needs_times = target.latency is not None or selection.per == "latency"
        # The share of the reference's time that the network takes, as it was measured last.
        self.time_share = 1.0
        self._refuse_unreachable(task)

    def cut_(
        self, task: Task, batches: Batches, kept: Mapping[str, float], *, tightly: bool
    ) -> Cut | None:
        """Cut channels; the last step gives back what can be kept under the ceilings."""
        ceilings = {name: self.full[name] * share for name, share in kept.items()}
        images = telling_images(batches)
        while True:
            chooser = self._chooser(task, batches)
            chosen = self._search(task, chooser, batches, ceilings)
            chosen = chosen or self._choose(task, chooser, ceilings, tightly)
            if chosen is None:
                return None
            plan, latency = chosen
            if not plan:
                return replace(NOTHING, latency=latency)
            whole = task.net if self.compensation is None else clone(task).net
            self._compensate_(task, plan, batches)
            removed, error, refused = cut_exactly_(task, plan, images)
            if not refused:
                units = {group.layer: list(units) for group, units in plan}
                return Cut(removed, units, error, latency=latency)
            if self.compensation is not None:  # for a plan that is not carried out
                task.net = whole
            self.refuse(refused)

    def _compensate_(self, task: Task, plan: Plan, batches: Batches) -> None:
        """Fit what reads the channels that go, if that is asked for, and log what was fitted."""
        if self.compensation is None:
            return
        self.compensated = compensate_(task, plan, batches, self.compensation)
        errors, left = self.compensated.errors, self.compensated.left
        log.info(f"compensation: {plural(len(errors), 'layer')} fitted by least squares")
        if left:
            log.info(f"compensation: left as they are: {_some(left)}")

    def settle_norms_(self, task: Task, batches: Batches) -> None:
        """Measure batch norms anew; after a compensation only where that is nearer."""
        if not self._settle_(task, batches):
            log.info("compensation: batch norms keep the statistics that layers were fitted to")

    def _settle_(self, task: Task, batches: Batches) -> bool:
        """Measure batch norms anew, in place, and return whether they stay so."""
        if self.compensation is not None:
            return settle_norms_(task, self.reference, batches, self.compensation.num_images)
        reestimate_batchnorm_(task, batches)
        return True

    def _search(
        self, task: Task, chooser: Chooser, batches: Batches, ceilings: dict[str, float]
    ) -> tuple[Plan, float | None] | None:
        """Search for the widths, if that is asked for; None if nothing was found."""
        if self.search is None:
            return None
        settings, memory = self.search, self.memory
        latency = self.latency if "latency" in ceilings else None
        num_images, num_batches = settings.num_images, settings.num_batches
        scorer = Scorer(task, self.reference, batches, num_images, num_batches, latency)
        trial = None
        if settings.trials:
            as_cut, steps = partial(self.as_cut, task), settings.trial_steps
            trial = Trials(as_cut, scorer, batches, self.optimization, steps, memory.seed)
        search = WidthSearch(Space(chooser, ceilings), scorer, settings, memory, trial=trial)
        best = search.best()
        return None if best is None else (search.plan(best), best.latency)

    def as_cut(self, task: Task, plan: Plan, batches: Batches) -> Task:
        """Return a copy of a network as it would be trained if a plan was carried out."""
        work = clone(task)
        if self.compensation is not None:
            compensate_(work, plan, batches, self.compensation)
        settle_branches_(work, plan)
        cut_(work, plan)
        self._settle_(work, batches)
        return work

    def follow(self, cut: Cut) -> None:
        """Go on from the network after a cut; one that is not followed counts as undone."""
        self.groups.groups = followed(self.groups.groups, cut.removed, cut.units)
        if cut.latency is not None:
            self.time_share = cut.latency

    def _chooser(self, task: Task, batches: Batches | None) -> Chooser:
        criterion = self.criterion if batches is not None else Magnitude()
        groups = self.groups.groups
        self.scores = score_groups(task, groups, criterion, batches, self.selection.normalizer)
        times = layer_times(task) if self.needs_times else None
        return Chooser(
            task, groups, self.scores, self.dense, self.selection, times, self.time_share
        )

    def _choose(
        self, task: Task, chooser: Chooser, ceilings: dict[str, float], tightly: bool
    ) -> tuple[Plan, float | None] | None:
        """Choose by predicted costs; where time is a target, until the measured time is right.

        Returns:
            The plan and the measured share of the time; None if no plan is small enough.
        """
        limit = ceilings.get("latency")
        if limit is None or self.latency is None:
            plan = chooser.choose(ceilings, tightly=tightly)
            return None if plan is None else (plan, None)
        best: tuple[Plan, float] | None = None
        asked = limit
        for _ in range(MAX_MEASUREMENTS):
            plan = chooser.choose({**ceilings, "latency": asked}, tightly=tightly)
            if plan is None:
                break
            got = _measured(self.latency, task, plan, asked)
            if got <= limit and (best is None or got > best[1]):
                best = (plan, got)
            if got <= limit and (not tightly or got >= LEAST_LATENCY * limit or not plan):
                break
            # A little below, or the measurement's noise would take as many tries again.
            asked *= 0.98 * limit / got
        return best

    def _refuse_unreachable(self, task: Task) -> None:
        chooser = self._chooser(task, None)
        plan = chooser.least()
        least: dict[str, float] = {**chooser.costs(plan)}
        if "latency" in self.shares and self.latency is not None:
            least["latency"] = _measured(self.latency, task, plan, 0.0)
        for name, share in self.shares.items():
            if least[name] > self.full[name] * share and not self.groups.groups:
                raise BadInput(
                    f"no channel of {type(task.net).__name__} may go: {_some(self.left_whole)}"
                )
            if least[name] > self.full[name] * share:
                raise BadInput(
                    f"target.{name} {share:.3g} is out of reach: with at most "
                    f"{self.selection.max_share:g} of each layer removed and "
                    f"{len(self.left_whole)} layers left whole, "
                    f"{least[name] / self.full[name]:.3g} stays; raise the target or "
                    f"selection.max_share. Left whole: {_some(self.left_whole)}"
                )


def _some(left_whole: Mapping[str, str], most: int = 3) -> str:
    """Return the first reasons of layers that are left whole, in one line."""
    told = [f"{layer} ({reason})" for layer, reason in list(left_whole.items())[:most]]
    more = len(left_whole) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more else "") or "it has no layers of weights"


def refuse_not_finite(task: Task) -> None:
    """Refuse a network whose weights are no numbers.

    Raises:
        BadInput: If a weight is not finite.
    """
    name = not_finite(task.net)
    if name is not None:
        raise BadInput(f"{name} holds NaN or infinity: give a checkpoint of before that happened")


def _measured(latency: Latency, task: Task, plan: Plan, expected: float) -> float:
    trial = clone(task)
    try:
        cut_(trial, plan)
        return latency.share(trial)
    except ClockFailed:
        raise
    # Whatever a network raises when it is cut, the plan is refused where it is proved.
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return expected
