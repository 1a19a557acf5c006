"""Attributions: what each of 16 cells of a picture adds to what a network predicts."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from PIL import Image, ImageFilter

from regrow.logs import log
from regrow.monitor.network.sample import Sample
from regrow.monitor.network.served import Network
from regrow.monitor.network.shapley import Design, shapley_values
from regrow.monitor.network.values import value_of
from regrow.progress import progress
from regrow.text import plural

GRID = 4  # cells a side
CELLS = tuple(f"cell_r{row + 1}c{column + 1}" for row in range(GRID) for column in range(GRID))
NUM_RUNS = 200  # of the network for one picture, besides those of the whole and the blurred one
BLUR = 1 / 8  # standard deviation of the blur, as a share of the shorter side
MAX_NUMBERS = 2**22  # of one batch of images, or of its outputs
MAX_BATCH = 32
SLOW = 2.0  # minutes
HOURLY = 5.0  # minutes that the attributions of an hour may take, as measured by the baseline


@dataclass(frozen=True, slots=True)
class Attribution:
    """The attributions of one picture.

    Args:
        label: The class that was predicted.
        values: What each cell adds, (16,), row by row; they sum to the difference of the value of
            the picture and of `expected`.
        expected: The value of the blurred picture.
    """

    label: int
    values: np.ndarray
    expected: float


def attribution(network: Network, image: np.ndarray, coalitions: Design) -> Attribution | None:
    """Compute the attributions of one picture; cells that are out of a coalition are blurred.

    Args:
        network: The network.
        image: The picture, uint8 (3, h, w) in the network's size.
        coalitions: The coalitions of cells.

    Returns:
        The attributions; None where there is nothing to explain, or the network gives no numbers.
    """
    found = value_of(network.kind, network.run(image[None]))
    if found is None:
        return None
    label, value = found
    ends = np.array([[False] * len(CELLS), [True] * len(CELLS)])
    rows = np.concatenate([ends, coalitions.coalitions])
    batches = _batches(network, image, rows)
    values = np.concatenate([value(network.run(batch)) for batch in batches])
    if not np.isfinite(values).all():
        return None
    cells = shapley_values(coalitions, values[2:], float(values[0]), float(values[1]))
    return Attribution(label, cells, float(values[0]))


def explain(
    network: Network, sample: Sample, count: int, coalitions: Design
) -> Iterator[tuple[int, Attribution | None]]:
    """Yield the places of the first pictures of a sample, and their attributions.

    Where it takes long, the log says how long.

    Args:
        network: The network.
        sample: The pictures.
        count: How many of them.
        coalitions: The coalitions of cells.
    """
    count, start = min(count, len(sample)), time.monotonic()
    for place, image in progress(islice(sample, count), "attributions", count):
        yield place, attribution(network, image, coalitions)
        minutes = (time.monotonic() - start) * count / 60
        if minutes > SLOW:
            log.info(
                f"the attributions of {plural(count, 'picture')} take about {minutes:.0f} minutes; "
                "--attributions takes fewer"
            )
        start = math.inf  # said once


def cell_numbers(size: tuple[int, int]) -> np.ndarray:
    """Return the number of each pixel's cell, row by row from 0, (h, w)."""
    rows, columns = (np.arange(side) * GRID // side for side in size)
    numbers: np.ndarray = rows[:, None] * GRID + columns
    return numbers


def blurred(image: np.ndarray) -> np.ndarray:
    """Return a picture, uint8 (3, h, w), without what can be told in it."""
    radius = min(image.shape[1:]) * BLUR
    whole = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    return np.asarray(whole.filter(ImageFilter.GaussianBlur(radius))).transpose(2, 0, 1)


def _batches(network: Network, image: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield batches of the picture in which only the cells of a row are sharp."""
    planes = network.num_classes if network.kind == "masks" else len(image)
    count = min(max(MAX_NUMBERS // (max(planes, 3) * image[0].size), 1), MAX_BATCH)
    cells, other = cell_numbers((image.shape[1], image.shape[2])), blurred(image)
    for start in range(0, len(rows), count):
        is_sharp = rows[start : start + count][:, cells]
        yield np.where(is_sharp[:, None], image, other)
