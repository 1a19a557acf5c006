"""The pruning loop: score, choose, cut, prove, recover, evaluate; step by step, under a budget."""

import time
from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass, replace
from math import isnan, nan
from typing import Any

import torch
from torch import Tensor

from regrow.data.batches.sampling import counter_seed
from regrow.errors import BadInput
from regrow.metrics.budget import Budget, Verdict, decide
from regrow.models.cost import Cost, measure
from regrow.models.masks import sparsity, zero_masked_
from regrow.models.modes import copied
from regrow.models.task import Task
from regrow.prune.channels.records import widths
from regrow.prune.channels.surgery import clone
from regrow.prune.contributions import some
from regrow.prune.cost_model import costs_of
from regrow.prune.layers import Layer, layers_of, sensitivities
from regrow.prune.recovery import Recover
from regrow.prune.removal import NOTHING, Cut, Removal
from regrow.prune.schedule import Pace, kept_share
from regrow.prune.search.settings import Memory
from regrow.prune.state import Attempt, Progress, Step, Stop
from regrow.training.evaluation import Evaluation, not_finite
from regrow.training.evaluation import evaluate as evaluate_task

Loader = Iterable[tuple[Tensor, Any]]


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a pruning run.

    Args:
        task: The pruned network; the given one is as it was.
        stopped: Why it ended: the `target` was reached, even the smallest next step broke the
            `budget`, or the layers that can be pruned were `exhausted`.
        baseline: The score of the reference on validation images.
        steps: All steps in order, also those that were rolled back.
        before: Evaluation of the reference on test images.
        after: Evaluation of the pruned network on test images.
        cost_before: The cost of the reference.
        cost_after: The cost of the pruned network.
        verdict: The decision on the budget, on test images.
        left_whole: The reason for every layer whose outputs were never pruned.
        branches_left: The reason for every group that was not to take a residual branch with it.
        layers: The figures of every layer with weights, by name.
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
    branches_left: dict[str, str]
    layers: dict[str, Layer]


