from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regrow.data.images.decoding import decode, decode_mask
from regrow.data.images.opening import CorruptImage
from regrow.errors import BadInput

RAINBOW = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RAINBOW[..., 0]


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def test_decode_gives_rgb_as_it_was_saved(tmp_path: Path) -> None:
    found = decode(saved(tmp_path / "a.png", Image.fromarray(RAINBOW)))
    assert found.dtype == np.uint8
    assert (found == RAINBOW).all()
    assert decode(RAINBOW) is RAINBOW


@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_turns_a_photo_upright(tmp_path: Path, orientation: int) -> None:
    # TIFF 6.0 and EXIF, tag 274: what row 0 and column 0 of the file show of the upright image.
    stored = {
        1: RAINBOW,
        2: RAINBOW[:, ::-1],
        3: RAINBOW[::-1, ::-1],
        4: RAINBOW[::-1],
        5: RAINBOW.transpose(1, 0, 2),
        6: np.rot90(RAINBOW, 1),
        7: np.rot90(RAINBOW.transpose(1, 0, 2), 2),
        8: np.rot90(RAINBOW, -1),
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    assert (decode(saved(tmp_path / "a.png", image, exif=exif)) == RAINBOW).all()


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_decode_takes_the_high_byte_of_16_bits(tmp_path: Path, suffix: str) -> None:
    deep = np.array([[0, 255, 256], [32768, 65279, 65535]], np.uint16)
    found = decode(saved(tmp_path / f"a.{suffix}", Image.fromarray(deep)))
    assert found.dtype == np.uint8
    for channel in range(3):
        assert found[..., channel].tolist() == [[0, 0, 1], [128, 254, 255]]


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_decode_repeats_grey(tmp_path: Path, mode: str) -> None:
    black_and_white = np.where(GREY > 127, 255, 0).astype(np.uint8)
    path = saved(tmp_path / "a.png", Image.fromarray(black_and_white).convert(mode))
    assert (decode(path) == black_and_white[..., None]).all()
    assert decode(path).shape == (5, 7, 3)


@pytest.mark.parametrize("transparency", [None, 1, b"\xff\x00\x80"])
def test_decode_gives_the_colours_of_a_palette(tmp_path: Path, transparency) -> None:
    palette = [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "L").convert("P")
    image.putpalette([value for colour in palette for value in colour])
    options = {} if transparency is None else {"transparency": transparency}
    found = decode(saved(tmp_path / "a.png", image, **options))
    assert found.tolist() == [[palette[0], palette[1]], [palette[2], palette[1]]]


def test_decode_drops_alpha(tmp_path: Path) -> None:
    alpha = np.dstack([RAINBOW, GREY])
    assert (decode(saved(tmp_path / "a.png", Image.fromarray(alpha))) == RAINBOW).all()


def test_decode_names_a_truncated_image(tmp_path: Path) -> None:
    for suffix in ("png", "jpg"):
        path = saved(tmp_path / f"cut.{suffix}", Image.fromarray(RAINBOW.repeat(20, 0)))
        path.write_bytes(path.read_bytes()[:-60])
        with pytest.raises(CorruptImage, match=rf"cut\.{suffix}: corrupt or truncated .*skip_cor"):
            decode(path)


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_decode_names_what_is_no_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "text.png"
    path.write_bytes(content)
    with pytest.raises(CorruptImage, match=r"^.*text\.png: corrupt or truncated .*$"):
        decode(path)


def test_what_is_missing_is_not_corrupt(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.png: no such file") as found:
        decode(tmp_path / "none.png")
    assert not isinstance(found.value, CorruptImage)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(BadInput, match=r"folder\.png is a folder") as found:
        decode(tmp_path / "folder.png")
    assert not isinstance(found.value, CorruptImage)


def test_decode_refuses_numbers_that_are_no_colours(tmp_path: Path) -> None:
    heights = Image.fromarray(np.linspace(0, 9, 6, dtype=np.float32).reshape(2, 3))
    with pytest.raises(BadInput, match="32-bit numbers, not colours"):
        decode(saved(tmp_path / "heights.tif", heights))


def test_decode_mask_gives_the_indices_of_a_palette_and_wide_numbers(tmp_path: Path) -> None:
    numbers = np.array([[0, 2], [1, 255]], np.uint8)
    image = Image.fromarray(numbers, "L").convert("P")
    image.putdata(numbers.ravel().tolist())
    image.putpalette([value for value in range(256) for _ in range(3)][::-1])
    assert decode_mask(saved(tmp_path / "p.png", image)).tolist() == numbers.tolist()
    assert decode_mask(saved(tmp_path / "l.png", Image.fromarray(numbers))).tolist() == [
        [0, 2],
        [1, 255],
    ]
    wide = np.array([[0, 1000]], np.uint16)
    assert decode_mask(saved(tmp_path / "i.png", Image.fromarray(wide))).tolist() == [[0, 1000]]
    assert decode_mask(numbers) is numbers


def test_decode_mask_refuses_colours(tmp_path: Path) -> None:
    path = saved(tmp_path / "rgb.png", Image.fromarray(RAINBOW))
    with pytest.raises(BadInput, match=r"rgb\.png: a mask has one channel .* this has \(5, 7, 3\)"):
        decode_mask(path)
