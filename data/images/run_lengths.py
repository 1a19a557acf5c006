"""Masks in run lengths: COCO's, by columns, and those of Label Studio's brush.

Source: pycocotools, `maskApi.c` (rleFrString); Label Studio's `converter/brush.py` and thi.ng's
rle-pack, https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regrow.data.images.regions import Region

CHANNELS, ALPHA = 4, 3  # of Label Studio's pixels
MAX_RUNS = 2**24  # of a mask; one of 4,096 x 4,096 pixels has no more


@dataclass(frozen=True, slots=True)
class CocoRuns(Region):
    """A region in COCO's run lengths.

    Args:
        size: Height and width of the image that it is of.
        counts: Lengths of runs by columns, of pixels outside first; or their compressed text.
    """

    size: tuple[int, int]
    counts: tuple[int, ...] | str

    def pixels(self, size: tuple[int, int]) -> np.ndarray:
        """Return which pixels belong to it, bool (h, w).

        Raises:
            ValueError: If it is of another size, or its runs end elsewhere.
        """
        if self.size != size:
            raise ValueError(f"is of {self.size[1]}x{self.size[0]}, the image {size[1]}x{size[0]}")
        given = uncompressed(self.counts) if isinstance(self.counts, str) else self.counts
        runs = np.asarray(given, dtype=np.int64)
        if (runs < 0).any() or runs.sum() != size[0] * size[1] or (runs > size[0] * size[1]).any():
            raise ValueError("has runs that do not fill the image")
        values = np.arange(len(runs)) % 2 == 1
        return np.repeat(values, runs).reshape(size[1], size[0]).T


def class_runs(mask: np.ndarray) -> dict[int, np.ndarray]:
    """Return COCO's run lengths of each class that a mask shows.

    Args:
        mask: The class of each pixel, (h, w), of one pixel at least.

    Returns:
        By class the lengths of its runs by columns, of pixels outside first.
    """
    flat = mask.T.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts, stops = np.append(0, edges), np.append(edges, len(flat))
    classes, found = flat[starts], {}
    for value in np.unique(classes):
        own = classes == value
        bounds = np.stack([starts[own], stops[own]], axis=1).ravel()
        counts = np.diff(bounds, prepend=0, append=len(flat))
        found[int(value)] = counts if counts[-1] else counts[:-1]
    return found


def uncompressed(text: str) -> list[int]:
    """Return the run lengths of COCO's compressed text.

    Each is written in groups of five bits, the lowest first, and from the third run on as the
    difference from the one before the last.

    Raises:
        ValueError: If it is no such text.
    """
    if len(text) > MAX_RUNS:
        raise ValueError("has more runs than pixels")
    runs: list[int] = []
    value = shift = 0
    for letter in text:
        code = ord(letter) - 48
        if not 0 <= code < 64 or shift > 60:
            raise ValueError("has run lengths that are none of COCO's")
        value |= (code & 0x1F) << shift
        shift += 5
        if code & 0x20:
            continue
        if code & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("has run lengths that end within one")
    return runs


@dataclass(frozen=True, slots=True)
class BrushRuns(Region):
    """A region that Label Studio's brush has painted.

    Args:
        data: The bytes of its `rle`.
    """

    data: bytes

    def pixels(self, size: tuple[int, int]) -> np.ndarray:
        """Return which pixels are painted, bool (h, w).

        Raises:
            ValueError: If it is of another size, or no such data.
        """
        values = brush_values(self.data, CHANNELS * size[0] * size[1])
        return values.reshape(*size, CHANNELS)[..., ALPHA] > 0


def brush_values(data: bytes, count: int) -> np.ndarray:
    """Return the values in the run lengths of Label Studio's brush, uint8 (count,).

    Args:
        data: The bytes.
        count: How many values there must be.

    Raises:
        ValueError: If there are others.
    """
    bits = _Bits(data)
    if bits.read(32) != count:
        raise ValueError("was painted on an image of another size")
    word = bits.read(5) + 1
    sizes = [bits.read(4) + 1 for _ in range(4)]
    values = np.zeros(count, dtype=np.uint8)
    place = 0
    while place < count:
        is_run = bits.read(1)
        stop = place + 1 + bits.read(sizes[bits.read(2)])
        if stop > count:
            raise ValueError("has runs that do not fill the image")
        if is_run:
            values[place:stop] = min(bits.read(word), 255)
        else:
            values[place:stop] = [min(bits.read(word), 255) for _ in range(stop - place)]
        place = stop
    return values


class _Bits:
    """Reads numbers of some bits, the highest first."""

    def __init__(self, data: Sequence[int]) -> None:
        self._data, self._place = bytes(data), 0

    def read(self, count: int) -> int:
        stop = self._place + count
        if stop > 8 * len(self._data):
            raise ValueError("has run lengths that end too early")
        part = self._data[self._place // 8 : (stop + 7) // 8]
        value = int.from_bytes(part, "big") >> (-stop % 8) & ((1 << count) - 1)
        self._place = stop
        return value
