"""Old and new network compared: on old images for forgetting, on new ones for learning."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from regrow.data.module import GrowingData
from regrow.data.snapshot import Manifest
from regrow.incremental.gating.ages import Age, Ages, ages_of, old_images
from regrow.incremental.gating.gate import Gate
from regrow.incremental.parent import Parent
from regrow.incremental.warm_start import WarmStart
from regrow.metrics.budget import foresee
from regrow.metrics.differences import part_of
from regrow.metrics.unseen import count_shown
from regrow.models.checkpoint import load_provenance
from regrow.models.task import Task
from regrow.training.evaluation import Evaluation

SPLITS = ("test", "val")  # the better one first: validation images chose the new network
CALLED = {"test": "test", "val": "validation"}


@dataclass(frozen=True, slots=True)
class Pair:
    """The evaluations of the old and the new network on the same images.

    Args:
        before: The old one.
        after: The new one.
    """

    before: Evaluation
    after: Evaluation


@dataclass(frozen=True, slots=True)
class Assessment:
    """The evaluations that measure forgetting and learning.

    Args:
        after: The new network on all images of a split, on which new classes are judged.
        split: That split, `test` or `val`.
        old: Both networks on the old images; None where none is at hand.
        old_split: The split of the old images.
        new: Both networks on the other images of `split` that the old one was not trained on.
        has_other_labels: Whether the old images have other labels by now: where none is left that
            has its own, they stand in.
        num_trained: Images of `split` left out of both, since the old network was trained on them.
        num_relabelled: Old images of `split` with another label now, which count as new.
    """

    after: Evaluation
    split: str
    old: Pair | None = None
    old_split: str = "test"
    new: Pair | None = None
    has_other_labels: bool = False
    num_trained: int = 0
    num_relabelled: int = 0


def assess(
    start: WarmStart,
    task: Task,
    data: GrowingData,
    found: Mapping[str, Evaluation],
    allow: tuple[str, ...] = (),
) -> Assessment:
    """Compare the old network with the new one, on old and on new images.

    Args:
        start: The start of the run.
        task: The new network.
        data: The data.
        found: Evaluations of the new network by split, `val` and perhaps `test`.
        allow: Other people's packages that the old network may come from.
    """
    ages = ages_at(start, data, [split for split in SPLITS if split in found])
    chosen = old_images(ages, data, start.old_names)
    splits = {ages[0].split} | ({chosen[0].split} if chosen else set())
    parent = Parent.of(start, allow)
    before = {split: parent.evaluate(task, data, split) for split in splits}
    return assessment_of(ages, chosen, before, found)


def assessment_of(
    ages: Sequence[Ages],
    chosen: tuple[Ages, Age] | None,
    before: Mapping[str, Evaluation],
    found: Mapping[str, Evaluation],
) -> Assessment:
    """Return what two networks gave, sorted by the images' ages.

    Args:
        ages: The ages of each split, the one that new images are taken of first.
        chosen: The split's ages, and the age of its images, that tell of forgetting.
        before: Evaluations of the old network by split.
        found: Evaluations of the new one by split.
    """
    first = ages[0]

    def pair(own: Ages, *kinds: Age) -> Pair | None:
        flags = own.are(*kinds)
        sides = (part(side[own.split], flags) for side in (before, found))
        return Pair(*sides) if any(flags) else None

    others: tuple[Age, ...] = ("new", "relabelled")
    if chosen is not None and chosen == (first, "relabelled"):
        others = ("new",)
    return Assessment(
        after=found[first.split],
        split=first.split,
        old=pair(*chosen) if chosen else None,
        old_split=chosen[0].split if chosen else first.split,
        new=pair(first, *others),
        has_other_labels=chosen is not None and chosen[1] == "relabelled",
        num_trained=first.count("trained"),
        num_relabelled=first.count("relabelled") if "relabelled" in others else 0,
    )


def ages_at(start: WarmStart, data: GrowingData, splits: Sequence[str]) -> list[Ages]:
    """Return the ages of the images of some splits, by the data that a run's parent names."""
    manifest = load_provenance(Path(start.parent)).manifest
    before = Manifest.from_dict(manifest) if manifest is not None else None
    return [ages_of(before, data, split, start.renamed, start.removed) for split in splits]


def part(whole: Evaluation, is_part: Sequence[bool]) -> Evaluation:
    """Return what a network reached on some of the images; NaN for a class that none shows."""
    evidence = part_of(whole.evidence, is_part)
    per_class = {}
    for place, name in enumerate(whole.per_class):
        own = evidence.only([place])
        is_shown = own.num_images and (not own.shown.shape[1] or own.shown.any())
        per_class[name] = own.score() if is_shown else math.nan
    value = evidence.score() if evidence.num_images else math.nan
    return Evaluation(whole.name, value, per_class, {}, evidence, evidence.num_images)


def foresee_gate(start: WarmStart, data: GrowingData, gate: Gate) -> str | None:
    """Return why the old images cannot decide about the gate's margin, before training.

    Args:
        start: The start of the run.
        data: The data.
        gate: The margin, the floor and the confidence.

    Returns:
        A line; None where they can, or the old network has no class left.
    """
    if not start.old_names:
        return None
    chosen = old_images(
        ages_at(start, data, [split for split in SPLITS if data.snapshot.indices(split)]),
        data,
        start.old_names,
    )
    if chosen is None:
        return (
            "no old test or validation image is at hand, so what is forgotten cannot be measured "
            "and the gate stays shut"
        )
    own, age = chosen
    known = {*start.old_names}
    pairs = zip(data.shown(own.split), own.are(age), strict=True)
    shown = count_shown([names & known for names, flag in pairs if flag], data.kind == "labels")
    return foresee(shown, gate.margin, gate.confidence, f"old {CALLED[own.split]} images")
