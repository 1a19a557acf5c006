"""The report of a pruning run, in words and tables."""

from dataclasses import asdict, replace
from pathlib import Path

from regrow.data.module import GrowingData
from regrow.metrics.budget import Budget, Verdict
from regrow.models.checkpoint import file_hash
from regrow.models.latency import Latency
from regrow.models.masks import sparsity
from regrow.prune.engine import Result
from regrow.reporting.report import Report, side


def pruning_report(
    result: Result,
    data: GrowingData,
    budget: Budget,
    run: Path,
    checkpoint: Path,
    command_line: str,
    latency: Latency,
    foreseen: str | None,
) -> Report:
    """Return the report of a pruning run: scores, costs, steps and layers."""
    verdict, task = result.verdict, result.task
    report = Report(
        run,
        title="Pruning",
        command=command_line,
        task=type(task).__name__.lower(),
        classes=task.classes,
    )
    before, after = result.before, result.after
    report.set_score(after.name, after.value, images="test", num_images=after.num_images)
    report.set(
        parent=file_hash(checkpoint),
        budget={**asdict(budget), **asdict(verdict)},
        stopped=result.stopped,
        steps=[asdict(step) for step in result.steps],
        left_whole=result.left_whole,
    )
    share = result.cost_after.macs / max(result.cost_before.macs, 1)
    report.say(
        f"The network keeps {100 * share:.1f} % of its MACs. On {verdict.num_images} test images, "
        f"which nothing was chosen on, {after.name} went from {before.value:.4f} to "
        f"{after.value:.4f}; the change is between "
        f"{verdict.interval[0]:+.4f} and {verdict.interval[1]:+.4f}, with "
        f"{100 * budget.confidence:g} % confidence in each end. {verdict_in_words(result, budget)}"
    )
    report.say(_parts_in_words(verdict))
    if foreseen is not None:
        report.say(f"This was known before the first step: {foreseen}.")
    costs = zip((result.cost_before, result.cost_after), latency(task), strict=True)
    old, new = (replace(cost, latency_ms=spent) for cost, spent in costs)
    report.set(runtime=latency.runtime)
    report.add_before_after(side(before.value, old), side(after.value, new), after.name)
    report.add_per_class(before.per_class, after.per_class, after.name)
    columns = ["step", "MACs", "parameters", "masked", "time", f"validation {after.name}"]
    columns += ["kept", "error"]
    rows = [
        [
            f"{s.index}{' (training)' * s.is_final}",
            s.macs,
            s.params,
            s.masked,
            s.latency,
            s.score,
            s.is_kept,
            s.error,
        ]
        for s in result.steps
    ]
    report.add_table(
        "Steps",
        columns,
        rows,
        f"Validation score before pruning: {result.baseline:.4f}. The time is the share of the "
        f"unpruned network's, in {latency.runtime}; the error is that of the cut against the "
        "masked network.",
    )
    layers = [
        [
            name + " (inexact)" * layer.is_inexact + f" (with {layer.group})" * bool(layer.group),
            layer.before,
            layer.after,
            layer.importance,
            layer.sensitivity,
        ]
        for name, layer in result.layers.items()
    ]
    report.add_table(
        "Layers",
        ["layer", "before", "after", "importance kept", "sensitivity"],
        layers,
        "Channels; the share of its group's scores that is left; what the loss gained at the start "
        "when a quarter of its group was removed; with names the layer under which channels that "
        "go together are scored. Where a layer is inexact, norms take statistics "
        "over its channels, and only training makes up for those that went.",
    )
    masked = sparsity(result.task.net)
    if masked.by_weight:
        report.set(masked=asdict(masked))
        report.add_table(
            "Masked",
            ["weight", "masked"],
            [[name, share] for name, share in masked.by_weight.items()],
            f"{100 * masked.masked:.1f} % of these weights are zero and stay zero. That saves no "
            "time, but where the hardware has kernels for the pattern.",
        )
    whole = [[name, reason] for name, reason in result.left_whole.items()]
    report.add_table("Left whole", ["layer", "because"], whole)
    return report


def verdict_in_words(result: Result, budget: Budget) -> str:
    """Say how the run ended: whether the target was reached, and the budget kept."""
    verdict, words = result.verdict, ""
    if result.stopped == "budget":
        words = f"The target was not reached: {_rolled_back(result)}. "
    if result.stopped == "exhausted":
        words = "The target was not reached: no legal cut of what is left comes down to it. "
    if not any(step.is_kept for step in result.steps):
        return f"{words}Nothing was removed."
    return words + _budget_in_words(verdict, budget)


def training_in_words(result: Result, epochs: int, final_epochs: int) -> str:
    """Say that a comparison with the unpruned network is one with less training, if it is."""
    kept = [step for step in result.steps if step.is_kept]
    more = sum(final_epochs if step.is_final else epochs for step in kept)
    epochs_more = f"{more} epoch{'s' * (more != 1)} more"
    return f"It has trained {epochs_more} than the network it is compared with." * bool(more)


def _rolled_back(result: Result) -> str:
    name = result.after.name
    last = [step for step in result.steps if not step.is_final][-1]
    return (
        f"step {last.index} took {name} from {result.baseline:.4f} to {last.score:.4f} on "
        f"validation images, more than the budget, and was rolled back"
    )


def _budget_in_words(verdict: Verdict, budget: Budget) -> str:
    if budget.max_drop == 1:
        return "There was no budget: a max_drop of 1 accepts any score, one point is 0.01."
    if verdict.is_met is True:
        return "The budget is met."
    if verdict.is_met is False:
        return "The budget is broken."
    needed = "no number of" if verdict.num_needed is None else f"about {verdict.num_needed:,}"
    return (
        f"That neither meets nor breaks the budget; {needed} test images that show such a change "
        "would decide it."
    )


def _parts_in_words(verdict: Verdict) -> str:
    """Say what the interval is made of: what was seen to vary, and what so many may not show."""
    unseen = 100 * (verdict.unseen or 0)
    caution = f"{verdict.num_images} images may not show a change of {unseen:.2f} points at all"
    if verdict.sampling is None:
        return f"The exact test counts the images lost and gained, and allows for this: {caution}."
    low, high = verdict.sampling
    return (
        f"Of that, {low:+.4f} to {high:+.4f} is what the images were seen to vary by; the rest is "
        f"caution: {caution}."
    )
