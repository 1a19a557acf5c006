"""A chart: its marks are round, and its points are where they belong."""

import pytest
import torch

from regrow.reporting.charts import PLOT, Point, scatter, ticks
from regrow.reporting.pictures import color


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 6.0], [0, 1, 2, 3, 4, 5, 6]),
        ([0.3, 6.2], [0, 1, 2, 3, 4, 5, 6, 7]),
        ([0.62, 0.71], [0.62, 0.64, 0.66, 0.68, 0.7, 0.72]),
        ([100.0, 371.0], [100, 150, 200, 250, 300, 350, 400]),
        ([4.0], [2, 3, 4, 5, 6]),
        ([0.0], [-0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6]),
    ],
)
def test_ticks_are_round_and_span_the_values(values: list[float], expected: list[float]) -> None:
    assert ticks(values) == pytest.approx(expected)


def test_points_are_drawn_where_they_belong() -> None:
    # Marks at 0 to 6 across, and at 0 to 0.6 up.
    points = [Point("a", 0, 0.1, 0.0, 0.2), Point("b", 6, 0.5, 0.5, 0.6), Point("c", 3, 0.3, 0, 0)]
    picture = scatter(points, "ms", "score")
    assert picture.dtype == torch.uint8
    assert picture.shape[0] == 3
    left, top, right, bottom = PLOT

    def at(across: float, up: float) -> tuple[int, ...]:
        x = left + across / 6 * (right - left)
        y = bottom - up / 0.6 * (bottom - top)
        return tuple(picture[:, round(y), round(x)].tolist())

    assert at(0, 0.1) == color(0)
    assert at(6, 0.5) == color(1)
    assert at(3, 0.3) == color(2)
    # The range, away from the point.
    assert at(0, 0.17) == color(0)
    assert at(6, 0.57) == color(1)
    assert at(6, 0.43) != color(1)


def test_the_legend_has_every_point_in_order() -> None:
    picture = scatter([Point(str(n), n, n, n, n) for n in range(5)], "x", "y")
    _, top, right, _ = PLOT
    shown = [tuple(picture[:, top + 22 * n + 6, right + 26].tolist()) for n in range(5)]
    assert shown == [color(n) for n in range(5)]
