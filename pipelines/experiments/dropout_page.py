"""The page of a comparison: its tables, what was compared in words, and what the figures show."""

from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from scipy.stats import t as student_t

from regrow.metrics.differences import Difference
from regrow.pipelines.experiments.contestants import DENSE, PRUNED, RANDOM, SCRATCH, Result
from regrow.pipelines.experiments.standings import Standing
from regrow.reporting.charts import Point
from regrow.reporting.markup import Markdown
from regrow.reporting.report import Report, ranged, signed

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

HOW = (
    "Differences, with 95 % intervals: over seeds, by Student's t of differences paired by "
    "seed; over images, for these very networks, by how thirds of the test images differ, the "
    "same ones for both sides and all seeds. A verdict needs both. Each interval stands for "
    "itself: of twenty comparisons without any difference, about one would seem to have one."
)


def fill(report: Report, standings: Sequence[Standing], batch: int) -> None:
    """Put figures, tables and words into a report.

    Args:
        report: The report.
        standings: All contestants, the dense one first.
        batch: Number of images of a batch.
    """
    dense, named = standings[0], {s.name: s for s in standings}
    differences = {s.name: s.against(dense) for s in standings[1:]}
    by_twin = {s.name: s.against(named[SCRATCH]) for s in standings if s.contestant.kind == PRUNED}
    report.set_score(dense.tests[0].name, fmean(dense.test))
    report.set(
        num_images=dense.tests[0].num_images,
        contestants={s.name: _figures(s) for s in standings},
        against_dense={name: _plain(found) for name, found in differences.items()},
        against_scratch={name: _plain(found) for name, found in by_twin.items()},
    )
    seeds = len(dense.results)
    report.say(
        f"{len(standings)} contestants, {seeds} seed{'s' * (seeds > 1)}, "
        f"{dense.tests[0].num_images} test images. {_equality(standings)}"
    )
    report.add_section("What dropout does and what pruning does", Markdown(WORDS))
    report.add_section("What the figures show", _shown(standings, differences, by_twin))
    _add_scores(report, standings)
    _add_differences(report, "Against the dense network", differences, HOW)
    _add_differences(report, "Pruned against the small architecture from scratch", by_twin)
    _add_costs(report, standings, batch)
    _add_compute(report, standings)


def points(standings: Sequence[Standing]) -> list[Point]:
    """Give score against latency of a batch, the range being that of the seeds."""
    return [Point(s.name, s.batch_ms, fmean(s.test), min(s.test), max(s.test)) for s in standings]


def _figures(standing: Standing) -> dict[str, Any]:
    return {
        "kind": standing.contestant.kind,
        "train": fmean(standing.train),
        "val": fmean(standing.val),
        "gap": fmean(standing.gaps),
        "test": fmean(standing.test),
        "by_seed": {
            "train": standing.train,
            "val": standing.val,
            "test": standing.test,
            "compute": [result.compute for result in standing.results],
            "budget": [result.budget for result in standing.results],
            "epochs": [result.epochs for result in standing.results],
            "val_after_cuts": [result.cuts for result in standing.results],
        },
        "cost": asdict(standing.cost)
        | {"batch_ms": standing.batch_ms, "memory_bytes": standing.memory},
    }


def _plain(found: dict[str, Difference]) -> dict[str, Any]:
    return {name: asdict(one) | {"verdict": one.verdict} for name, one in found.items()}


def _add_scores(report: Report, standings: Sequence[Standing]) -> None:
    first = standings[0]
    name, count = first.tests[0].name, len(first.results)
    rows = [
        [s.name, fmean(s.train), fmean(s.val), fmean(s.gaps), fmean(s.test), *_cuts(s)]
        for s in standings
    ]
    columns = ["contestant", "training", "validation", "gap", "test", "validation after each cut"]
    note = (
        f"Mean {name} of {count} seed{'s' * (count > 1)}. Training images are scored as they are, "
        f"without augmentation. The {first.tests[0].num_images} test images were looked at once, "
        "when all contestants were trained. After each cut: before any recovery, norms measured "
        "anew, first seed."
    )
    report.add_table("Scores", columns, rows, note)


def _cuts(standing: Standing) -> list[str]:
    return [", ".join(f"{score:.4g}" for score in standing.results[0].cuts)]


def _add_differences(
    report: Report, title: str, found: dict[str, dict[str, Difference]], note: str = ""
) -> None:
    columns = ["contestant", "test", "over seeds", "over images", "so test is"]
    columns += ["training", "over seeds", "validation", "over seeds", "gap", "over seeds"]
    rows = []
    for name, one in found.items():
        test = one["test"]
        row = [name, signed(test.mean), ranged(test.by_seed), ranged(test.by_image), test.verdict]
        for figure in ("train", "val", "gap"):
            row += [signed(one[figure].mean), ranged(one[figure].by_seed)]
        rows.append(row)
    report.add_table(title, columns, rows, note)


def _add_costs(report: Report, standings: Sequence[Standing], batch: int) -> None:
    columns = ["contestant", "parameters", "MACs", "1 image, ms", f"batch of {batch}, ms"]
    columns += ["peak memory of the batch, bytes", "file, bytes"]
    rows = [
        [s.name, s.cost.params, s.cost.macs, s.cost.latency_ms, s.batch_ms, s.memory, s.cost.bytes]
        for s in standings
    ]
    note = (
        "The networks of the first seed, in float32. Times are medians of rounds in which all "
        "architectures ran side by side; networks of one architecture share its measurement. On "
        "CUDA, times are those of CUDA events and memory is what PyTorch's allocator gave out; on "
        "the CPU, memory is weights and the tensors that exist at once."
    )
    report.add_table("Costs", columns, rows, note)


