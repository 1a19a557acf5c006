"""The `segmentation` of COCO's annotations: polygons, or run lengths plain and compressed.

Source: https://cocodataset.org/#format-data.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from regrow.data.checks.faults import shown
from regrow.data.formats.tools.shapes import polygon
from regrow.data.images.regions import Polygons, Region, bounds
from regrow.data.images.run_lengths import MAX_RUNS, CocoRuns
from regrow.data.names.tidy import class_number

MAX_RUN = 2**31 - 1


def region_of(entry: Mapping[str, Any]) -> tuple[Region, float]:
    """Return the pixels of an annotation, and its area, by which smaller ones lie on top.

    Args:
        entry: The annotation, with its `segmentation`.

    Raises:
        KeyError: If it has none.
        ValueError: If it is none of COCO's.
    """
    given = entry["segmentation"]
    if isinstance(given, dict):
        height, width = (class_number(side, MAX_RUN, "size") for side in given["size"])
        counts = given["counts"]
        if not isinstance(counts, str):
            if not isinstance(counts, list) or len(counts) > MAX_RUNS:
                raise ValueError(f"its run lengths are {shown(counts)}")
            counts = tuple(class_number(run, MAX_RUN, "run length") for run in counts)
        return CocoRuns((height, width), counts), _area(entry, float(height * width))
    if not isinstance(given, list) or not given:
        raise ValueError(f"its segmentation is {shown(given)}, no list of polygons")
    rings = tuple(polygon(ring, "its polygon") for ring in given)
    left, top, right, bottom = bounds(np.concatenate(rings))
    return Polygons(rings), _area(entry, (right - left) * (bottom - top))


def _area(entry: Mapping[str, Any], otherwise: float) -> float:
    area = entry.get("area")
    is_one = isinstance(area, int | float) and not isinstance(area, bool) and 0 < area < 1e18
    return float(area) if is_one else otherwise  # type: ignore[arg-type]
