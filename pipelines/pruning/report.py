"""The report of a pruning run, in words and tables."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from regrow.metrics.budget import Budget, Verdict, in_points
from regrow.models.latency import CommandLatency, Latency
from regrow.models.masks import sparsity
from regrow.models.task import Task
from regrow.prune.engine import Result
from regrow.prune.layers import Layer
from regrow.prune.state import Step
from regrow.reporting.report import Report, side
from regrow.text import plural


def pruning_report(
    result: Result,
    budget: Budget,
    latency: Latency,
    *,
    run: Path,
    parent: str,
    command_line: str,
    foreseen: str | None,
) -> Report:
    """Return the report of a pruning run: scores, costs, steps and layers.

    Args:
        result: The outcome of the run.
        budget: The budget that it had.
        latency: Times networks beside the one that is compared with.
        run: The run's folder.
        parent: The hash of the file of the network that was pruned.
        command_line: The command.
        foreseen: What was known of the verdict before the first step, if anything.
    """
    task, after = result.task, result.after
    report = Report.of(task, run, "Pruning", command_line)
    report.set_score(after.name, after.value, images="test", num_images=after.num_images)
    report.set(
        parent=parent,
        budget={**asdict(budget), **asdict(result.verdict)},
        stopped=result.stopped,
        steps=[asdict(step) for step in result.steps],
        left_whole=result.left_whole,
        branches_left=result.branches_left,
    )
    _say_verdict(report, result, budget, foreseen)
    _add_comparison(report, result, latency)
    _add_steps(report, result, latency.runtime)
    _add_layers(report, result)
    _add_masked(report, task)
    whole = [[name, reason] for name, reason in result.left_whole.items()]
    report.add_table("Left whole", ["layer", "because"], whole)
    branches = [[name, reason] for name, reason in result.branches_left.items()]
    if branches:
        report.add_table("Branches that stay", ["channels of", "because"], branches)
    return report


def _say_verdict(report: Report, result: Result, budget: Budget, foreseen: str | None) -> None:
    verdict, before, after = result.verdict, result.before, result.after
    share = result.cost_after.macs / max(result.cost_before.macs, 1)
    report.say(
        f"The network keeps {100 * share:.1f} % of its MACs. On {verdict.num_images} test images, "
        f"which nothing was chosen on, {after.name} went from {before.value:.4f} to "
        f"{after.value:.4f}; the change is between "
        f"{verdict.interval[0]:+.4f} and {verdict.interval[1]:+.4f}, where each bound alone holds "
        f"at {100 * budget.confidence:g} % confidence. {verdict_in_words(result, budget)}"
    )
    report.say(parts_in_words(verdict))
    if foreseen is not None:
        report.say(f"This was known before the first step: {foreseen}.")


def _add_comparison(report: Report, result: Result, latency: Latency) -> None:
    before, after = result.before, result.after
    costs = zip((result.cost_before, result.cost_after), latency(result.task), strict=True)
    old, new = (replace(cost, latency_ms=spent) for cost, spent in costs)
    report.set(runtime=latency.runtime)
    report.add_before_after(side(before.value, old), side(after.value, new), after.name)
    if isinstance(latency, CommandLatency):
        _add_clock(report, latency)
    report.add_per_class(before.per_class, after.per_class, after.name)


def _add_clock(report: Report, latency: CommandLatency) -> None:
    """Report each run of the user's own clock, and by how much those of one network differ."""
    names, times = ("before", "after"), latency.times
    spreads = [(max(own) - min(own)) / statistics.median(own) for own in times]
    report.set(
        clock={"command": latency.clock.command, "times": dict(zip(names, times, strict=True))}
    )
    rows = [
        [name, statistics.median(own), min(own), max(own), f"{100 * spread:.1f} %"]
        for name, own, spread in zip(names, times, spreads, strict=True)
    ]
    report.add_table(
        "Clock",
        ["network", "median, ms", "least", "most", "spread"],
        rows,
        f"Times are those that {latency.program.name} prints, run "
        f"{plural(latency.clock.runs, 'time')} on each network, in turns. {noise_in_words(times)}",
    )


def noise_in_words(times: Sequence[Sequence[float]]) -> str:
    """Return whether the times of two networks by a program of the user's tell them apart."""
    before, after = times
    if len(before) < 2:
        return "How much its times vary is not known: raise clock.runs."
    if max(after) < min(before) or min(after) > max(before):
        return "No run of one network is within those of the other."
    return (
        "Runs of the two networks overlap, so that these runs alone do not tell which is faster: "
        "raise clock.runs, or let the command measure for longer."
    )


