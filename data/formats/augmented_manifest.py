"""Rows of SageMaker's augmented manifests: an image with a class, boxes or a mask.

Source: the developer guide's pages on augmented manifests and on Ground Truth's output,
https://docs.aws.amazon.com/sagemaker/latest/dg/sms-data-output.html.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regrow.data.checks.faults import shown
from regrow.data.names.tidy import class_name, class_number, declared_size, mask_number
from regrow.data.targets.ignored import mark_of
from regrow.data.targets.labels import VOID, Boxes, Declared, Item, Kind, Mask, Target
from regrow.errors import BadInput
from regrow.files import one_line
from regrow.plain import MISSHAPEN

IMAGE_KEYS = ("source-ref", "image-ref")
METADATA, FILE = "-metadata", "-ref"
OWN_KEYS = ("image", "label", "split", "group", "attribute", "metadata")


def augmented_row(row: Mapping[str, Any], attribute: str | None, where: str) -> dict[str, Any]:
    """Return a row of an augmented manifest with the keys of any list; other rows as they are.

    Args:
        row: The row.
        attribute: The label attribute; None takes `class`, else the only one.
        where: What to call the row in an error.

    Returns:
        The row with `image`, `label`, the `attribute` that the label is of, and its `metadata`.

    Raises:
        BadInput: If it has several attributes and none is named.
    """
    image = next((row[key] for key in IMAGE_KEYS if key in row), None)
    if image is None:
        return {key: value for key, value in row.items() if key not in ("attribute", "metadata")}
    name = attribute or _only_attribute(row, where)
    # The developer guide has both ways for the metadata of a file.
    keys = (f"{name}{METADATA}", f"{name.removesuffix(FILE)}{METADATA}")
    found: dict[str, Any] = next((row[key] for key in keys if isinstance(row.get(key), dict)), {})
    label = found.get("class-name", row.get(name))
    return {**row, "image": image, "label": label, "attribute": name, "metadata": found}


def _only_attribute(row: Mapping[str, Any], where: str) -> str:
    names = [n for n in row if n not in (*IMAGE_KEYS, *OWN_KEYS) and not n.endswith(METADATA)]
    if "class" in names or not names:
        return "class"
    if len(names) > 1:
        raise BadInput(
            f"{where}: has the attributes {', '.join(names)}; name that of the label, "
            "data.source.attribute"
        )
    return names[0]


def mask_of(row: Mapping[str, Any]) -> Any:
    """Return the file of the mask that a row names, None where its label is no mask.

    Args:
        row: A row that `augmented_row` has seen.
    """
    label, attribute = row["label"], row.get("attribute")
    is_boxes = isinstance(label, dict) and row.get("metadata") is not None
    return label if attribute is not None and attribute.endswith(FILE) and not is_boxes else None


def target_of(
    row: Mapping[str, Any], mask: Path | None, num_classes: int | None, where: str
) -> Target:
    """Return the label of a row that `augmented_row` has returned.

    Args:
        row: The row.
        mask: The file of the mask, if it names one.
        num_classes: How many classes a mask has that names none.
        where: What to call the row in an error.

    Raises:
        BadInput: If it is none of the three.
    """
    label, metadata = row["label"], row.get("metadata")
    if mask is not None:
        numbers = _mask_names(metadata or {}, num_classes, where)
        return Mask(mask, numbers, frozenset({VOID} - numbers.keys()))
    if isinstance(label, dict) and metadata is not None:
        return boxes_of(label, _class_map(metadata, where), where)
    if isinstance(label, list | dict):
        raise BadInput(f"{where}: the label {shown(label)} is not one class name")
    return str(label)


def declared_of(row: Mapping[str, Any], where: str) -> Declared | None:
    """Return the size that a row says its image has.

    Ground Truth writes it beside the boxes of each attribute, those of earlier jobs too.

    Args:
        row: The row, or the content of SageMaker's JSON for an image.
        where: What to call it in an error.

    Returns:
        The size, 0 for what it does not say; None where it says neither height nor width.

    Raises:
        BadInput: If it says several.
    """
    parts = [row, *(value for value in row.values() if isinstance(value, dict))]
    said = [part["image_size"] for part in parts if part.get("image_size") is not None]
    sizes = set()
    try:
        for entries in said:
            entries = entries if isinstance(entries, list) else [entries]
            sizes |= {size for entry in entries if (size := declared_size(entry)) is not None}
    except MISSHAPEN as error:
        raise BadInput(f"{where}: its image_size is none ({one_line(error)})") from error
    if len(sizes) > 1:
        shown_sizes = " and ".join(f"{width}x{height}" for height, width, _ in sorted(sizes))
        raise BadInput(f"{where}: its image_size is {shown_sizes}; correct one")
    return sizes.pop() if sizes else None


def _class_map(metadata: Mapping[str, Any], where: str) -> dict[int, str]:
    names = metadata.get("class-map") or {}
    if not isinstance(names, dict):
        raise BadInput(f"{where}: its class-map {shown(names)} does not map numbers to names")
    pairs = [(class_number(k), class_name(v)) for k, v in names.items() if k.isdecimal()]
    if len(dict(pairs)) < len(pairs):
        raise BadInput(f"{where}: its class-map has a number twice; give each one name")
    return dict(pairs)


def _mask_names(metadata: Mapping[str, Any], num_classes: int | None, where: str) -> dict[int, str]:
    colors: Any = metadata.get("internal-color-map")
    if colors is None and num_classes is not None:
        return {number: str(number) for number in range(num_classes)}
    try:
        pairs = [
            (mask_number(n, where), class_name(entry["class-name"])) for n, entry in colors.items()
        ]
    except MISSHAPEN as error:
        raise BadInput(
            f"{where}: its metadata has no internal-color-map with a class-name for each number; "
            "say how many classes there are, data.source.num_classes"
        ) from error
    if len(dict(pairs)) < len(pairs):
        raise BadInput(f"{where}: its internal-color-map has a number twice; give each one name")
    return dict(pairs)


def boxes_of(content: Mapping[str, Any], names: Mapping[int, str], where: str) -> Boxes:
    """Return the boxes of one image.

    Args:
        content: Its `annotations`: `class_id`, `left`, `top`, `width` and `height` in pixels;
            perhaps `iscrowd` or `difficult`, where they were converted from COCO or VOC.
        names: Class numbers to names; a class that has none is called by its number.
        where: What to call it in an error.

    Raises:
        BadInput: If it is something else.
    """
    try:
        entries = content["annotations"]
        sides = [[float(e[k]) for k in ("left", "top", "width", "height")] for e in entries]
        classes = [class_number(entry["class_id"]) for entry in entries]
        marks = tuple(mark_of(entry) for entry in entries)
    except MISSHAPEN as error:
        raise BadInput(
            f"{where}: not SageMaker's boxes ({one_line(error)}); each of `annotations` has "
            "class_id, left, top, width and height"
        ) from error
    corners = np.array(sides, dtype=np.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    return Boxes(corners, tuple(names.get(number, str(number)) for number in classes), marks)


def by_number(names: Iterable[str]) -> list[str]:
    """Sort class names, those that are numbers first and by their value."""
    return sorted(names, key=lambda n: (not n.isdecimal(), int(n) if n.isdecimal() else 0, n))


def kind_and_classes(items: Sequence[Item], where: str) -> tuple[Kind, list[str]]:
    """Return the kind of a list's labels, and the classes that they name.

    Raises:
        BadInput: If there are several kinds.
    """
    kinds: dict[type, Kind] = {str: "labels", Boxes: "boxes", Mask: "masks"}
    found = {kinds[type(item.target)] for item in items}
    if len(found) > 1:
        raise BadInput(f"{where}: has {' and '.join(sorted(found))}; one kind of label in a list")
    names: set[str] = set()
    for item in items:
        target = item.target
        if isinstance(target, str):
            names.add(target)
        else:
            names.update(target.classes if isinstance(target, Boxes) else target.names.values())
    return found.pop(), by_number(names)