def prune(
    task: Task,
    removal: Removal,
    *,
    train_loader: Loader,
    val_loader: Loader,
    test_loader: Loader,
    num_steps: int = 5,
    adapts: bool = True,
    budget: Budget = Budget(),
    recover: Recover | None = None,
    finish: Recover | None = None,
    seed: int = 0,
    begun: Progress | None = None,
    on_step: Callable[[Step], None] | None = None,
    save: Callable[[Progress], None] | None = None,
    evaluate: Callable[[Task, Loader], Evaluation] = evaluate_task,
) -> Result:
    """Prune a network step by step until the cost target is met or the budget would break.

    Steps are accepted on validation images, by the score itself. The budget is decided once, at
    the end, on test images that nothing was chosen on. Each step is a function of the network that
    the last one left and of counters, so that a run that was stopped goes on to the same end (but
    for choices by measured time).

    Args:
        task: The trained network, which stays as it is.
        removal: What to remove, and down to what cost: `Channels(task, ...)` or
            `SingleWeights(task, ...)`, made for this very network.
        train_loader: Training images and targets, for scores and norm statistics.
        val_loader: Validation images and targets.
        test_loader: Test images and targets; read only when all steps are done.
        num_steps: Number of steps towards the target as planned; with `adapts` there may be more or
            fewer.
        adapts: Adaptive step size: larger while the score holds, smaller near the budget; a step
            that breaks it is rolled back and tried again at half its size.
        budget: The accuracy budget: how much worse than the removal's reference the network may be.
        recover: Trains a cut network in place, given the number of the step.
        finish: Trains it once more when the last step is done.
        seed: The random seed; all that is random here is a function of it.
        begun: Where a run that was stopped stood.
        on_step: Called after each step, and before the first with the given network as step 0.
        save: Called with where the run stands after each step, and after each cut that is about
            to be trained.
        evaluate: Scores a network on images.

    Returns:
        The pruned network with its steps, costs, evaluations and verdict.

    Raises:
        BadInput: If there are no test images, the budget is broken before anything is removed, or
            a score is not finite.

    Examples:
        >>> import torch
        >>> from regrow.metrics import Budget
        >>> from regrow.models import Classification
        >>> from regrow.prune import Channels, Target, prune
        >>> task = Classification(["cat", "dog"], (16, 16), net_args={"width": 8})
        >>> batches = [(task.example_images(4), torch.tensor([0, 1, 0, 1]))]
        >>> result = prune(
        ...     task,
        ...     Channels(task, Target(macs=0.7)),
        ...     train_loader=batches,
        ...     val_loader=batches,
        ...     test_loader=batches,
        ...     num_steps=1,
        ...     budget=Budget(max_drop=1.0),
        ... )
        >>> result.stopped, result.cost_after.macs <= 0.7 * result.cost_before.macs
        ('target', True)
    """
    if isinstance(test_loader, Sized) and not len(test_loader):
        raise BadInput("there are no test images, on which the budget is decided; give some")
    run = _Run(
        removal=removal,
        train_loader=train_loader,
        val_loader=val_loader,
        budget=budget,
        recover=recover,
        seed=seed,
        adapts=adapts and removal.is_divisible,
        on_step=on_step,
        save=save,
        evaluate=evaluate,
    )
    state = run.resumed(begun) if begun is not None else run.begun(task, num_steps)
    while state.stopped is None:
        run.step_(state)
    if finish is not None and state.cuts and not state.is_finished:
        run.finish_(state, finish)
    reference = removal.reference
    before, after = evaluate(reference, test_loader), evaluate(state.task, test_loader)
    return Result(
        task=state.task,
        stopped=state.stopped,
        baseline=state.baseline,
        steps=state.steps,
        before=before,
        after=after,
        cost_before=measure(reference),
        cost_after=measure(state.task),
        verdict=decide(before.evidence, after.evidence, budget),
        left_whole=removal.left_whole,
        branches_left=removal.groups.branches_left,
        layers=layers_of(task, state, removal),
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """The settings of a run, which stay the same from step to step."""

    removal: Removal
    train_loader: Loader
    val_loader: Loader
    budget: Budget
    recover: Recover | None
    seed: int
    adapts: bool
    on_step: Callable[[Step], None] | None
    save: Callable[[Progress], None] | None
    evaluate: Callable[[Task, Loader], Evaluation]

    def begun(self, task: Task, num_steps: int) -> Progress:
        """Return the start of a new run."""
        self._seed(0)
        work, reference = copied(task), self.removal.reference
        baseline = self.evaluate(reference, self.val_loader).value
        is_same = reference is task
        score = baseline if is_same else self.evaluate(work, self.val_loader).value
        self._refuse_broken(baseline, score)
        state = Progress(work, baseline, Pace.begin(num_steps))
        if self.on_step is not None:
            self.on_step(self._step(0, work, NOTHING, score, is_kept=True))
        self._keep(state)
        return state

    def resumed(self, state: Progress) -> Progress:
        """Repeat what an earlier run removed, so that this one stands where that stopped."""
        self.removal.refuse(state.refused)
        for cut in state.cuts:
            self.removal.follow(cut)
        return state

    def step_(self, state: Progress) -> None:
        """Take one step, or note why the run ends."""
        index = len(state.steps) + 1
        self._seed(index)
        attempt = state.attempt or self._try(state, index)
        if attempt is None:
            state.stopped = "exhausted"
            return self._keep(state)
        used = 0.0 if attempt.cut.is_nothing else self._judge_(state, attempt)
        if used <= 1:
            self.removal.follow(attempt.cut)
        pace = state.pace.after(used, adapts=self.adapts)
        if pace is None:
            state.stopped = "budget"
        else:
            state.pace = pace
            state.stopped = "target" if pace.done == 1 else None
        self._keep(state)

    def _try(self, state: Progress, index: int) -> Attempt | None:
        """Cut the network for a step; None if no legal cut comes down to what it asks for."""
        work, end = clone(state.task), state.pace.next
        keep = (
            None if self.save is None else _Sparing(lambda found: self._keep_search(state, found))
        )
        self.removal.memory = Memory(counter_seed(self.seed, index), state.search, keep)
        kept = {name: kept_share(share, end) for name, share in self.removal.shares.items()}
        cut = self.removal.cut_(work, self.train_loader, kept, tightly=end == 1)
        state.refused, state.search = dict(self.removal.refused), None
        if cut is None:
            return None
        if not state.importance and self.removal.scores:
            self._measure_layers_(state)
        if not cut.is_nothing:
            self.removal.settle_norms_(work, self.train_loader)
            _order_as_in_a_file_(work)
        return Attempt(index, work, cut)

    def _judge_(self, state: Progress, attempt: Attempt) -> float:
        """Train and score a cut network, and keep it if it stays inside the budget.

        Returns:
            The part of the budget that is used up.
        """
        work = attempt.task
        if self.recover is not None:
            if state.attempt is None:  # so that a run that is stopped now has not to cut again
                state.attempt = attempt
                self._keep(state)
            self.recover(work, attempt.index)
            _settle_(work)
        state.attempt = None
        score = self._score(work)
        used = self.budget.used(state.baseline - score)
        step = self._step(attempt.index, work, attempt.cut, score, is_kept=used <= 1)
        self._record_(state, work, step)
        if step.is_kept:
            state.cuts.append(attempt.cut)
        return used

    def finish_(self, state: Progress, finish: Recover) -> None:
        """Train once more, and keep the result unless it scores worse."""
        index = len(state.steps) + 1
        self._seed(index)
        work = clone(state.task)
        finish(work, index)
        _settle_(work)
        before = [step.score for step in state.steps if step.is_kept][-1]
        score = self._score(work)
        step = self._step(index, work, NOTHING, score, is_kept=score >= before)
        self._record_(state, work, replace(step, is_final=True))
        state.is_finished = True
        self._keep(state)

    def _measure_layers_(self, state: Progress) -> None:
        """Keep what the report will need of the network as it was given."""
        groups, scores = self.removal.groups.groups, self.removal.scores
        batch = next(some(self.train_loader, 1))
        state.importance = {g.layer: v.tolist() for g, v in zip(groups, scores, strict=True)}
        state.sensitivity = sensitivities(state.task, groups, scores, batch)

    def _score(self, work: Task) -> float:
        """Score a network on validation images: NaN if training has broken its weights."""
        return nan if not_finite(work.net) else self.evaluate(work, self.val_loader).value

    def _refuse_broken(self, baseline: float, score: float) -> None:
        if isnan(baseline):
            raise BadInput("the network scores NaN on validation images; are there any?")
        if baseline <= self.budget.max_drop < 1:
            raise BadInput(
                f"budget.max_drop {self.budget.max_drop} allows the loss of the whole score, which "
                f"is {baseline:.4f} on validation images; train longer or lower it"
            )
        if not self.budget.used(baseline - score) <= 1:
            raise BadInput(
                f"the budget is broken before anything is removed: on validation images the "
                f"network scores {score:.4f} and the reference {baseline:.4f}; give a better "
                "network or a larger budget.max_drop"
            )

    def _step(self, index: int, work: Task, cut: Cut, score: float, *, is_kept: bool) -> Step:
        costs, latency = costs_of(work), self.removal.latency
        return Step(
            index=index,
            macs=costs["macs"],
            params=costs["params"],
            masked=sparsity(work.net).overall,
            latency=None if latency is None else latency.share(work),
            score=score,
            is_kept=is_kept,
            removed={layer: gone for (layer, side), gone in cut.removed.items() if side == "out"},
            widths=widths(work.net),
            error=cut.error,
        )

    def _record_(self, state: Progress, work: Task, step: Step) -> None:
        state.steps.append(step)
        if self.on_step is not None:
            self.on_step(step)
        if step.is_kept:
            state.task = work

    def _seed(self, index: int) -> None:
        torch.manual_seed(counter_seed(self.seed, index))
        sampler: Any = getattr(self.train_loader, "sampler", None)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(index)

    def _keep_search(self, state: Progress, found: dict[str, Any]) -> None:
        state.search = found
        self._keep(state)

    def _keep(self, state: Progress) -> None:
        if self.save is not None:
            self.save(state)


class _Sparing:
    """Calls a function that writes a file, but not so often that it takes a tenth of the time."""

    def __init__(self, call: Callable[[dict[str, Any]], None]) -> None:
        self.call, self.next = call, 0.0

    def __call__(self, found: dict[str, Any]) -> None:
        start = time.monotonic()
        if start >= self.next:
            self.call(found)
            end = time.monotonic()
            self.next = end + 10 * (end - start)


def _order_as_in_a_file_(task: Task) -> None:
    """Lay weights out contiguously, as a file does: the order changes the last bits of a result."""
    task.net.to(memory_format=torch.contiguous_format)


def _settle_(task: Task) -> None:
    """Leave a trained network as it would be read from its file."""
    zero_masked_(task.net)  # whatever optimizer it trained with
    _order_as_in_a_file_(task)
