"""What became of a warm start, told in its report: class by class, and what it cost."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import get_args

from regrow.incremental.gate import ClassChange, Decision, Fate, Gate, changes, judge
from regrow.incremental.start import Start
from regrow.models.evaluation import Evaluation
from regrow.models.report import Report, signed

SPLIT = {"test": "test", "val": "validation"}


def describe_start(report: Report, start: Start) -> None:
    """Say what changed in the data, and what there was of the old.

    Args:
        report: The report.
        start: The start of the run.
    """
    report.set(before_training={"score": start.score})
    change = start.diff["text"] if start.diff else "an unknown amount"
    report.say(
        f"The data changed by {change}; the old model scored {start.score:.4f} on the same "
        "images before training."
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
    report: Report, start: Start, epochs: int, scratch_epochs: int, num_images: int
) -> None:
    """Say how much was computed, beside what training from scratch on all images would have taken.

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
    report: Report,
    before: Evaluation | None,
    after: Evaluation,
    start: Start | None,
    split: str,
    gate: Gate,
) -> Decision:
    """Compare the networks class by class, aloud, and decide whether the new one may be served.

    Args:
        report: The report.
        before: The old network on the same images; None where there is none.
        after: The new network.
        start: The start of the run; None where it did not begin warm.
        split: What images these are, `test` or `val`.
        gate: The margin, the floor and the confidence.

    Returns:
        The decision.
    """
    old_names = start.old_names if start and before is not None else {}
    decision = judge(before, after, list(old_names), gate)
    report.set(judged={"images": SPLIT[split], "over_old_classes": decision.verdict})
    if before is None:
        rows = [[name, value] for name, value in after.per_class.items()]
        report.add_table("Classes", ["class", after.name], rows, f"On {SPLIT[split]} images.")
        return decision
    found = changes(before, after, list(old_names), gate)
    _add_classes(report, found, old_names, after, split, gate)
    fates = [change.fate for change in found.values()]
    told = [f"{fates.count(fate)} {fate}" for fate in get_args(Fate) if fate in fates]
    lines = [f"Of {len(found)} classes on {SPLIT[split]} images: {', '.join(told)}."]
    if decision.verdict is not None:
        low, high = (signed(end) for end in decision.verdict.interval)
        lines.append(f"Over the old classes {after.name} changed by {low} to {high}.")
    elif old_names:
        lines.append(
            f"Over the old classes {after.name} cannot be measured: no {SPLIT[split]} image of "
            "them is at hand."
        )
    for line in lines:
        report.say(line)
        print(line)
    return decision


def _add_classes(
    report: Report,
    found: Mapping[str, ClassChange],
    old_names: Mapping[str, str],
    after: Evaluation,
    split: str,
    gate: Gate,
) -> None:
    rows, figures = [], {}
    for name, change in found.items():
        old, new, ends = change.before, change.after, change.interval
        difference = None if old is None else new - old
        figures[name] = asdict(change) | {"change": difference}
        was = f" (was {old_names[name]})" if old_names.get(name, name) != name else ""
        interval = f"{signed(ends[0])} to {signed(ends[1])}" if ends else ""
        rows.append([name + was, old, new, signed(difference), interval, change.fate])
    report.set(per_class=figures)
    note = (
        f"Old and new model on the same {after.num_images} {SPLIT[split]} images. Each end of an "
        f"interval holds by itself at {100 * gate.confidence:g} %. Gained or forgotten: the "
        f"interval lies on one side of zero; kept: above {-100 * gate.margin:g} points; "
        "unmeasured: no image shows the class; else undecided."
    )
    columns = ["class", f"{after.name} before", "after", "change", "interval", ""]
    report.add_table("Classes", columns, rows, note)
