"""Features of a picture: numbers from its decoded pixels by which a change is seen.

Source: the checks of whylogs, CleanVision, DataEval and deepchecks for images, of which these are
the ones that need no network.
"""

import math
from hashlib import blake2b

import numpy as np
from PIL import Image

from regrow.monitor.texture import TEXTURE, texture

Value = float | str | None  # None is missing

# Of the features and of `pixels_key`; a change of any value of any picture raises it.
VERSION = 1
LONGEST = 256  # pixels of the longer side at which light, colours and edges are measured
BLANK = 2  # levels of 255; a picture whose lightest and darkest pixel differ by no more is blank
# ITU-R BT.601, in thousandths. Luma is a whole number then, which float32 holds exactly, as it does
# the sum of 256 x 256 levels; so the processor's order of sums changes no bit of any feature.
LUMA = np.array([299, 587, 114], dtype=np.float32)
WHITE = 255 * 1000
# Of every picture that was decoded. Whole numbers first.
WHOLE = ("width", "height", "bytes", "grey", "blank")
LIGHT = ("brightness", "contrast", "sharpness", "saturation", "red", "green", "blue")
PICTURE = (*WHOLE, "aspect", *LIGHT, *TEXTURE)


def picture_features(pixels: np.ndarray, num_bytes: int | None) -> dict[str, Value]:
    """Compute the features of a decoded picture.

    Sizes are in pixels, `aspect` is width over height; light and colours are in [0, 1]; `contrast`
    is the standard deviation of the luma, `sharpness` the variance of its Laplacian, both at a
    longer side of at most 256 pixels; `grey` and `blank` are 1 where all three channels are
    nearly the same, and where the whole picture is. `blockiness` and `roughness` are those of its
    texture at its own resolution.

    Args:
        pixels: RGB, uint8 (h, w, 3).
        num_bytes: The size of the encoded picture; None if it is not known.
    """
    height, width = pixels.shape[:2]
    small = _reduced(np.ascontiguousarray(pixels))
    shape, count = small.shape[:2], small.shape[0] * small.shape[1]
    levels = small.reshape(count, 3).astype(np.float32)
    red, green, blue = (int(total) for total in np.ones(count, dtype=np.float32) @ levels)
    luma = (levels @ LUMA).reshape(shape)
    channels = np.ascontiguousarray(small.reshape(count, 3).T)
    high = channels.max(axis=0)
    spread = high - channels.min(axis=0)
    total = 299 * red + 587 * green + 114 * blue
    values = {
        "width": width,
        "height": height,
        "bytes": num_bytes,
        "aspect": width / height,
        "brightness": total / (count * WHITE),
        "contrast": math.sqrt(_variance(luma.astype(np.float64).ravel(), total)),
        "sharpness": _sharpness(luma),
        "saturation": _saturation(high, spread),
        "red": red / (count * 255),
        "green": green / (count * 255),
        "blue": blue / (count * 255),
        "grey": spread.max() <= BLANK,
        "blank": luma.max() - luma.min() <= BLANK * 1000,
        **texture(pixels),
    }
    return {name: None if values[name] is None else float(values[name]) for name in PICTURE}


def _variance(values: np.ndarray, total: int) -> float:
    """Compute the variance of whole numbers of luma, (n,), in parts of white.

    Args:
        values: The numbers, of a type that holds the sum of their squares.
        total: Their sum.
    """
    count = len(values)
    return (count * int(values @ values) - total**2) / (count * WHITE) ** 2


def _sharpness(luma: np.ndarray) -> float:
    """Compute the variance of the Laplacian of luma, (h, w); 0 where it is too small.

    Source: Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000.
    """
    if min(luma.shape) < 3:
        return 0.0
    around = luma[:-2, 1:-1] + luma[2:, 1:-1]
    around += luma[1:-1, :-2]
    around += luma[1:-1, 2:]
    around -= 4 * luma[1:-1, 1:-1]
    values = around.ravel().astype(np.int64)
    return _variance(values, int(values.sum()))


def _saturation(high: np.ndarray, spread: np.ndarray) -> float:
    """Compute the mean saturation as HSV has it.

    Args:
        high: The largest level of each pixel's channels, uint8 (n,).
        spread: How far the least one lies below it, likewise.
    """
    by_high = np.bincount(high, spread, 256)
    return math.fsum(by_high[1:] / np.arange(1, 256)) / len(high)


def pixels_key(pixels: np.ndarray) -> int:
    """Return a number of 64 bits by which pictures with the same pixels are found."""
    digest = blake2b(repr(pixels.shape).encode(), digest_size=8)
    digest.update(np.ascontiguousarray(pixels).data)
    return int.from_bytes(digest.digest(), "big")


def _reduced(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    longer = max(height, width)
    if longer <= LONGEST:
        return pixels
    size = (max(1, round(width * LONGEST / longer)), max(1, round(height * LONGEST / longer)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
