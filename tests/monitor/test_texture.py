"""Texture is what a person would work out by hand, and sees what light and colours do not."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from regrow.data.images.decoding import decode
from regrow.monitor.texture import LONGEST, TEXTURE, texture


def _grey(luma: np.ndarray) -> np.ndarray:
    return np.repeat(luma.astype(np.uint8)[..., None], 3, axis=2)


def _scene(seed: int, size: tuple[int, int] = (64, 80)) -> np.ndarray:
    """A smooth picture with a little noise, as photos are."""
    draw = np.random.default_rng(seed)
    smooth = gaussian_filter(draw.normal(0, 1, (*size, 3)), (2, 2, 0))
    noisy = 128 + 40 * smooth / smooth.std() + draw.normal(0, 3, (*size, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def _jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return decode(file.getvalue())


def test_steps_at_the_borders_of_blocks_are_worked_out_by_hand() -> None:
    ramp = np.tile(np.arange(20), (18, 1))
    ramp[:, 8:] += 3  # a step of 4 at the first border, and of 1 elsewhere
    found = texture(_grey(ramp))
    # Borders across: 4 and 1, with steps of 1 beside them; down: all steps are 0.
    assert found["blockiness"] == pytest.approx(5 / (5 + 2))
    # Second differences: 3 and -3 in each row; first: 19 steps, 22 grey levels.
    assert found["roughness"] == pytest.approx((3 + 3) / (2 * 22))
    assert texture(_grey(ramp.T)) == found


def test_all_is_the_mean_of_numpys_differences() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (33, 41, 3), dtype=np.uint8)
    green, first, second = pixels[..., 1].astype(int), 0, 0
    border, beside = 0.0, 0.0
    for axis in (0, 1):
        steps = np.abs(np.diff(green, axis=axis))
        first, second = first + steps.sum(), second + np.abs(np.diff(green, 2, axis=axis)).sum()
        places = np.arange(7, steps.shape[axis] - 1, 8)
        border += steps.take(places, axis).sum()
        beside += (steps.take(places - 1, axis).sum() + steps.take(places + 1, axis).sum()) / 2
    expected = {"blockiness": border / (border + beside), "roughness": second / (2 * first)}
    assert texture(pixels) == pytest.approx(expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (2, 9), (9, 10), (8, 8)])
def test_flat_and_tiny_pictures_have_texture(size: tuple[int, int]) -> None:
    flat = np.full((*size, 3), 77, dtype=np.uint8)
    assert texture(flat) == {"blockiness": 0.5, "roughness": 0}
    noisy = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert all(0 <= texture(noisy)[name] <= 1 for name in TEXTURE)


def test_the_part_begins_at_a_block_whatever_the_size() -> None:
    """A picture of blocks of one grey each: every step lies at a border."""
    draw = np.random.default_rng(0)
    for height, width in ((96, 97), (104, 203), (411, 1000)):
        cells = draw.integers(0, 256, (height // 8 + 1, width // 8 + 1))
        blocks = cells.repeat(8, 0).repeat(8, 1)[:height, :width]
        assert texture(_grey(blocks))["blockiness"] == 1


def test_only_the_middle_counts() -> None:
    inner = _scene(0, (LONGEST, LONGEST))
    outer = np.zeros((3 * LONGEST, 3 * LONGEST, 3), dtype=np.uint8)
    outer[LONGEST:-LONGEST, LONGEST:-LONGEST] = inner
    assert texture(outer) == texture(inner)


def test_compression_blur_noise_and_repeated_pixels_show_and_contrast_does_not() -> None:
    clean = [texture(_scene(seed)) for seed in range(20)]

    def moved(name: str, change: Callable[[np.ndarray], np.ndarray]) -> float:
        """Return the share of pairs in which the changed picture has the larger value."""
        found = [texture(change(_scene(seed)))[name] for seed in range(20, 40)]
        return float(np.mean([[after > one[name] for one in clean] for after in found]))

    assert moved("blockiness", lambda p: _jpeg(p, 60)) > 0.95
    assert 0.25 < moved("blockiness", lambda p: p) < 0.75
    assert moved("roughness", lambda p: gaussian_filter(p, (0.7, 0.7, 0))) < 0.05
    noise = np.random.default_rng(1).normal(0, 6, (64, 80, 3))
    assert moved("roughness", lambda p: (p + noise).clip(0, 255).astype(np.uint8)) > 0.95
    assert moved("roughness", lambda p: p[::2, ::2].repeat(2, 0).repeat(2, 1)) > 0.95
    assert 0.2 < moved("roughness", lambda p: 60 + p // 2) < 0.8
