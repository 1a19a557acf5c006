"""The report page of dropout against pruning: its tables, and the methods and results in words."""

from collections.abc import Sequence
from typing import Any

from scipy.stats import t as student_t

from regrow.metrics.differences import Difference
from regrow.pipelines.experiments.comparison import Chart
from regrow.pipelines.experiments.contestants import DENSE, PRUNED, RANDOM, SCRATCH, Phase
from regrow.pipelines.experiments.measured import Measured
from regrow.pipelines.experiments.standings import (
    Differences,
    add_differences,
    differences_from,
    plain,
    point,
)
from regrow.reporting.markup import Markdown
from regrow.reporting.report import Report, ranged, signed
from regrow.text import plural

WORDS = """
**Dropout** changes how a network is trained, not what it is. In each step a random part of it is
silenced: single features before the last layer (dropout), whole channels (spatial dropout), or
square blocks of channels (DropBlock). No unit can rely on a certain other one, so the network fits
the training images less closely; what it is for is the gap between training and new images. When
training is over nothing is silenced: parameters, multiply-accumulates, latency and file are those
of the dense network.

**Pruning** changes what the network is. Channels are taken out for good, in every layer that
shares them, and the rest is trained on. The network has fewer parameters and multiply-accumulates,
a smaller file, and as much less latency as the device makes of that. That it generalises better is
not what it is for, though a smaller network can fit the training images less closely too.

**Targeted dropout** is where the two meet: it silences those units that pruning would remove, so
that the network has learned to do without them when they are cut. **From scratch** is the check on
pruning: the same small architecture with fresh weights and the same compute. **At random** is the
check on the ranking: channels taken out by lot.
"""

FIGURES = {"test": "test", "train": "training", "val": "validation", "gap": "gap"}
VERDICTS = {
    "higher": "higher",
    "lower": "lower",
    "undecided": "which these seeds and images cannot tell from none",
}


def fill(report: Report, standings: Sequence[Measured], batch: int) -> None:
    """Put figures, tables and words into a report.

    Args:
        report: The report.
        standings: All contestants, the dense one first.
        batch: Number of images of a batch.
    """
    dense, named = standings[0], {s.name: s for s in standings}
    from_dense = differences_from(dense, standings[1:])
    pruned = [s for s in standings if s.contestant.kind == PRUNED]
    from_twin = differences_from(named[SCRATCH], pruned)
    report.set_score(dense.score, dense.mean("test"))
    report.set(
        num_images=dense.num_images,
        contestants={s.name: _figures(s) for s in standings},
        against_dense=plain(from_dense),
        against_scratch=plain(from_twin),
    )
    report.say(
        f"{len(standings)} contestants, {plural(len(dense.trials), 'seed')}, "
        f"{dense.num_images} test images. {_equality(standings)}"
    )
    report.add_section("What dropout does and what pruning does", Markdown(WORDS))
    report.add_section("What the figures show", _shown(standings, from_dense, from_twin))
    _add_scores(report, standings)
    add_differences(report, "Against the dense network", from_dense, FIGURES)
    title = "Pruned against the small architecture from scratch"
    add_differences(report, title, from_twin, FIGURES, note="")
    _add_costs(report, standings, batch)
    _add_compute(report, standings)


def chart(standings: Sequence[Measured], batch: int) -> Chart:
    """Return the picture of scores against the time of a batch, the range being that of the seeds.

    Args:
        standings: All contestants.
        batch: Number of images of a batch.
    """
    return Chart(
        "score_against_latency",
        "compare",
        f"batch of {batch}, ms",
        "Mean test score against the time of a batch; lines span the seeds",
        [point(s.name, s.costs.batch_ms, s.figures["test"]) for s in standings],
    )


def _figures(standing: Measured) -> dict[str, Any]:
    trials, costs = standing.trials, standing.costs
    return {
        "kind": standing.contestant.kind,
        **{name: standing.mean(name) for name in ("train", "val", "gap", "test")},
        "by_seed": {
            **{name: standing.figures[name] for name in ("train", "val", "test")},
            "compute": [trial.compute for trial in trials],
            "budget": [trial.budget for trial in trials],
            "epochs": [trial.epochs for trial in trials],
            "val_after_cuts": [trial.cuts for trial in trials],
        },
        "cost": costs.cost.figures() | {"batch_ms": costs.batch_ms, "memory_bytes": costs.memory},
    }


def _add_scores(report: Report, standings: Sequence[Measured]) -> None:
    first = standings[0]
    rows = [
        [
            s.name,
            *(s.mean(name) for name in ("train", "val", "gap", "test")),
            ", ".join(f"{score:.4g}" for score in s.trials[0].cuts),
        ]
        for s in standings
    ]
    columns = ["contestant", "training", "validation", "gap", "test", "validation after each cut"]
    note = (
        f"Mean {first.score} of {plural(len(first.trials), 'seed')}. Training images are scored as "
        f"they are, without augmentation. The {first.num_images} test images were looked at once, "
        "when all contestants were trained. After each cut: before any recovery, norms measured "
        "anew, first seed."
    )
    report.add_table("Scores", columns, rows, note)


