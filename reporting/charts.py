"""Scatter charts with error bars, for report pages and TensorBoard."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from regrow.reporting.pictures import color

WIDTH, HEIGHT = 1100, 620
PLOT = (90, 30, 780, 550)  # left, top, right, bottom of the axes, in pixels
INK, GRID, PAPER = (40, 40, 40), (225, 225, 225), (255, 255, 255)
RADIUS = 6


@dataclass(frozen=True, slots=True)
class Point:
    """A named point with a vertical error bar.

    Args:
        name: Text in the legend.
        x: Horizontal coordinate.
        y: Vertical coordinate.
        low: Low end of the error bar.
        high: High end of the error bar.
    """

    name: str
    x: float
    y: float
    low: float
    high: float


def scatter(points: Sequence[Point], across: str, up: str) -> Tensor:
    """Draw a scatter chart with a legend; each point has its own colour.

    Args:
        points: The points, one or more; all finite.
        across: Label of the horizontal axis.
        up: Label of the vertical axis.

    Returns:
        uint8, (3, 620, 1100).
    """
    sheet = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    brush = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    left, top, right, bottom = PLOT
    x_ticks = ticks([point.x for point in points])
    y_ticks = ticks([value for point in points for value in (point.low, point.high)])
    for value in x_ticks:
        x = _place(value, x_ticks, left, right)
        brush.line((x, top, x, bottom), GRID)
        brush.text((x, bottom + 6), f"{value:g}", INK, font, "ma")
    for value in y_ticks:
        y = _place(value, y_ticks, bottom, top)
        brush.line((left, y, right, y), GRID)
        brush.text((left - 8, y), f"{value:g}", INK, font, "rm")
    brush.rectangle(PLOT, outline=INK)
    brush.text(((left + right) // 2, bottom + 32), across, INK, font, "ma")
    brush.text((left, top - 8), up, INK, font, "ls")
    for index, point in enumerate(points):
        x, y = _place(point.x, x_ticks, left, right), _place(point.y, y_ticks, bottom, top)
        ends = [_place(value, y_ticks, bottom, top) for value in (point.low, point.high)]
        brush.line((x, *ends[:1], x, *ends[1:]), color(index), 2)
        brush.ellipse((x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS), color(index), INK)
        row = top + 22 * index
        brush.ellipse((right + 20, row, right + 32, row + 12), color(index), INK)
        brush.text((right + 40, row + 6), point.name, INK, font, "lm")
    pixels: Tensor = pil_to_tensor(sheet)
    return pixels.to(torch.uint8)


def ticks(values: Sequence[float], about: int = 6) -> list[float]:
    """Compute the ticks of an axis: round numbers that span the values.

    Steps are 1, 2 or 5 times a power of ten.

    Args:
        values: The values on the axis, one or more.
        about: Approximate number of ticks.
    """
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _place(value: float, marks: Sequence[float], start: int, end: int) -> int:
    share = (value - marks[0]) / (marks[-1] - marks[0])
    return round(start + share * (end - start))