def _add_compute(report: Report, standings: Sequence[Standing]) -> None:
    rows = [[s.name, _phases(s), s.results[0].compute, f"{100 * s.spent:.1f} %"] for s in standings]
    epoch = 100 / standings[0].results[0].epochs
    note = (
        "Training images times multiply-accumulates of a forward pass at the network's size at the "
        "time, of the first seed; the last column is the mean of all seeds. The budget is that of "
        f"the dense network, of which one epoch is {epoch:.1f} %. Images that are read to score "
        "channels or to measure norms count too. Each contestant trains for the whole number of "
        "epochs that comes nearest to its rest of the budget. Recovery has the learning rate's "
        "schedule from its beginning (Renda et al. 2020, arXiv 2003.02389)."
    )
    report.add_table("Compute", ["contestant", "phases", "images x MACs", "of budget"], rows, note)


def _phases(standing: Standing) -> str:
    parts = [
        f"{phase.epochs} epochs at {phase.macs:,} MACs"
        if phase.epochs
        else f"{phase.images:,} images measured at {phase.macs:,}"
        for phase in standing.results[0].phases
        if phase.images
    ]
    return ", ".join(parts)


def _shown(
    standings: Sequence[Standing],
    differences: dict[str, dict[str, Difference]],
    by_twin: dict[str, dict[str, Difference]],
) -> str:
    dense, name = standings[0], standings[0].tests[0].name
    count = len(dense.results)
    lines = [
        f"The dense network reaches a test {name} of {fmean(dense.test):.4f} and a gap of "
        f"{signed(fmean(dense.gaps))} between training and validation images, which also choose "
        f"among rates and so flatter the chosen one a little. {_power(count)}",
    ]
    for family in _families(standings):
        best = max(family, key=lambda s: fmean(s.val))
        names = ", ".join(s.name for s in family)
        one = differences[best.name]
        lines.append(
            f"Of {names}, validation images choose {best.name}. The gap: {_told(one['gap'])}. "
            f"Test: {_told(one['test'])}. The network costs what the dense one costs."
        )
    for standing in standings:
        if standing.contestant.kind in (PRUNED, SCRATCH):
            one = differences[standing.name]
            sentence = f"{standing.name} {_share_of(standing, dense)}. Test: {_told(one['test'])}."
            if standing.name in by_twin:
                sentence += f" Against {SCRATCH}: {_told(by_twin[standing.name]['test'])}."
            lines.append(sentence)
    lot = next(s for s in standings if s.name == RANDOM)
    for standing in standings:
        if standing.contestant.kind == PRUNED and standing is not lot:
            one = standing.against(lot)
            lines.append(f"{standing.name} against {RANDOM}: {_told(one['test'])}.")
    return "\n".join(f"* {line}" for line in lines)


def _equality(standings: Sequence[Standing]) -> str:
    """Say whether compute was equal, as far as whole epochs can make it so."""
    dense = standings[0].results[0]
    epoch = dense.compute / dense.budget / dense.epochs
    spent = [standing.spent for standing in standings]
    off = [s.name for s in standings if abs(s.spent - 1) > epoch]
    said = f"The contestants spent {100 * min(spent):.1f} to {100 * max(spent):.1f} % of the budget"
    untrained = [s.name for s in standings if any(map(_ends_untrained, s.results))]
    if untrained:
        said = (
            f"Beware: {', '.join(untrained)} had no compute left to train after the last cut, so "
            f"its scores say little; give fit.epochs more. {said}"
        )
    if not off:
        return f"{said}: equal within one epoch of the dense network."
    return f"{said}; beware, {', '.join(off)} by more than an epoch more or less than the others."


def _ends_untrained(result: Result) -> bool:
    """Say whether a network was pruned and not trained after it."""
    recovered = [phase.epochs for phase in result.phases if phase.name == "recovery"]
    return bool(recovered) and not recovered[-1]


def _families(standings: Sequence[Standing]) -> list[list[Standing]]:
    """Group the kinds of dropout, each with its rates."""
    families: dict[type, list[Standing]] = {}
    for standing in standings:
        if standing.contestant.kind == "dropout":
            families.setdefault(type(standing.contestant.dropout), []).append(standing)
    return list(families.values())


def _power(count: int) -> str:
    if count < 2:
        return "One seed says nothing of how much chance has to do with it: nothing is decided."
    reach = student_t.ppf(0.975, count - 1)
    return (
        f"{count} seeds leave {count - 1} degree{'s' * (count > 2)} of freedom: an interval "
        f"reaches {reach:.1f} standard errors to either side, and small differences stay undecided."
    )


def _told(one: Difference) -> str:
    told = {
        "higher": "higher",
        "lower": "lower",
        "undecided": "which these seeds and images cannot tell from none",
    }[one.verdict]
    return f"{signed(one.mean)} {ranged(one.by_seed)}, {told}"


def _share_of(standing: Standing, dense: Standing) -> str:
    macs, params = (
        100 * getattr(standing.cost, name) / getattr(dense.cost, name)
        for name in ("macs", "params")
    )
    return (
        f"has {macs:.1f} % of the MACs and {params:.1f} % of the parameters of the "
        f"{DENSE} network, and takes {standing.batch_ms / dense.batch_ms:.2f} of its time for a "
        "batch"
    )