def _add_steps(report: Report, result: Result, runtime: str) -> None:
    score = f"validation {result.after.name}"
    report.add_table(
        "Steps",
        ["step", "MACs", "parameters", "masked", "time", score, "kept", "error"],
        [
            [
                f"{s.index} (training)" if s.is_final else f"{s.index}",
                s.macs,
                s.params,
                s.masked,
                s.latency,
                s.score,
                s.is_kept,
                s.error,
            ]
            for s in result.steps
        ],
        f"Validation score before pruning: {result.baseline:.4f}. The time is the share of the "
        f"unpruned network's, in {runtime}; the error is that of the cut against the "
        "masked network.",
    )


def _add_layers(report: Report, result: Result) -> None:
    report.add_table(
        "Layers",
        ["layer", "before", "after", "importance kept", "sensitivity"],
        [
            [_named(name, layer), layer.before, layer.after, layer.importance, layer.sensitivity]
            for name, layer in result.layers.items()
        ],
        "Channels; the share of its group's scores that is left; what the loss gained at the start "
        "when a quarter of its group was removed; with names the layer under which channels that "
        "go together are scored.",
    )


def _named(name: str, layer: Layer) -> str:
    group = f" (with {layer.group})" if layer.group else ""
    return f"{name}{group}"


def _add_masked(report: Report, task: Task) -> None:
    masked = sparsity(task.net)
    if not masked.by_weight:
        return
    report.set(masked=asdict(masked))
    report.add_table(
        "Masked",
        ["weight", "masked"],
        [[name, share] for name, share in masked.by_weight.items()],
        f"{100 * masked.masked:.1f} % of these weights are zero and stay zero. That saves no "
        "time, but where the hardware has kernels for the pattern.",
    )


def table_in_text(table: Table) -> str:
    """Return a table as lines of plain text, as wide as the terminal."""
    console = Console(markup=False, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip("\n")


def verdict_in_words(result: Result, budget: Budget) -> str:
    """Return how the run ended: whether the target was reached, and the budget kept."""
    verdict, words = result.verdict, ""
    if result.stopped == "budget":
        words = f"The target was not reached: {_rolled_back(result)}. "
    if result.stopped == "exhausted":
        words = "The target was not reached: no legal cut of what is left comes down to it. "
    if not any(step.is_kept for step in result.steps):
        return f"{words}Nothing was removed."
    return words + budget_in_words(verdict, budget)


def training_in_words(result: Result, epochs: int, final_epochs: int) -> str:
    """Return how much longer the pruned network has trained than the other; empty if it has not."""
    kept = [step for step in result.steps if step.is_kept]
    more = sum(final_epochs if step.is_final else epochs for step in kept)
    if not more:
        return ""
    return f"It has trained {plural(more, 'epoch')} more than the network it is compared with."


def step_in_words(step: Step) -> str:
    """Return what a step costs and scores, in one line of a log."""
    name = f"step {step.index}" if step.index else "as given"
    costs = f"{step.macs:,} MACs, {step.params:,} parameters"
    if step.masked:
        costs += f", {100 * step.masked:.1f} % of them masked"
    if step.latency is not None:
        costs += f", {100 * step.latency:.0f} % of the original latency"
    fate = "" if step.is_kept else ", rolled back"
    return f"{name}: {costs}, validation score {step.score:.4f}{fate}"


def _rolled_back(result: Result) -> str:
    name = result.after.name
    last = [step for step in result.steps if not step.is_final][-1]
    return (
        f"step {last.index} took {name} from {result.baseline:.4f} to {last.score:.4f} on "
        f"validation images, more than the budget, and was rolled back"
    )


def budget_in_words(verdict: Verdict, budget: Budget) -> str:
    """Return in words whether a budget is met, broken or undecided."""
    if budget.max_drop == 1:
        return "There was no budget: a max_drop of 1 accepts any score, one point is 0.01."
    if verdict.is_met is True:
        return "The budget is met."
    if verdict.is_met is False:
        return "The budget is broken."
    needed = "no number of" if verdict.num_needed is None else f"about {verdict.num_needed:,}"
    return (
        f"Whether the budget of {in_points(budget.max_drop)} is met is undecided: "
        f"{verdict.num_images:,} test images are too few to tell; {needed} test images with the "
        "same change would tell."
    )


def decided_in_a_word(is_met: bool | str) -> str:
    """Return the decision about a budget as a cell of a table: met, broken or undecided."""
    if isinstance(is_met, bool):
        return "met" if is_met else "broken"
    return is_met


def parts_in_words(verdict: Verdict) -> str:
    """Return what the interval is made of: what was seen to vary, and what may not show at all."""
    unseen = 100 * (verdict.unseen or 0)
    caution = f"{verdict.num_images} images may not show a change of {unseen:.2f} points at all"
    if verdict.sampling is None:
        return f"The exact test counts the images lost and gained, and allows for this: {caution}."
    low, high = verdict.sampling
    return (
        f"Of that, {low:+.4f} to {high:+.4f} is what the images were seen to vary by; the rest is "
        f"caution: {caution}."
    )
