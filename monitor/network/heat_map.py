"""The section of the page that shows which cells of a picture the answer comes from."""

from collections.abc import Mapping
from typing import Any

from regrow.monitor.network.attribution_drift import LEAST_NDCG
from regrow.monitor.network.attributions import CELLS, GRID
from regrow.text import plural

SIDE = 44  # pixels of a cell


def heat_maps(own: Mapping[str, Any] | None) -> str:
    """Return the section as HTML; empty where there are no attributions.

    Args:
        own: What the report says of attributions.
    """
    if own is None or "cells" not in own:
        return ""
    maps = {side: [own["cells"][name][side] for name in CELLS] for side in ("before", "now")}
    figures = "".join(f"<figure>{_map(v)}<figcaption>{n}</figcaption></figure>"
                      for n, v in maps.items())  # fmt: skip
    count = own["num_pictures"] - own["num_unusable"]
    bound = f" ({own['bound']})" if "bound" in own else ""
    return (
        "<h2>What the answer comes from</h2>"
        f"<div class=pictures>{figures}</div><p class=quiet>Percent of the answer by cell, mean of "
        f"{plural(count, 'picture')} of now{bound}. The maps differ by {own['distance']:.0%}; "
        f"chance stays below {own['by_chance']:.0%} in 95 of 100 hours. SageMaker's nDCG is "
        f"{own['ndcg']:.2f}; below {LEAST_NDCG:.2f} its monitor calls it drift. Both describe; "
        "warnings come from the share of each cell, picture by picture.</p>"
    )


def _map(values: list[float]) -> str:
    total, largest = sum(values) or 1.0, max(values) or 1.0
    cells = []
    for place, value in enumerate(values):
        top, left = (SIDE * own for own in divmod(place, GRID))
        strength = value / largest
        cells.append(
            f'<rect x="{left}" y="{top}" width="{SIDE}" height="{SIDE}" fill="#b7791f" '
            f'fill-opacity="{strength:.2f}"/><text x="{left + SIDE / 2:g}" '
            f'y="{top + SIDE / 2 + 5:g}" text-anchor="middle" font-size="13">'
            f"{100 * value / total:.0f}</text>"
        )
    side = SIDE * GRID
    return (
        f'<svg viewBox="0 0 {side} {side}" width="{side}" role="img" aria-label="heat map">'
        f'<rect width="{side}" height="{side}" fill="#eef1f5"/>{"".join(cells)}</svg>'
    )
