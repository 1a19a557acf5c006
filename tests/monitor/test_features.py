"""Features of pictures are what a person would work out by hand, or another library."""

import colorsys
import math
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import laplace

from regrow.monitor.features import PICTURE, picture_features, pixels_key

COLOURS = ("red", "green", "blue")


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
def test_light_is_exact_to_the_last_bit(size: tuple[int, int], levels: int) -> None:
    """A baseline is compared with later pictures, perhaps of another machine's."""
    pixels = np.random.default_rng(levels).integers(0, levels, (*size, 3)).astype(np.uint8)
    small = np.asarray(_at_most_256(pixels)).astype(object)  # Python's whole numbers
    count, luma = small[..., 0].size, small @ [299, 587, 114]
    sums = small.reshape(-1, 3).sum(axis=0)
    expected = {name: own / (255 * count) for name, own in zip(COLOURS, sums, strict=True)}
    expected["brightness"] = luma.sum() / (255_000 * count)
    expected["contrast"] = math.sqrt(_exact_variance(luma))
    spread = small.max(axis=2) - small.min(axis=2)
    expected |= {"grey": spread.max() <= 2, "blank": luma.max() - luma.min() <= 2000}
    if min(size) > 2:
        around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
        expected["sharpness"] = _exact_variance(around - 4 * luma[1:-1, 1:-1])
    found = picture_features(pixels, None)
    assert {name: found[name] for name in expected} == expected


def _exact_variance(luma: np.ndarray) -> float:
    mean = Fraction(luma.sum(), luma.size)
    return float(sum((own - mean) ** 2 for own in luma.ravel()) / luma.size / 255_000**2)


def test_no_sum_is_rounded_in_the_largest_picture() -> None:
    white = np.full((256, 256, 3), 255, dtype=np.uint8)
    white[::2, ::2] = white[1::2, 1::2] = 0  # the largest Laplacian that there is
    found = picture_features(white, None)
    assert (found["red"], found["brightness"], found["contrast"]) == (0.5, 0.5, 0.5)
    assert found["sharpness"] == 16.0


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
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    luma = pixels @ [0.299, 0.587, 0.114] / 255
    found = picture_features(pixels, None)["sharpness"]
    assert found == pytest.approx(laplace(luma)[1:-1, 1:-1].var())
    assert picture_features(pixels[:2], None)["sharpness"] == 0


def test_grey_and_blank_are_told_apart() -> None:
    ramp = np.repeat(np.arange(60, dtype=np.uint8)[None, :, None], 40, 0).repeat(3, 2)
    found = picture_features(ramp, None)
    assert (found["grey"], found["blank"]) == (1, 0)
    found = picture_features(_flat(10, 200, 10), None)
    assert (found["grey"], found["blank"]) == (0, 1)
    for level in range(254):
        pair = np.array([[[level, level + 1, level + 2], [level + 2] * 3]], dtype=np.uint8)
        assert picture_features(pair, None)["grey"] == 1


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
