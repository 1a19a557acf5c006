"""Pruning: score, choose, cut, prove, recover, evaluate; step by step, under a budget."""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from regrow.data.errors import BadInput
from regrow.models.cost import Cost, measure
from regrow.models.evaluation import Evaluation
from regrow.models.evaluation import evaluate as evaluate_task
from regrow.models.task import Task
from regrow.prune.budget import Budget, Verdict, decide
from regrow.prune.channels import Groups, Plan, Removed, widths
from regrow.prune.cost_model import costs_of
from regrow.prune.criteria import Criterion, Magnitude, score_groups
from regrow.prune.groups import find_groups, without_layers
from regrow.prune.recovery import Recover, reestimate_batchnorm_
from regrow.prune.schedule import Curve, kept_shares
from regrow.prune.selection import Chooser, Selection
from regrow.prune.surgery import TOLERANCE, check_exact, clone, cut_, mask_, sift

Loader = Iterable[tuple[Tensor, Any]]
Stop = Literal["target", "budget", "exhausted"]


@dataclass(frozen=True)  # slots would hide its defaults from the command line
class Target:
    """What the pruned network may cost, as shares of what the given one costs.

    Args:
        macs: The share of the multiply-accumulates of one image that is kept, in (0, 1]; null is
            no target.
        params: The share of the parameters that is kept, in (0, 1]; null is no target.
    """

    macs: float | None = 0.5
    params: float | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range, and no target at all."""
        if not self.shares():
            raise BadInput("target names no cost; give target.macs or target.params")
        for name, share in self.shares().items():
            if not 0 < share <= 1:
                raise BadInput(f"target.{name} is {share}, a share to keep must lie in (0, 1]")

    def shares(self) -> dict[str, float]:
        """Give the shares that are kept, by the name of the cost."""
        named = {"macs": self.macs, "params": self.params}
        return {name: share for name, share in named.items() if share is not None}


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a pruning run.

    Args:
        index: The number of the step, from 1.
        macs: Multiply-accumulates of one image after it.
        params: Parameters after it.
        score: The score on validation images after recovery.
        is_kept: Whether the step stayed inside the budget on validation images.
        removed: Output channels that left each layer, in the numbering before the step.
        widths: Output channels of every layer after it.
        error: Largest difference of the cut from the masked network, over the largest output.
    """

    index: int
    macs: int
    params: int
    score: float
    is_kept: bool
    removed: dict[str, list[int]]
    widths: dict[str, int]
    error: float


@dataclass(frozen=True, slots=True)
class Result:
    """What a pruning run ends with.

    Args:
        task: The pruned network; the given one is as it was.
        stopped: Why it ended: the `target` was reached, the next step broke the `budget`, or the
            layers that can be pruned were `exhausted`.
        baseline: The score of the given network on validation images.
        steps: All steps in order, also the one that was rolled back.
        before: Evaluation of the given network on test images.
        after: Evaluation of the pruned network on test images.
        cost_before: What the given network costs.
        cost_after: What the pruned network costs.
        verdict: The decision on the budget, on test images.
        left_whole: The reason for every layer whose outputs were never pruned.
        widths: Output channels of every layer before and after.
    """

    task: Task
    stopped: Stop
    baseline: float
    steps: list[Step]
    before: Evaluation
    after: Evaluation
    cost_before: Cost
    cost_after: Cost
    verdict: Verdict
    left_whole: dict[str, str]
    widths: dict[str, tuple[int, int]]


@dataclass(slots=True)
class _State:
    """The network on its way: what is left of it, and what is known about it."""

    task: Task
    groups: Groups
    dense: dict[str, int]
    steps: list[Step] = field(default_factory=list)


def prune(
    task: Task,
    *,
    train_loader: Loader,
    val_loader: Loader,
    test_loader: Loader,
    criterion: Criterion | None = None,
    target: Target = Target(),
    num_steps: int = 5,
    curve: Curve = "linear",
    selection: Selection = Selection(),  # noqa: B008 - frozen
    budget: Budget = Budget(),  # noqa: B008 - frozen
    groups: Groups | None = None,
    recover: Recover | None = None,
    on_step: Callable[[Step], None] | None = None,
    evaluate: Callable[[Task, Loader], Evaluation] = evaluate_task,
) -> Result:
    """Remove channels step by step until the cost target is met or the budget would break.

    Steps are accepted on validation images, by the score itself. The budget is decided once, at
    the end, on test images that nothing was chosen on.

    Args:
        task: The trained network, which stays as it is.
        train_loader: Training images and targets, for scores and norm statistics.
        val_loader: Validation images and targets.
        test_loader: Test images and targets; read only when all steps are done.
        criterion: The way to score channels; the L2 norm by default.
        target: What the network may cost in the end.
        num_steps: Number of steps towards the target.
        curve: How the removed cost is spread over the steps.
        selection: Which units may go, and in what order.
        budget: How much worse the network may be.
        groups: The groups to prune, if not all that can be found.
        recover: Trains a cut network in place.
        on_step: Called after each step, and before the first with the given network as step 0.
        evaluate: Scores a network on images.

    Returns:
        The pruned network with its steps, costs, evaluations and verdict.

    Raises:
        BadInput: As `prepare`, or if a score is not finite.
    """
    work = copy.deepcopy(task)
    found = prepare(work, target, selection, groups)
    state = _State(work, found, _dense_widths(found))
    criterion = criterion or Magnitude()
    shares = target.shares()
    dense = costs_of(work)
    baseline = evaluate(task, val_loader).value
    curves = {name: kept_shares(share, num_steps, curve) for name, share in shares.items()}
    good = clone(work)
    if on_step is not None:
        on_step(_step(state, 0, {}, 0.0, baseline, baseline, budget))
    stopped: Stop = "target"
    for index in range(num_steps):
        ceilings = {name: dense[name] * left[index] for name, left in curves.items()}
        is_last = index == num_steps - 1
        cut = _cut_step_(state, criterion, train_loader, selection, ceilings, is_last)
        if cut is None:
            stopped = "exhausted"
            break
        if not cut[0]:
            continue
        reestimate_batchnorm_(work, train_loader)
        if recover is not None:
            recover(work)
        step = _step(state, index + 1, *cut, evaluate(work, val_loader).value, baseline, budget)
        state.steps.append(step)
        if on_step is not None:
            on_step(step)
        if not step.is_kept:
            work.net = good.net
            stopped = "budget"
            break
        good = clone(work)
    return _result(task, state, stopped, baseline, test_loader, budget, evaluate)


