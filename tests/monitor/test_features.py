"""Features of pictures are what a person would work out by hand, or another library."""

import colorsys

import numpy as np
import pytest
from scipy.ndimage import laplace

from regrow.monitor.features import PICTURE, laplacian_variance, picture_features, pixels_key


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
