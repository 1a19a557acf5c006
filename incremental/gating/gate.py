"""Whether a new network may take the place of the old one: for each class, and as a whole."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from regrow.errors import BadInput
from regrow.metrics.budget import Budget, Verdict, decide
from regrow.metrics.intervals import paired_interval
from regrow.training.evaluation import Evaluation

Fate = Literal["kept", "gained", "forgotten", "undecided", "unmeasured", "new"]


@dataclass(frozen=True)  # slots would hide its defaults from the command line
class Gate:
    """The gate: the least that a new network must keep and reach to be served.

    A served network is not replaced by one that may have forgotten: where the old images do not
    decide about the margin, or there are none, the gate is shut, and says how many would decide.

    Args:
        margin: Largest accepted drop of the score over the classes that the old network knew, a
            share in [0, 1].
        floor: Least score of each new class, in [0, 1].
        confidence: Confidence of the decision about the margin, in [0.5, 1).

    Raises:
        BadInput: If a value is out of range.
    """

    margin: float = 0.01
    floor: float = 0.5
    confidence: float = 0.95

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name, value in (("margin", self.margin), ("floor", self.floor)):
            if not 0 <= value <= 1:
                raise BadInput(f"gate.{name} is {value}, it must lie in [0, 1]")
        if not 0.5 <= self.confidence < 1:
            raise BadInput(f"gate.confidence is {self.confidence}, it must lie in [0.5, 1)")


@dataclass(frozen=True, slots=True)
class ClassChange:
    """The score of one class before and after, and its fate.

    Args:
        before: The old network's score; None for a new class. NaN where no image shows the class.
        after: The new network's.
        interval: Low and high end of the difference, each alone at a confidence; None for a new
            class, and where no image shows the class.
        fate: `gained` or `forgotten` where the interval lies on one side of zero, `kept` where it
            lies above minus the margin, else `undecided`; `unmeasured` where no image shows it.
        num_images: Number of images that show it.
    """

    before: float | None
    after: float
    interval: tuple[float, float] | None
    fate: Fate
    num_images: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the new network may be served, and why.

    Args:
        is_passed: Whether it may.
        reasons: The reasons against it, a line each.
        verdict: On the classes that the old network knew; None where no image shows one.
    """

    is_passed: bool
    reasons: list[str]
    verdict: Verdict | None


def changes(
    before: Evaluation, after: Evaluation, known: Sequence[str], gate: Gate
) -> dict[str, ClassChange]:
    """Compare two networks class by class, on the same images.

    Args:
        before: Evaluation of the old network, for the classes of the new one.
        after: Evaluation of the new one.
        known: The classes that the old network knew.
        gate: The margin and the confidence.

    Returns:
        One change a class, in the order of the new network.
    """
    found = {}
    for place, (name, value) in enumerate(after.per_class.items()):
        old, new = before.evidence.only([place]), after.evidence.only([place])
        count = int(new.images_by_class.sum()) if new.shown.shape[1] else new.num_images
        if name not in known:
            found[name] = ClassChange(None, value, None, "new", count)
            continue
        if math.isnan(value):
            found[name] = ClassChange(before.per_class[name], value, None, "unmeasured")
            continue
        low, high = paired_interval(old, new, gate.confidence)
        fate: Fate = "kept" if low >= -gate.margin else "undecided"
        fate = "gained" if low > 0 else "forgotten" if high < 0 else fate
        found[name] = ClassChange(before.per_class[name], value, (low, high), fate, count)
    return found


def judge(
    before: Evaluation | None,
    after: Evaluation,
    known: Sequence[str],
    gate: Gate,
    everything: Evaluation | None = None,
) -> Decision:
    """Decide whether a new network may be served.

    Args:
        before: Evaluation of the old network on old images; None where there is none of them.
        after: Evaluation of the new one on these.
        known: The classes that the old network knew; none where there is no old network.
        gate: The margin, the floor and the confidence.
        everything: Evaluation of the new one on all images, on which new classes are judged; by
            default `after`.

    Returns:
        The decision: the score over the known classes must not be worse than the margin allows, at
        the confidence, which takes images that show them, and enough of them; and each new class
        must reach the floor.
    """
    everything = after if everything is None else everything
    reasons = [
        f"{name}: {after.name} {value:.4f} is below the floor of {gate.floor:g}"
        if not math.isnan(value)
        else f"{name}: no image shows it, so it cannot be said to reach the floor"
        for name, value in everything.per_class.items()
        if name not in known and not value >= gate.floor
    ]
    verdict = None
    if known:
        verdict = _over(before, after, known, gate) if before is not None else None
        if verdict is None or verdict.is_met is not True:
            reasons.insert(0, _unmet(verdict, after.name, gate))
    return Decision(not reasons, reasons, verdict)


def _over(
    before: Evaluation, after: Evaluation, known: Sequence[str], gate: Gate
) -> Verdict | None:
    """Decide about the classes that the old network knew; None where no image shows one."""
    if all(math.isnan(value) for name, value in after.per_class.items() if name in known):
        return None
    places = [place for place, name in enumerate(after.per_class) if name in known]
    parts = before.evidence.only(places), after.evidence.only(places)
    return decide(*parts, Budget(gate.margin, gate.confidence))


def in_words(verdict: Verdict, gate: Gate) -> str:
    """Return what a verdict over the old classes means for the margin, as a clause."""
    margin = f"the margin of {100 * gate.margin:g}"
    if verdict.is_met is not True and verdict.is_met is not False:
        needed = f"; about {verdict.num_needed:,} would decide" if verdict.num_needed else ""
        return f"which does not decide about {margin}{needed}"
    return f"which is {'no worse' if verdict.is_met else 'worse'} than {margin}"


def _unmet(verdict: Verdict | None, name: str, gate: Gate) -> str:
    if verdict is None:
        return f"{name} over the old classes cannot be measured: no old image shows one"
    low, high = (f"{100 * end:+.2f}" for end in verdict.interval)
    return (
        f"{name} over the old classes changed by {low} to {high} points on {verdict.num_images} "
        f"old images, {in_words(verdict, gate)}"
    )
