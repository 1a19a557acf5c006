"""Features of a picture: numbers from its decoded pixels by which a change is seen.

Source: the checks of whylogs, CleanVision, DataEval and deepchecks for images, of which these are
the ones that need no network.
"""

from hashlib import blake2b

import numpy as np
from PIL import Image

from regrow.monitor.texture import TEXTURE, texture

Value = float | str | None  # None is missing

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
    colours = _reduced(np.ascontiguousarray(pixels)) / 255
    luma = colours @ LUMA
    high, low = colours.max(axis=2), colours.min(axis=2)
    saturation = np.divide(high - low, high, out=np.zeros_like(high), where=high > 0)
    red, green, blue = colours.reshape(-1, 3).mean(axis=0)
    values = {
        "width": width,
        "height": height,
        "bytes": num_bytes,
        "aspect": width / height,
        "brightness": luma.mean(),
        "contrast": luma.std(),
        "sharpness": laplacian_variance(luma),
        "saturation": saturation.mean(),
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
    return float((around - 4 * luma[1:-1, 1:-1]).var())


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
