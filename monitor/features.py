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
BLANK = 2 / 255  # a picture whose lightest and darkest pixel differ by no more is blank
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float64)  # ITU-R BT.601
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
    colours = small / 255
    luma = colours @ LUMA
    channels = np.ascontiguousarray(small.reshape(-1, 3).T)
    high = channels.max(axis=0).reshape(luma.shape) / 255
    low = channels.min(axis=0).reshape(luma.shape) / 255
    saturation = np.divide(high - low, high, out=np.zeros_like(high), where=high > 0)
    red, green, blue = np.add.reduce(colours.reshape(-1, 3), axis=0) / luma.size
    brightness, variance = _mean_and_variance(luma)
    values = {
        "width": width,
        "height": height,
        "bytes": num_bytes,
        "aspect": width / height,
        "brightness": brightness,
        "contrast": math.sqrt(variance),
        "sharpness": laplacian_variance(luma),
        "saturation": np.add.reduce(saturation, axis=None) / luma.size,
        "red": red,
        "green": green,
        "blue": blue,
        "grey": (high - low).max() <= BLANK,
        "blank": luma.max() - luma.min() <= BLANK,
        **texture(pixels),
    }
    return {name: None if values[name] is None else float(values[name]) for name in PICTURE}


def laplacian_variance(luma: np.ndarray) -> float:
    """Compute the variance of the Laplacian of a picture, (h, w); 0 where it is too small.

    Source: Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000.
    """
    if min(luma.shape) < 3:
        return 0.0
    around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return _mean_and_variance(around - 4 * luma[1:-1, 1:-1])[1]


def _mean_and_variance(values: np.ndarray) -> tuple[float, float]:
    """Compute both, to the bit as NumPy's own methods, which take longer for small arrays."""
    mean = np.add.reduce(values, axis=None) / values.size
    away = values - mean
    return float(mean), float(np.add.reduce(away * away, axis=None) / values.size)


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
