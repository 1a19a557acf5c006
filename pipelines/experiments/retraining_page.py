"""The report page of ways to retrain: scores on old and on later test images, and the cost."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from regrow.incremental.gating.ages import Ages
from regrow.incremental.gating.assessment import part
from regrow.metrics.differences import part_of
from regrow.metrics.evidence import Evidence
from regrow.pipelines.experiments.comparison import Chart
from regrow.pipelines.experiments.standings import (
    Differences,
    Standing,
    add_differences,
    differences_from,
    plain,
    point,
)
from regrow.pipelines.experiments.strategies import (
    PARENT,
    SCRATCH,
    Retraining,
    RetrainingTrial,
    Strategy,
)
from regrow.reporting.report import Report, ranged, signed
from regrow.text import plural
from regrow.training.evaluation import Evaluation

PART_WORDS = {
    "early": "test images of before",
    "late": "test images that came later",
    "all": "all test images of now",
}
Parts = Mapping[str, Sequence[bool]]


@dataclass(frozen=True, slots=True)
class Retrained(Standing):
    """The standing of one strategy: its scores on `early`, `late` and `all` test images.

    Args:
        name: Its name.
        figures: Its scores on the parts of the test images that there are, one a seed.
        evidence: What the images of each part showed, one a seed.
        strategy: The strategy.
        trials: Its trials, one a seed.
        tests: Its evaluations on all test images, one a seed.
    """

    strategy: Strategy
    trials: tuple[RetrainingTrial, ...]
    tests: tuple[Evaluation, ...]

    @property
    def images(self) -> float:
        """Return the training images that it went through, averaged over seeds."""
        return fmean(trial.images for trial in self.trials)


def parts_of(ages: Ages) -> dict[str, list[bool]]:
    """Return for each part of the test images which of them it holds.

    Args:
        ages: Which test images the old data had, with the same label.
    """
    return {
        "early": ages.are("old"),
        "late": ages.are("new", "relabelled"),
        "all": [True] * len(ages.ages),
    }


def standing(
    strategy: Strategy,
    trials: Sequence[RetrainingTrial],
    tests: Sequence[Evaluation],
    parts: Parts,
    known: Collection[str],
) -> Retrained:
    """Return the standing of a strategy.

    Args:
        strategy: The strategy.
        trials: Its trials, one a seed.
        tests: Its evaluations on all test images of now, one a seed.
        parts: As `parts_of` returns them; one without images has no score.
        known: The classes of the old data.
    """
    evidence = {
        name: [_evidence(test, flags, known if name == "early" else None) for test in tests]
        for name, flags in parts.items()
        if any(flags)
    }
    figures = {name: [one.score() for one in own] for name, own in evidence.items()}
    return Retrained(strategy.name, figures, evidence, strategy, tuple(trials), tuple(tests))


def _evidence(test: Evaluation, flags: Sequence[bool], known: Collection[str] | None) -> Evidence:
    """Return what some images show, of some classes: those of before are no test of later ones."""
    evidence = part_of(test.evidence, flags)
    if known is None:
        return evidence
    return evidence.only([place for place, one in enumerate(test.per_class) if one in known])


def fill(report: Report, setup: Retraining, standings: Sequence[Retrained], ages: Ages) -> None:
    """Put figures, tables and words into a report.

    Args:
        report: The report.
        setup: What all strategies shared.
        standings: All strategies.
        ages: Which test images the old data had, with the same label.
    """
    parts = parts_of(ages)
    scratch = next(one for one in standings if one.strategy == SCRATCH)
    found = differences_from(scratch, [one for one in standings if one is not scratch])
    compute = {one.name: one.images / scratch.images for one in standings}
    del compute[PARENT.name]  # which was trained before, and costs nothing now
    report.set_score(scratch.tests[0].name, scratch.mean("all"))
    report.set(
        num_images={name: sum(flags) for name, flags in parts.items()},
        strategies={
            one.name: {
                "scores": one.figures,
                "compute": compute.get(one.name),
                "seconds": [trial.seconds for trial in one.trials],
            }
            for one in standings
        },
        against_scratch=plain(found),
    )
    _say_data(report, setup, len(scratch.trials))
    for one in standings:
        if one is not scratch:
            _say(report, one, found, compute)
    if ages.count("trained"):
        report.say(
            f"{ages.count('trained')} test images are among those that the old network was trained "
            "on: they count with all test images alone."
        )
    _add_scores(report, standings, parts, compute)
    add_differences(report, "Against scratch", found, PART_WORDS)
    for name in ("early", "late"):
        if any(parts[name]):
            _add_classes(report, standings, name, parts[name])


def chart(standings: Sequence[Retrained]) -> Chart:
    """Return the picture of scores against training images, the range being that of the seeds."""
    return Chart(
        "score_against_images",
        "retrain",
        "training images, thousands",
        "Mean test score against the training images gone through; lines span the seeds",
        [
            point(
                one.name,
                0.0 if one.strategy == PARENT else one.images / 1000,
                [test.value for test in one.tests],
            )
            for one in standings
        ],
    )


def _say_data(report: Report, setup: Retraining, num_seeds: int) -> None:
    old, new = (len(d.snapshot.indices("train")) for d in (setup.before, setup.after))
    added = [name for name in setup.after.classes if name not in setup.before.classes]
    named = ""
    if added:
        named = f", {plural(len(added), 'new class', 'es')} ({', '.join(added)})"
    report.say(f"From {old:,} to {new:,} training images{named}; {plural(num_seeds, 'seed')}.")


def _say(report: Report, one: Retrained, found: Differences, compute: Mapping[str, float]) -> None:
    own = found[one.name]
    if one.strategy == PARENT:
        said = ", ".join(f"{signed(own[p].mean)} on {PART_WORDS[p]}" for p in own)
        report.say(f"Against training from scratch, the old network as it is has {said}.")
        return
    said = ", ".join(
        f"{signed(own[p].mean)} {ranged(own[p].by_seed)} on {PART_WORDS[p]}" for p in own
    )
    report.say(
        f"{one.name} ({one.strategy.words}), with {100 * compute[one.name]:.0f} % of the training "
        f"images that scratch goes through: {said}."
    )


def _add_scores(
    report: Report, standings: Sequence[Retrained], parts: Parts, compute: Mapping[str, float]
) -> None:
    shown = {name: flags for name, flags in parts.items() if any(flags)}
    columns = ["strategy", "which is", *(PART_WORDS[p] for p in shown), "of scratch's images"]
    rows = [
        [
            one.name,
            one.strategy.words,
            *(one.mean(name) for name in shown),
            f"{100 * compute.get(one.name, 0):.0f} %",
        ]
        for one in standings
    ]
    counts = ", ".join(f"{sum(flags)} {PART_WORDS[name]}" for name, flags in shown.items())
    note = (
        f"Mean {standings[0].tests[0].name} over seeds, on {counts}; on those of before, of the "
        "classes of before."
    )
    report.add_table("Scores", columns, rows, note)


def _add_classes(
    report: Report, standings: Sequence[Retrained], name: str, flags: Sequence[bool]
) -> None:
    """Add the scores of each class on some of the images; old and new ones never together."""
    scores = {one.name: [part(test, flags).per_class for test in one.tests] for one in standings}
    scratch = next(one for one in standings if one.strategy == SCRATCH)
    rows = [
        [label, *(fmean(seed[label] for seed in own) for own in scores.values())]
        for label in scratch.tests[0].per_class
    ]
    note = f"Mean {scratch.tests[0].name} over seeds, on {PART_WORDS[name]}."
    report.add_table(f"Classes, {PART_WORDS[name]}", ["class", *scores], rows, note)
