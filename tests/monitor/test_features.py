"""Features of pictures are what a person would work out by hand, or another library."""

import colorsys

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import laplace

from regrow.monitor.features import (
    BLANK,
    LUMA,
    PICTURE,
    laplacian_variance,
    picture_features,
    pixels_key,
)


def _flat(*colour: int, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    return np.full((*size, 3), colour, dtype=np.uint8)


def test_a_flat_picture_is_worked_out_by_hand() -> None:
    found = picture_features(_flat(255, 0, 51), 1234)
    assert list(found) == list(PICTURE)
    expected = {
        "width": 60, "height": 40, "aspect": 1.5, "bytes": 1234, "brightness": 0.299 + 0.114 / 5,
        "contrast": 0, "sharpness": 0, "saturation": 1, "red": 1, "green": 0, "blue": 0.2,
        "grey": 0, "blank": 1, "blockiness": 0.5, "roughness": 0,
    }  # fmt: skip
    assert found == pytest.approx(expected, abs=1e-6)
    assert picture_features(_flat(0, 0, 0), None)["bytes"] is None


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (7, 9), (32, 32), (61, 43), (256, 200), (9, 300)])
@pytest.mark.parametrize("levels", [1, 3, 256])
def test_light_is_to_the_last_bit_what_numpys_own_methods_give(
    size: tuple[int, int], levels: int
) -> None:
    """A baseline is compared with later pictures, so no bit of a feature may change."""
    pixels = np.random.default_rng(levels).integers(0, levels, (*size, 3)).astype(np.uint8)
    colours = np.asarray(_at_most_256(pixels)) / 255
    luma, high, low = colours @ LUMA, colours.max(axis=2), colours.min(axis=2)
    saturation = np.divide(high - low, high, out=np.zeros_like(high), where=high > 0)
    expected = dict(zip(("red", "green", "blue"), colours.reshape(-1, 3).mean(axis=0), strict=True))
    expected |= {"brightness": luma.mean(), "contrast": luma.std(), "saturation": saturation.mean()}
    expected |= {"grey": (high - low).max() <= BLANK, "blank": luma.max() - luma.min() <= BLANK}
    around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    if min(size) > 2:
        expected["sharpness"] = (around - 4 * luma[1:-1, 1:-1]).var()
    found = picture_features(pixels, None)
    assert {name: found[name] for name in expected} == expected


def _at_most_256(pixels: np.ndarray) -> Image.Image:
    height, width = pixels.shape[:2]
    scale = min(1.0, 256 / max(height, width))
    size = (round(width * scale), round(height * scale))
    return Image.fromarray(pixels).resize(size, Image.Resampling.BOX)


def test_saturation_is_that_of_hsv() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    expected = np.mean([colorsys.rgb_to_hsv(*p)[1] for p in pixels.reshape(-1, 3) / 255])
    assert picture_features(pixels, None)["saturation"] == pytest.approx(expected, abs=1e-6)


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    luma = np.random.default_rng(0).random((20, 30))
    assert laplacian_variance(luma) == pytest.approx(laplace(luma)[1:-1, 1:-1].var())
    assert laplacian_variance(luma[:2]) == 0


def test_grey_and_blank_are_told_apart() -> None:
    ramp = np.repeat(np.arange(60, dtype=np.uint8)[None, :, None], 40, 0).repeat(3, 2)
    found = picture_features(ramp, None)
    assert (found["grey"], found["blank"]) == (1, 0)
    found = picture_features(_flat(10, 200, 10), None)
    assert (found["grey"], found["blank"]) == (0, 1)


def test_light_is_measured_alike_at_every_size() -> None:
    small = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)
    large = small.repeat(8, 0).repeat(8, 1)
    one, other = picture_features(small, None), picture_features(large, None)
    for name in ("brightness", "saturation", "red", "aspect"):
        assert one[name] == pytest.approx(other[name], abs=2e-3)
    assert other["width"] == 1024


def test_a_picture_of_one_pixel_has_features() -> None:
    assert all(np.isfinite(v) for v in picture_features(_flat(1, 2, 3, size=(1, 1)), 9).values())


def test_keys_are_equal_where_pixels_and_shape_are() -> None:
    pixels = _flat(1, 2, 3)
    assert pixels_key(pixels) == pixels_key(pixels.copy())
    assert pixels_key(pixels) != pixels_key(pixels.reshape(60, 40, 3))
    assert pixels_key(pixels) != pixels_key(_flat(1, 2, 4))
