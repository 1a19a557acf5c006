"""Checks of annotations against their images: sizes, boxes outside, unknown numbers."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from regrow.data.checks.edges import ROUNDING, hair
from regrow.data.checks.faults import BOXES, ROWS, Faults, shown
from regrow.data.checks.remarks import Remarks
from regrow.data.images.fingerprints import Fingerprint
from regrow.data.images.opening import is_turned_by_exif, num_channels
from regrow.data.targets.labels import VOID, Boxes, Item, Mask
from regrow.errors import BadInput

SHARE = 1.5  # the largest end of a box in shares of 1, by centre and size: 1 + 1 / 2
LARGE = 16  # pixels; a box within the first pixel of such an image is none in pixels
OTHER_CHANNELS = "images with another number of channels than their annotation says"
# Tools write 3 for any image, and grey ones are read as colours of three equal parts.
COLOURS = 3
CLIPPED = "boxes clipped at the edge of their image"


def with_known_labels(items: Sequence[Item], classes: Sequence[str], faults: Faults) -> list[Item]:
    """Return the items without labels that are none of the classes.

    Args:
        items: The items; what masks name is another matter, for all of them have it in common.
        classes: Class names.
        faults: Where images and boxes are noted that are none of them.
    """
    known, kept, listed = set(classes), [], shown(", ".join(classes))
    for item in items:
        target = item.target
        names: tuple[str, ...] = (target,) if isinstance(target, str) else ()
        names = target.classes if isinstance(target, Boxes) else names
        kind = BOXES if isinstance(target, Boxes) else ROWS
        strangers = [place for place, name in enumerate(names) if name not in known]
        for place in strangers:
            faults.add(
                f"{item.name}: its label {names[place]!r} is none of the classes "
                f"{listed}; add the class or correct the label",
                item.name,
                kind,
            )
        if isinstance(target, Boxes) and strangers:
            places = [place for place, name in enumerate(names) if name in known]
            kept.append(replace(item, target=_part(target, places)))
        elif not strangers:
            kept.append(item)
    return kept


def checked(
    item: Item,
    image: Fingerprint,
    mask: Fingerprint | None,
    faults: Faults,
    remarks: Remarks,
) -> Item | None:
    """Compare an item with its image.

    Args:
        item: The item.
        image: What is known of its image.
        mask: What is known of its mask, if it has one.
        faults: Where it is noted what is bad.
        remarks: Where it is counted what is changed.

    Returns:
        The item, its boxes clipped and without bad ones; None where it cannot be used at all.
    """
    with faults.row(item.name):
        _check_declared(item, image)
        remarks.add(OTHER_CHANNELS, item.name, int(_has_other_channels(item)))
        if isinstance(item.target, Mask) and mask is not None:
            _check_mask(item, item.target, image, mask)
        if isinstance(item.target, Boxes):
            boxes = _checked_boxes(item, item.target, image.size, faults, remarks)
            item = replace(item, target=boxes)
        return item
    return None


def _check_declared(item: Item, image: Fingerprint) -> None:
    """Refuse an image of another size than its annotation was made for."""
    said, own = item.declared, image.size
    if said is None or all(one in (0, other) for one, other in zip(said[:2], own, strict=True)):
        return
    file = item.image if isinstance(item.image, Path) else item.name
    is_turned = isinstance(item.image, Path) and is_turned_by_exif(item.image)
    turned = " (turned by its EXIF tag)" if is_turned else ""
    raise BadInput(
        f"{item.declared_by} says {said.width}x{said.height}, {file} is {own[1]}x{own[0]}{turned}; "
        "its labels would be misplaced: label it anew, or correct the size"
    )


def _has_other_channels(item: Item) -> bool:
    """Whether an annotation says another number of channels than the file has."""
    said = item.declared.channels if item.declared is not None else 0
    if said in (0, COLOURS) or not isinstance(item.image, Path):
        return False
    return said != num_channels(item.image)


def _check_mask(item: Item, target: Mask, image: Fingerprint, mask: Fingerprint) -> None:
    height, width = image.size
    if mask.size != image.size:
        raise BadInput(
            f"{item.name}: the mask is {mask.size[1]}x{mask.size[0]}, the image {width}x{height}"
            "; they must have the same size"
        )
    unknown = set(mask.numbers) - target.names.keys() - target.void - {VOID}
    if unknown:
        file = target.pixels if isinstance(target.pixels, Path) else item.name
        raise BadInput(
            f"{file}: the mask has the number {min(unknown)}, which is neither a "
            "class nor void; list it in the file of classes (SageMaker's masks: raise "
            "num_classes, or put it in the label map), or correct the mask"
        )


def _checked_boxes(
    item: Item, target: Boxes, size: tuple[int, int], faults: Faults, remarks: Remarks
) -> Boxes:
    """Return the boxes of an image that can be used, clipped at its edge."""
    limits = np.array([size[1], size[0]] * 2, dtype=np.float32)
    xyxy = target.xyxy.astype(np.float32)
    out = np.maximum(-xyxy, xyxy - limits)  # how far each side lies outside, (n, 4)
    inside = np.clip(xyxy, 0, limits)
    is_near = (out <= hair(limits)).all(1)  # not so where a corner is no number
    is_sound = is_near & (inside[:, 2:] > inside[:, :2]).all(1)
    is_clipped = is_sound & (out > ROUNDING).any(1)
    xyxy[is_clipped] = inside[is_clipped]
    _refuse_shares(item, inside[is_sound], size)
    remarks.add(CLIPPED, item.name, int(is_clipped.sum()))
    for place in np.flatnonzero(~is_sound):
        corners = ", ".join(f"{value:g}" for value in target.xyxy[place])
        faults.add(
            f"{item.name}: the box ({corners}) is empty or outside of its image of "
            f"{size[1]}x{size[0]}; correct or remove it",
            item.name,
            BOXES,
        )
    if is_sound.all() and not is_clipped.any():
        return target
    return _part(replace(target, xyxy=xyxy), np.flatnonzero(is_sound).tolist())


def _part(target: Boxes, places: Sequence[int]) -> Boxes:
    """Return some of the boxes of an image."""
    names = tuple(target.classes[place] for place in places)
    marks = tuple(target.marks[place] for place in places)
    return Boxes(target.xyxy[list(places)], names, marks)


def _refuse_shares(item: Item, xyxy: np.ndarray, size: tuple[int, int]) -> None:
    if len(xyxy) and xyxy.max() <= SHARE and min(size) >= LARGE:
        raise BadInput(
            f"{item.name}: all its boxes lie within the first pixel of {size[1]}x{size[0]}; they "
            "look like shares of 1: multiply them by width and height"
        )
