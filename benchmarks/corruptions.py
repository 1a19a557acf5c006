"""Corruptions of pictures at severities 1 to 5, in NumPy and Pillow.

Source: `make_cifar_c.py` in hendrycks/robustness (Apache-2.0), of Hendrycks and Dietterich,
Benchmarking neural network robustness to common corruptions and perturbations, 1903.12261.
"""

import io
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy.ndimage import convolve, gaussian_filter

from regrow.data.images.decoding import decode

# Of pixels, uint8 (h, w, 3), by severity, with random numbers.
Corruption = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def noise(pixels: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise."""
    scale = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    return as_pixels(pixels / 255 + random.normal(0, scale, pixels.shape))


def shot(pixels: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Add the noise of few photons."""
    count = (500, 250, 100, 75, 50)[severity - 1]
    return as_pixels(random.poisson(pixels / 255 * count) / count)


def blur(pixels: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Blur by a Gaussian."""
    return as_pixels(
        gaussian_filter(pixels / 255, (*[(0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1]] * 2, 0))
    )


def defocus(pixels: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Blur by a disk, as a lens out of focus."""
    radius, alias = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[severity - 1]
    across, down = np.meshgrid(np.arange(-8, 9), np.arange(-8, 9))
    disk = (across**2 + down**2 <= radius**2).astype(np.float64)
    disk = gaussian_filter(disk / disk.sum(), alias, radius=1)
    return as_pixels(convolve(pixels / 255, disk[..., None], mode="mirror"))


def brighten(pixels: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Raise the value of HSV."""
    hsv = np.asarray(Image.fromarray(pixels).convert("HSV")).astype(np.float64)
    hsv[..., 2] += 255 * (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    return np.asarray(Image.fromarray(hsv.clip(0, 255).astype(np.uint8), "HSV").convert("RGB"))


def flatten(pixels: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Lower the contrast."""
    share = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    means = pixels.mean(axis=(0, 1)) / 255
    return as_pixels((pixels / 255 - means) * share + means)


def compress(pixels: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Compress as JPEG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=(80, 65, 58, 50, 40)[severity - 1])
    return decode(file.getvalue())


def pixelate(pixels: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Make pixels coarser."""
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    height, width = pixels.shape[:2]
    small = Image.fromarray(pixels).resize(
        (int(width * share), int(height * share)), Image.Resampling.BOX
    )
    return np.asarray(small.resize((width, height), Image.Resampling.BOX))


def mirror(pixels: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Mirror: a harmless change, that the scores cannot see."""
    return np.ascontiguousarray(pixels[:, ::-1])


def save_as_jpeg(pixels: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Save as JPEG as Pillow does unasked, at quality 75, whatever the severity."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return decode(file.getvalue())


def as_pixels(values: np.ndarray) -> np.ndarray:
    """Return values in [0, 1] as uint8."""
    return (values.clip(0, 1) * 255).astype(np.uint8)


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian noise": noise,
    "shot noise": shot,
    "gaussian blur": blur,
    "defocus blur": defocus,
    "brightness": brighten,
    "contrast": flatten,
    "jpeg": compress,
    "pixelate": pixelate,
}
