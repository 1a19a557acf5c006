"""Texture of a picture at its own resolution: traces of compression, blur, noise and resizing.

Light and colours are measured on a reduced picture, in which such traces are gone. These two
features are measured on a part of bounded size in the middle, and do not depend on its contrast.
"""

from functools import cache

import numpy as np
from scipy.linalg.blas import sasum

TEXTURE = ("blockiness", "roughness")
BLOCK = 8  # pixels of a side of JPEG's blocks
LONGEST = 96  # pixels of a side of the part, a multiple of 8
GREEN = 1  # the channel that makes up most of the luma


def texture(pixels: np.ndarray) -> dict[str, float]:
    """Compute blockiness and roughness, both in [0, 1].

    `blockiness` compares the mean step of neighbouring pixels across the borders of JPEG's 8-pixel
    blocks with that just beside them: b / (b + s), 0.5 where no blocks show. `roughness` is the
    mean absolute second difference of neighbouring pixels over twice the first: noise and repeated
    pixels raise it, blur lowers it; 0 of a flat picture.

    Source: Wang, Sheikh and Bovik, No-reference perceptual quality assessment of JPEG compressed
    images, ICIP 2002, whose blockiness and activity are such steps; there over the whole picture,
    and the steps inside of blocks are all of them.

    Args:
        pixels: RGB, uint8 (h, w, 3), as decoded: the blocks begin at its upper left corner.
    """
    height, width = pixels.shape[:2]
    part = pixels[_middle(height), _middle(width), GREEN].astype(np.float32)
    across, down = part[:, 1:] - part[:, :-1], part[1:] - part[:-1]
    # All sums are multiples of a half below 2^23, which float32 holds exactly.
    second = _absolute_sum(across[:, 1:] - across[:, :-1]) + _absolute_sum(down[1:] - down[:-1])
    by_column = np.ones(len(across), dtype=np.float32) @ np.abs(across)
    by_row = np.abs(down) @ np.ones(down.shape[1], dtype=np.float32)
    sums = by_column @ _places(len(by_column)) + by_row @ _places(len(by_row))
    first, border, beside = map(float, sums)
    return {
        "blockiness": border / (border + beside) if border + beside else 0.5,
        "roughness": second / (2 * first) if first else 0.0,
    }


def _middle(size: int) -> slice:
    """Return the middle of a side, beginning at a block."""
    start = max(size - LONGEST, 0) // (2 * BLOCK) * BLOCK
    return slice(start, start + LONGEST)


def _absolute_sum(values: np.ndarray) -> float:
    return float(sasum(values.ravel())) if values.size else 0.0


@cache
def _places(num_steps: int) -> np.ndarray:
    """Return what each step along a side counts: of all, at borders, and beside, (steps, 3)."""
    counts = np.zeros((num_steps, 3), dtype=np.float32)
    counts[:, 0] = 1
    for border in range(BLOCK - 1, num_steps - 1, BLOCK):
        counts[border, 1] = 1
        counts[[border - 1, border + 1], 2] = 0.5
    return counts
