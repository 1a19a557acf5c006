"""Counts of what labels show once they are resized: boxes or pixels of each class.

A class whose count is 0 is shown in the file and lost by the resize.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from regrow.data.checks.remarks import Remarks
from regrow.data.images.transforms import MIN_SIDE
from regrow.data.snapshot import Snapshot
from regrow.data.splits import SPLITS
from regrow.data.targets.labels import OBJECT, VOID, Boxes, Item, Kind, Mask, Target
from regrow.errors import BadInput

Shown = Mapping[str | int, int]  # by class name, and by 255 for void
Size = tuple[int, int]  # height and width, in pixels

WORDS = {"train": "training", "val": "validation", "test": "test"}
WAYS_OUT = {
    "train": "add labels",
    "val": "its score would say nothing and could choose no network: add labelled images to it, "
    "or raise data.val_share where no split is official",
    "test": "its score would say nothing: add labelled images to it, or leave it out "
    "(data.test_share 0 where no split is official)",
}


def count_shown(target: Target, old: Size, new: Size, numbers: Mapping[int, int]) -> Shown:
    """Count the boxes or pixels of each class that a label shows after a resize.

    Args:
        target: The label.
        old: Height and width of the image in its file, in pixels.
        new: Height and width that it is resized to, in pixels.
        numbers: The number of pixels that each number of a mask's file has after the resize.

    Returns:
        By class 1 for the label of an image, else the number of boxes with sides of a pixel or
        more, or of pixels; 0 for what the resize loses. By 255 the pixels of a mask that have this
        number, where it is neither a class nor listed as void.
    """
    counts: Counter[str | int] = Counter()
    if isinstance(target, str):
        counts[target] = 1
    elif isinstance(target, Boxes):
        scale = np.array([new[1] / old[1], new[0] / old[0]])
        sides = (target.xyxy[:, 2:] - target.xyxy[:, :2]) * scale
        is_left = (sides >= MIN_SIDE).all(1).tolist()
        for name, mark, is_there in zip(target.classes, target.marks, is_left, strict=True):
            if mark == OBJECT:
                counts[name] += is_there
    else:
        for number, count in numbers.items():
            if number in target.names:
                counts[target.names[number]] += count
            elif number == VOID and VOID not in target.void:
                counts[VOID] += count
    return dict(counts)


def class_names(shown: Shown) -> set[str]:
    """Return the classes that a label shows, also those that a resize loses."""
    return {name for name in shown if isinstance(name, str)}


def remark_losses(
    items: Sequence[Item], shown: Sequence[Shown], size: Size, remarks: Remarks
) -> None:
    """Count the boxes and the classes of masks that a resize loses.

    Args:
        items: The images.
        shown: What `count_shown` says of each.
        size: Height and width that they are resized to, in pixels.
        remarks: What the counts are added to.
    """
    way_out = f"at data.size [{size[0]}, {size[1]}]; raise it"
    lost: dict[str, list[str]] = defaultdict(list)
    totals: Counter[str] = Counter()
    for item, counts in zip(items, shown, strict=True):
        if isinstance(item.target, Boxes):
            small = item.target.marks.count(OBJECT) - sum(counts.values())
            remarks.add(
                f"boxes are less than {MIN_SIDE:g} pixel wide or high {way_out}", item.name, small
            )
        elif isinstance(item.target, Mask):
            names = [name for name in counts if isinstance(name, str)]
            totals.update(names)
            for name in names:
                if not counts[name]:
                    lost[name].append(item.name)
    for name, images in lost.items():
        kind = f"of the {totals[name]:,} masks that show {name} lose all of it {way_out}"
        for image in images:
            remarks.add(kind, image)


def remark_unshown(snapshot: Snapshot, shown: Sequence[Shown], remarks: Remarks) -> None:
    """Count the classes that no image of a split shows."""
    for split in SPLITS:
        indices = snapshot.indices(split)
        seen = {name for index in indices for name, count in shown[index].items() if count}
        for name in snapshot.classes if indices else ():
            if name not in seen:
                remarks.add(f"classes that no {WORDS[split]} image shows", name)


def check_shown(
    snapshot: Snapshot, shown: Sequence[Shown], splits: Collection[str], where: str
) -> None:
    """Refuse splits whose images show nothing, so that nothing is learnt or measured on them.

    Args:
        snapshot: The images.
        shown: What `count_shown` says of each.
        splits: The splits to look at.
        where: What to call the data in an error.

    Raises:
        BadInput: If a split has images and shows none of the classes, or a mask has the number of
            void where a class that no training image shows may be meant.
    """
    classes = ", ".join(snapshot.classes)
    for split in splits:
        indices = snapshot.indices(split)
        # A box that a resize makes smaller than a pixel is still one to be found.
        is_box = snapshot.kind == "boxes"
        names = {n for index in indices for n, count in shown[index].items() if count or is_box}
        if indices and not names & {*snapshot.classes}:
            raise BadInput(
                f"{where}: no {WORDS[split]} image shows any of {classes}; {WAYS_OUT[split]}"
            )
        missing = ", ".join(name for name in snapshot.classes if name not in names)
        if split == "train" and missing and VOID in names:
            raise BadInput(
                f"{where}: masks have the number {VOID}, and no training image shows {missing}; "
                "in the file of classes, give the class that number, or list it as void"
            )


def census(
    snapshot: Snapshot, shown: Sequence[Shown], called: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Count the images of each split, and of each class its images, boxes or pixels there.

    Args:
        snapshot: The images.
        shown: What `count_shown` says of each.
        called: Names of classes to other names, such as those of a network's rows.

    Returns:
        By split `images`, and `classes`: by name `images`, and with boxes or masks `boxes` or
        `pixels`, as many as there are after the resize.
    """
    places = {name: (called or {}).get(name, name) for name in snapshot.classes}
    parts: dict[Kind, list[str]] = {"labels": [], "boxes": ["boxes"], "masks": ["pixels"]}
    found: dict[str, Any] = {}
    for split in SPLITS:
        indices = snapshot.indices(split)
        images, counts = _totals(shown[index] for index in indices)
        classes = {
            place: {"images": images[name], **{part: counts[name] for part in parts[snapshot.kind]}}
            for name, place in places.items()
        }
        found[split] = {"images": len(indices), "classes": classes}
    return found


def _totals(shown: Iterable[Shown]) -> tuple[Counter[str | int], Counter[str | int]]:
    """Return for each class the number of images that show it, and what they show of it."""
    images: Counter[str | int] = Counter()
    counts: Counter[str | int] = Counter()
    for own in shown:
        images.update(name for name, count in own.items() if count)
        counts.update(own)
    return images, counts
