"""Charts are SVG whose lengths are the numbers."""

import re
from xml.etree import ElementTree

import pytest

from regrow.monitor.charts import HEIGHT, WIDTH, bar, line_chart


@pytest.mark.parametrize(
    ("effect", "left", "width"), [(0.5, 50, 0), (0.0, 0, 50), (1.0, 50, 50), (0.25, 25, 25)]
)
def test_a_bar_reaches_from_one_half_to_the_effect(
    effect: float, left: float, width: float
) -> None:
    _, own, middle = ElementTree.fromstring(bar(effect))
    assert (float(own.attrib["x"]), float(own.attrib["width"])) == (left, width)
    assert float(middle.attrib["x"]) + 0.5 == 50


def test_ranks_are_drawn_from_the_lower_edge_to_the_upper_one() -> None:
    chart = ElementTree.fromstring(line_chart([0.0, None, 1.0, 0.5, 0.25]))
    (line,) = chart.findall("polyline")
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    high = HEIGHT / 4
    assert points == [
        (0, 4 * high), (WIDTH / 2, 0), (3 * WIDTH / 4, 2 * high), (WIDTH, 3 * high)
    ]  # fmt: skip
    dots = [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in chart.findall("circle")]
    assert dots == points
    places = {text.text: float(text.attrib["y"]) - 4 for text in chart.findall("text")}
    assert places["as the reference"] == HEIGHT / 2
    assert places["all pictures higher"] == 0


def test_one_hour_is_one_dot() -> None:
    assert re.findall(r"<circle cx=.(\S+). cy=.(\S+). ", line_chart([1.0])) == [("0.0", "0.0")]
