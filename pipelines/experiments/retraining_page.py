"""The page of a comparison of ways to retrain: what each kept, what it learned, and its cost."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean

from regrow.incremental.ages import Ages
from regrow.incremental.trial import part
from regrow.metrics.differences import Difference, differ, part_of
from regrow.metrics.evidence import Evidence
from regrow.pipelines.experiments.strategies import PARENT, SCRATCH, WORDS, Plan, Strategy, Trained
from regrow.reporting.charts import Point
from regrow.reporting.report import Report, ranged, signed
from regrow.training.evaluation import Evaluation

PARTS = ("early", "late", "all")
PART_WORDS = {
    "early": "test images of before",
    "late": "test images that came later",
    "all": "all test images of now",
}
HOW = (
    "Differences from training from scratch, with 95 % intervals: over seeds, by Student's t of "
    "differences paired by seed; over images, for these very networks, by how thirds of the test "
    "images differ. A verdict needs both. Each interval stands for itself."
)


def fill(
    report: Report,
    plan: Plan,
    trained: Mapping[Strategy, Sequence[Trained]],
    tests: Mapping[Strategy, Sequence[Evaluation]],
    ages: Ages,
) -> None:
    """Put figures, tables and words into a report.

    Args:
        report: The report.
        plan: What all strategies shared.
        trained: What each trained, one a seed.
        tests: Their evaluations on all test images, one a seed.
        ages: Which of these the old data had, with the same label.
    """
    parts = {
        "early": ages.are("old"),
        "late": ages.are("new", "relabelled"),
        "all": [True] * len(ages.ages),
    }
    known = set(plan.before.classes)
    evidence = {
        name: {p: [_evidence(t, flags, p, known) for t in own] for p, flags in parts.items()}
        for name, own in tests.items()
    }
    scores = {
        name: {p: [part.score() for part in own[p]] for p in PARTS if any(parts[p])}
        for name, own in evidence.items()
    }
    shown = [p for p in PARTS if any(parts[p])]
    found: dict[Strategy, dict[str, Difference]] = {
        name: {
            p: differ(scores[name][p], scores[SCRATCH][p], evidence[name][p], evidence[SCRATCH][p])
            for p in shown
        }
        for name in tests
        if name != SCRATCH
    }
    base = fmean(run.images for run in trained[SCRATCH])
    compute = {
        n: fmean(r.images for r in runs) / base for n, runs in trained.items() if n != PARENT
    }
    metric = tests[SCRATCH][0].name
    report.set_score(metric, fmean(scores[SCRATCH]["all"]))
    report.set(
        num_images={p: sum(parts[p]) for p in PARTS},
        strategies={
            name: {
                "scores": scores[name],
                "compute": compute.get(name),
                "seconds": [run.seconds for run in trained[name]],
            }
            for name in tests
        },
        against_scratch={
            name: {p: asdict(one) | {"verdict": one.verdict} for p, one in own.items()}
            for name, own in found.items()
        },
    )
    _say(report, plan, found, compute, metric, len(trained[SCRATCH]))
    if ages.count("trained"):
        report.say(
            f"{ages.count('trained')} test images are among those that the old network was trained "
            "on: they count with all test images alone."
        )
    columns = ["strategy", "which is", *(PART_WORDS[p] for p in shown), "of scratch's images"]
    rows = [
        [n, WORDS[n], *(fmean(scores[n][p]) for p in shown), f"{100 * compute.get(n, 0):.0f} %"]
        for n in tests
    ]
    counts = ", ".join(f"{sum(parts[p])} {PART_WORDS[p]}" for p in shown)
    note = f"Mean {metric} over seeds, on {counts}; on those of before, of the classes of before."
    report.add_table("Scores", columns, rows, note)
    columns = ["strategy", "images", "difference", "over seeds", "over images", "so it is"]
    rows = [
        [n, PART_WORDS[p], signed(one.mean), ranged(one.by_seed), ranged(one.by_image), one.verdict]
        for n, own in found.items()
        for p, one in own.items()
    ]
    report.add_table("Against scratch", columns, rows, HOW)
    for p in shown[:-1]:
        _add_classes(report, tests, p, parts[p], metric)


def _evidence(
    test: Evaluation, flags: Sequence[bool], name: str, known: Collection[str]
) -> Evidence:
    """Return what some images show; those of before are no test of classes that came later."""
    evidence = part_of(test.evidence, flags)
    if name != "early":
        return evidence
    return evidence.only([place for place, one in enumerate(test.per_class) if one in known])


def _add_classes(
    report: Report,
    tests: Mapping[Strategy, Sequence[Evaluation]],
    name: str,
    flags: Sequence[bool],
    metric: str,
) -> None:
    """Add the scores of each class on some of the images; old and new ones never together."""
    scores = {way: [part(test, flags).per_class for test in own] for way, own in tests.items()}
    rows = [
        [label, *(fmean(one[label] for one in own) for own in scores.values())]
        for label in tests[SCRATCH][0].per_class
    ]
    note = f"Mean {metric} over seeds, on {PART_WORDS[name]}."
    report.add_table(f"Classes, {PART_WORDS[name]}", ["class", *tests], rows, note)


def points(
    trained: Mapping[Strategy, Sequence[Trained]], tests: Mapping[Strategy, Sequence[Evaluation]]
) -> list[Point]:
    """Give score against training images, in thousands; the range being that of the seeds."""
    found = []
    for name, own in tests.items():
        images = 0.0 if name == PARENT else fmean(run.images for run in trained[name]) / 1000
        values = [test.value for test in own]
        found.append(Point(name, images, fmean(values), min(values), max(values)))
    return found


def _say(
    report: Report,
    plan: Plan,
    found: Mapping[Strategy, Mapping[str, Difference]],
    compute: Mapping[Strategy, float],
    metric: str,
    num_seeds: int,
) -> None:
    old, new = (len(d.snapshot.indices("train")) for d in (plan.before, plan.after))
    added = [name for name in plan.after.classes if name not in plan.before.classes]
    named = f"{len(added)} new class{'es' * (len(added) != 1)}"
    classes = f", {named} ({', '.join(added)})" if added else ""
    report.say(
        f"From {old:,} to {new:,} training images{classes}; {num_seeds} "
        f"seed{'s' * (num_seeds > 1)}."
    )
    for name, own in found.items():
        if name == PARENT:
            said = ", ".join(f"{signed(one.mean)} on {PART_WORDS[p]}" for p, one in own.items())
            report.say(f"Against training from scratch, the old network as it is has {said}.")
            continue
        said = ", ".join(
            f"{signed(one.mean)} {ranged(one.by_seed)} on {PART_WORDS[p]}" for p, one in own.items()
        )
        report.say(
            f"{name} ({WORDS[name]}), with {100 * compute[name]:.0f} % of the training images "
            f"that scratch goes through: {said}."
        )