def _add_costs(report: Report, standings: Sequence[Measured], batch: int) -> None:
    columns = ["contestant", "parameters", "MACs", "1 image, ms", f"batch of {batch}, ms"]
    columns += ["peak memory of the batch, bytes", "file, bytes"]
    rows = []
    for standing in standings:
        costs, cost = standing.costs, standing.costs.cost
        row = [standing.name, cost.params, cost.macs, cost.latency_ms]
        rows.append([*row, costs.batch_ms, costs.memory, cost.file_bytes])
    note = (
        "The networks of the first seed, in float32. Times are medians of rounds in which all "
        "architectures ran side by side; networks of one architecture share its measurement. On "
        "CUDA, times are those of CUDA events and memory is what PyTorch's allocator gave out; on "
        "the CPU, memory is weights and the tensors that exist at once."
    )
    report.add_table("Costs", columns, rows, note)


def _add_compute(report: Report, standings: Sequence[Measured]) -> None:
    rows = []
    for standing in standings:
        trial = standing.trials[0]
        phases = ", ".join(_in_words(phase) for phase in trial.phases if phase.images)
        rows.append([standing.name, phases, trial.compute, f"{100 * standing.spent:.1f} %"])
    epoch = 100 / standings[0].trials[0].epochs
    note = (
        "Training images times multiply-accumulates of a forward pass at the network's size at the "
        "time, of the first seed; the last column is the mean of all seeds. The budget is that of "
        f"the dense network, of which one epoch is {epoch:.1f} %. Images that are read to score "
        "channels or to measure norms count too. Each contestant trains for the whole number of "
        "epochs that comes nearest to its rest of the budget. Recovery has the learning rate's "
        "schedule from its beginning (Renda et al. 2020, arXiv 2003.02389)."
    )
    report.add_table("Compute", ["contestant", "phases", "images x MACs", "of budget"], rows, note)


def _in_words(phase: Phase) -> str:
    if phase.epochs:
        return f"{plural(phase.epochs, 'epoch')} at {phase.macs:,} MACs"
    return f"{plural(phase.images, 'image')} measured at {phase.macs:,}"


def _shown(standings: Sequence[Measured], from_dense: Differences, from_twin: Differences) -> str:
    """Return what the figures show, a sentence or two for each contestant, as a list."""
    dense = standings[0]
    lines = [
        f"The dense network reaches a test {dense.score} of {dense.mean('test'):.4f} and a gap of "
        f"{signed(dense.mean('gap'))} between training and validation images, which also choose "
        f"among rates and so flatter the chosen one a little. {_power(len(dense.trials))}",
    ]
    for family in _families(standings):
        best = max(family, key=lambda s: s.mean("val"))
        names, one = ", ".join(s.name for s in family), from_dense[best.name]
        lines.append(
            f"Of {names}, validation images choose {best.name}. The gap: {_told(one['gap'])}. "
            f"Test: {_told(one['test'])}. The network costs what the dense one costs."
        )
    for standing in standings:
        if standing.contestant.kind in (PRUNED, SCRATCH):
            told = _told(from_dense[standing.name]["test"])
            sentence = f"{standing.name} {_share_of(standing, dense)}. Test: {told}."
            if standing.name in from_twin:
                sentence += f" Against {SCRATCH}: {_told(from_twin[standing.name]['test'])}."
            lines.append(sentence)
    lot = next(s for s in standings if s.name == RANDOM)
    for standing in standings:
        if standing.contestant.kind == PRUNED and standing is not lot:
            told = _told(standing.against(lot)["test"])
            lines.append(f"{standing.name} against {RANDOM}: {told}.")
    return "\n".join(f"* {line}" for line in lines)


def _equality(standings: Sequence[Measured]) -> str:
    """Return a sentence on whether compute was equal, as far as whole epochs can make it so."""
    dense = standings[0].trials[0]
    epoch = dense.share_spent / dense.epochs
    spent = [standing.spent for standing in standings]
    off = [s.name for s in standings if abs(s.spent - 1) > epoch]
    said = f"The contestants spent {100 * min(spent):.1f} to {100 * max(spent):.1f} % of the budget"
    untrained = [s.name for s in standings if any(trial.ends_untrained for trial in s.trials)]
    if untrained:
        said = (
            f"Beware: {', '.join(untrained)} had no compute left to train after the last cut, so "
            f"its scores say little; give fit.epochs more. {said}"
        )
    if not off:
        return f"{said}: equal within one epoch of the dense network."
    return f"{said}; beware, {', '.join(off)} by more than an epoch more or less than the others."


def _families(standings: Sequence[Measured]) -> list[list[Measured]]:
    """Group the kinds of dropout, each with its rates."""
    families: dict[type, list[Measured]] = {}
    for standing in standings:
        if standing.contestant.kind == "dropout":
            families.setdefault(type(standing.contestant.dropout), []).append(standing)
    return list(families.values())


def _power(num_seeds: int) -> str:
    if num_seeds < 2:
        return "One seed says nothing of how much chance has to do with it: nothing is decided."
    reach = student_t.ppf(0.975, num_seeds - 1)
    freedom = plural(num_seeds - 1, "degree")
    return (
        f"{num_seeds} seeds leave {freedom} of freedom: an interval reaches {reach:.1f} standard "
        "errors to either side, and small differences stay undecided."
    )


def _told(one: Difference) -> str:
    return f"{signed(one.mean)} {ranged(one.by_seed)}, {VERDICTS[one.verdict]}"


def _share_of(standing: Measured, dense: Measured) -> str:
    mine, whole = standing.costs, dense.costs
    macs, params = (
        100 * getattr(mine.cost, name) / getattr(whole.cost, name) for name in ("macs", "params")
    )
    return (
        f"has {macs:.1f} % of the MACs and {params:.1f} % of the parameters of the {DENSE} "
        f"network, and takes {mine.batch_ms / whole.batch_ms:.2f} of its time for a batch"
    )