def prepare(
    task: Task,
    target: Target,
    selection: Selection = Selection(),  # noqa: B008 - frozen
    groups: Groups | None = None,
) -> Groups:
    """Find what can be pruned, and refuse a target that it cannot reach.

    Args:
        task: The trained network, which stays as it is.
        target: What the network may cost in the end.
        selection: Which units may go.
        groups: The groups to prune, if not all that can be found.

    Returns:
        The groups, a copy of those given.

    Raises:
        BadInput: If the target cannot be reached, the network cannot be traced, or all of it is
            frozen.
    """
    if not any(parameter.requires_grad for parameter in task.net.parameters()):
        raise BadInput("all parameters are frozen, so nothing could recover; unfreeze some")
    found = groups if groups is not None else find_groups(task)
    found = Groups(list(found.groups), dict(found.left_whole))
    scores = score_groups(task, found.groups, Magnitude())
    chooser = Chooser(task, found.groups, scores, _dense_widths(found), selection)
    least, dense = chooser.least(), chooser.model.dense
    for name, share in target.shares().items():
        if least[name] > dense[name] * share:
            raise BadInput(
                f"target.{name} {share:.3g} is out of reach: with at most "
                f"{selection.max_share:g} of each layer removed and "
                f"{len(found.left_whole)} layers left whole, "
                f"{least[name] / dense[name]:.3g} stays; raise the target or selection.max_share"
            )
    return found


def _dense_widths(groups: Groups) -> dict[str, int]:
    return {group.layer: group.width for group in groups.groups}


def _cut_step_(
    state: _State,
    criterion: Criterion,
    batches: Loader,
    selection: Selection,
    ceilings: dict[str, float],
    is_last: bool,
) -> tuple[Removed, float] | None:
    """Cut one step; None if the ceilings are out of reach, nothing if they are kept already."""
    while True:
        groups = state.groups.groups
        scores = score_groups(state.task, groups, criterion, batches)
        chooser = Chooser(state.task, groups, scores, state.dense, selection)
        plan = chooser.choose(ceilings, tightly=is_last)
        if not plan:
            return None if plan is None else ({}, 0.0)
        removed, error, refused = _cut_exactly_(state.task, plan)
        if not refused:
            chosen = {group.layer: units for group, units in plan}
            state.groups.groups = [g.after(removed, chosen.get(g.layer, ())) for g in groups]
            return removed, error
        state.groups = without_layers(state.groups, refused)


def _cut_exactly_(task: Task, plan: Plan) -> tuple[Removed, float, dict[str, str]]:
    """Cut, and undo it unless the result is that of masking; then say which layers are at fault."""
    masked, whole = clone(task), copy.deepcopy(task.net)
    mask_(masked, plan)
    try:
        removed = cut_(task, plan)
        error = check_exact(masked, task)
    # Whatever a network raises when it is cut, it cannot be cut there.
    except Exception:
        removed, error = {}, float("inf")
    if error <= TOLERANCE:
        return removed, error, {}
    task.net = whole
    _, refused = sift(task, plan)
    reason = f"cutting it with others is not exact: the output moves by {error:.1e}"
    return {}, error, refused or {group.layer: reason for group, _ in plan}


def _step(
    state: _State,
    index: int,
    removed: Removed,
    error: float,
    score: float,
    baseline: float,
    budget: Budget,
) -> Step:
    costs = costs_of(state.task)
    return Step(
        index=index,
        macs=costs["macs"],
        params=costs["params"],
        score=score,
        # A score that is not a number is outside of every budget.
        is_kept=score >= baseline - budget.max_drop,
        removed={layer: channels for (layer, side), channels in removed.items() if side == "out"},
        widths=widths(state.task.net),
        error=error,
    )


def _result(
    task: Task,
    state: _State,
    stopped: Stop,
    baseline: float,
    test_loader: Loader,
    budget: Budget,
    evaluate: Callable[[Task, Loader], Evaluation],
) -> Result:
    before, after = evaluate(task, test_loader), evaluate(state.task, test_loader)
    old, new = widths(task.net), widths(state.task.net)
    return Result(
        task=state.task,
        stopped=stopped,
        baseline=baseline,
        steps=state.steps,
        before=before,
        after=after,
        cost_before=measure(task),
        cost_after=measure(state.task),
        verdict=decide(before.evidence, after.evidence, budget),
        left_whole=state.groups.left_whole,
        widths={name: (old[name], new[name]) for name in old},
    )
