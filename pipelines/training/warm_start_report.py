"""The report of a warm start: scores class by class, and the compute."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, get_args

from regrow.incremental.gating.assessment import CALLED, Assessment
from regrow.incremental.gating.gate import (
    ClassChange,
    Decision,
    Fate,
    Gate,
    changes,
    in_words,
    judge,
)
from regrow.incremental.warm_start import WarmStart
from regrow.logs import log
from regrow.metrics.intervals import paired_interval
from regrow.reporting.report import Report, signed

# What the fates of classes are called where nothing can be forgotten.
ON_NEW_IMAGES: dict[Fate, str] = {
    "kept": "no worse",
    "gained": "gained",
    "forgotten": "worse",
    "undecided": "undecided",
    "unmeasured": "unmeasured",
    "new": "new",
}


def describe_start(report: Report, start: WarmStart) -> None:
    """Report what changed in the data, and what there was of the old.

    Args:
        report: The report.
        start: The start of the run.
    """
    report.set(before_training={"score": start.score})
    change = start.diff["text"] if start.diff else "an unknown amount"
    report.say(
        f"The data changed by {change}; the old model scored {start.score:.4f} on the "
        "validation images before training."
    )
    if start.num_leaked:
        report.say(
            f"Beware: the old model was trained on {start.num_leaked} of the validation and "
            "test images, so its score is too high."
        )
    history = start.history
    if history.has_memory:
        report.say(
            f"A memory of {history.num_known} images stood for those that it was trained on."
        )
        if all(part.is_memory for part in history.parts):
            report.say("Old images in the scores are the memory's alone.")
    elif history.forgets:
        report.say("It was trained on new images alone.")
    elif history.num_known is not None and history.num_known < history.num_old:
        less = ", less those of removed classes," if start.removed else ""
        report.say(
            f"Of the {history.num_old} images that the old model was trained on{less} "
            f"{history.num_known} are still in the data."
        )
    report.set(growth={"taught": start.taught, "anchor": start.anchor})
    if start.taught:
        report.say(f"The old network taught it, with weight {start.taught:g} in the loss.")
    if start.anchor:
        report.say(
            f"What is kept lies {start.anchor:g} of the way back from the trained weights to the "
            "old ones."
        )


def describe_compute(
    report: Report, start: WarmStart, epochs: int, scratch_epochs: int, num_images: int
) -> None:
    """Report the compute, beside an estimate for training from scratch on all images.

    Args:
        report: The report.
        start: The start of the run.
        epochs: The epochs of this run.
        scratch_epochs: Those of the training that its first ancestor began with; 0 if unknown.
        num_images: Training images of an epoch.
    """
    images, scratch = epochs * num_images, scratch_epochs * start.history.num_all
    report.set(compute={"images": images, "scratch_estimate": scratch or None})
    told = f"It went through {images:,} training images"
    if scratch:
        told += (
            f", {100 * images / scratch:.0f} % of the {scratch:,} that the {scratch_epochs} epochs "
            "of the first training would have taken from scratch"
        )
    report.say(f"{told}.")


def describe_outcome(
    report: Report, outcome: Assessment, start: WarmStart | None, gate: Gate
) -> Decision:
    """Report both networks class by class, and decide whether the new one may be served.

    What is kept and forgotten is a matter of old images alone; what new images show is gained.

    Args:
        report: The report.
        outcome: The evaluations of both networks.
        start: The start of the run; None where it did not begin warm.
        gate: The margin, the floor and the confidence.

    Returns:
        The decision.
    """
    after, old, new = outcome.after, outcome.old, outcome.new
    known = list(start.old_names) if start else []
    sides = (old.before, old.after) if old else (None, after)
    decision = judge(sides[0], sides[1], known, gate, everything=after)
    report.set(judged=_judged(outcome, decision, gate))
    if start is None:
        rows = [[name, value] for name, value in after.per_class.items()]
        report.add_table(
            "Classes", ["class", after.name], rows, f"On {CALLED[outcome.split]} images."
        )
        return decision
    found = _fates(outcome, known, gate)
    fresh = changes(new.before, new.after, known, gate) if new else {}
    _add_classes(report, found, fresh, start.old_names, outcome, gate)
    for line in _told(outcome, decision, found, known, gate):
        report.say(line)
        log.info(line)
    return decision


def _judged(outcome: Assessment, decision: Decision, gate: Gate) -> dict[str, Any]:
    """Return the figures of all classes together."""
    old, new = outcome.old, outcome.new
    fresh = None
    if new is not None:
        ends = paired_interval(new.before.evidence, new.after.evidence, gate.confidence)
        fresh = {"before": new.before.value, "after": new.after.value, "interval": ends}
    return {
        "images": CALLED[outcome.old_split],
        "num_old": old.after.num_images if old else 0,
        "has_other_labels": outcome.has_other_labels,
        "over_old_classes": decision.verdict,
        "num_new": new.after.num_images if new else 0,
        "over_new_images": fresh,
        "num_trained": outcome.num_trained,
        "num_relabelled": outcome.num_relabelled,
    }


def _fates(outcome: Assessment, known: Sequence[str], gate: Gate) -> dict[str, ClassChange]:
    """Return the change of each class on old images, and of new classes on all images."""
    old = outcome.old
    found = changes(old.before, old.after, known, gate) if old else {}
    nothing = ClassChange(math.nan, math.nan, None, "unmeasured")
    return {
        name: found.get(name, nothing) if name in known else ClassChange(None, value, None, "new")
        for name, value in outcome.after.per_class.items()
    }


def _told(
    outcome: Assessment,
    decision: Decision,
    found: Mapping[str, ClassChange],
    known: Sequence[str],
    gate: Gate,
) -> Iterator[str]:
    """Yield sentences on what was kept and what was gained."""
    after, old, new, what = outcome.after, outcome.old, outcome.new, CALLED[outcome.split]
    where = f"old {CALLED[outcome.old_split]} images"
    fates = [change.fate for change in found.values()]
    told = [f"{fates.count(fate)} {fate}" for fate in get_args(Fate) if fate in fates]
    yield f"Of {len(found)} classes on {where}: {', '.join(told)}."
    if decision.verdict is not None:
        low, high = (signed(end) for end in decision.verdict.interval)
        yield (
            f"Over the old classes {after.name} changed by {low} to {high} on "
            f"{decision.verdict.num_images} {where}, {in_words(decision.verdict, gate)}."
        )
    elif known:
        yield (
            f"Over the old classes {after.name} cannot be measured: no old {what} or validation "
            "image of them is at hand."
        )
    if outcome.old_split != outcome.split and old is not None:
        yield (
            f"No old {what} image is at hand: {where} stand in, which also chose the new model, so "
            "that it looks a little better than it is."
        )
    if outcome.has_other_labels:
        yield "No old image has the label of then any more: those that it has now stand in."
    if new is not None:
        low, high = (
            signed(end)
            for end in paired_interval(new.before.evidence, new.after.evidence, gate.confidence)
        )
        yield (
            f"On {new.after.num_images} new {what} images {after.name} went from "
            f"{new.before.value:.4f} to {new.after.value:.4f}, a change of {low} to {high}."
        )
    if outcome.num_relabelled:
        yield f"Of these {outcome.num_relabelled} are old images with another label now."
    if outcome.num_trained:
        yield (
            f"The old model was trained on {outcome.num_trained} of the {what} images: they are no "
            "test of what it keeps, and are left out."
        )


def _add_classes(
    report: Report,
    found: Mapping[str, ClassChange],
    fresh: Mapping[str, ClassChange],
    old_names: Mapping[str, str],
    outcome: Assessment,
    gate: Gate,
) -> None:
    rows, figures = [], {}
    for name, change in found.items():
        new = fresh.get(name)
        figures[name] = _figures(change) | {"new_images": _figures(new) if new else None}
        was = f" (was {old_names[name]})" if old_names.get(name, name) != name else ""
        row = [name + was, *_cells(change), change.fate]
        if fresh:
            row += [*_cells(new), ON_NEW_IMAGES[new.fate]] if new else [""] * 5
        rows.append(row)
    report.set(per_class=figures)
    num_old = outcome.old.after.num_images if outcome.old else 0
    note = (
        f"Old and new model on the same {num_old} old {CALLED[outcome.old_split]} images, those "
        "that the old model's data had, and did not train on. Each end of an "
        f"interval holds by itself at {100 * gate.confidence:g} %. Gained or forgotten: the "
        f"interval lies on one side of zero; kept: above {-100 * gate.margin:g} points; "
        "unmeasured: no image shows the class; else undecided. New classes: on all images."
    )
    columns = ["class", f"{outcome.after.name} before", "after", "change", "interval", ""]
    if fresh and outcome.new is not None:
        columns += ["on new images before", "after", "change", "interval", ""]
        count = outcome.new.after.num_images
        note += f" On the right the {count} new {CALLED[outcome.split]} images, by the same rules."
    report.add_table("Classes", columns, rows, note)


def _figures(change: ClassChange) -> dict[str, Any]:
    return asdict(change) | {"change": _difference(change)}


def _difference(change: ClassChange) -> float | None:
    return None if change.before is None else change.after - change.before


def _cells(change: ClassChange) -> list[Any]:
    ends = change.interval
    interval = f"{signed(ends[0])} to {signed(ends[1])}" if ends else ""
    return [change.before, change.after, signed(_difference(change)), interval]
