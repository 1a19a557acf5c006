"""The table of boxes of TensorFlow's tutorials: CSV with a row a box, several an image.

Source: https://github.com/datitran/raccoon_dataset, `xml_to_csv.py`, whose columns are those of
TensorFlow's object detection tutorials.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from regrow.data.checks.faults import BOXES, Faults

COLUMNS = ("filename", "class", "xmin", "ymin", "xmax", "ymax")


def is_box_table(values: Mapping[str, Any]) -> bool:
    """Whether a row of a table is a box."""
    return all(column in values for column in COLUMNS)


def by_image(
    rows: Iterable[tuple[str, Mapping[str, Any]]], faults: Faults
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Gather the rows of each image into one as an augmented manifest has it.

    Args:
        rows: What to call each row, and the row; one without a class is an image without a box.
        faults: Where boxes are noted that cannot be used.
    """
    images: dict[str, tuple[str, dict[str, Any]]] = {}
    names: dict[str, int] = {}
    for where, row in rows:
        image = (row["filename"] or "").strip()
        start: dict[str, Any] = {
            "image": image,
            "label": {"annotations": [], "image_size": []},
            "attribute": "boxes",
            "metadata": {"class-map": {}},
        }
        _, values = images.setdefault(image, (where, {**row, **start}))
        values["label"]["image_size"].append({k: row.get(k) or None for k in ("width", "height")})
        if row["class"]:
            with faults.row(where, BOXES):
                left, top, right, bottom = (float(row[column]) for column in COLUMNS[2:])
                number = names.setdefault(row["class"], len(names))
                sides = {"left": left, "top": top, "width": right - left, "height": bottom - top}
                values["label"]["annotations"].append({"class_id": number, **sides})
                values["metadata"]["class-map"][str(number)] = row["class"]
    yield from images.values()
