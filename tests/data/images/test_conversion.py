"""What is left out when image files become 8-bit colours is counted, and 16 bits have a range."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regrow.data.formats import ImageFolder
from regrow.data.images import fingerprints
from regrow.data.images.conversion import Decoding
from regrow.data.images.decoding import decode
from regrow.data.module import GrowingData
from regrow.data.stored import Stored
from regrow.errors import BadInput
from regrow.incremental.memory import store_memory


def png16(values: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, (h, w, channels), which Pillow reads and does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        end = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + end

    height, width, channels = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [
        chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)),
        chunk(b"IDAT", zlib.compress(rows)),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def pictures(root: Path, save: Callable[[Path, int], Any], count: int = 12) -> Path:
    for number in range(count):
        file = root / "ab"[number % 2] / f"{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        save(file, number)
    return root


def deep(file: Path, number: int) -> None:
    values = np.random.default_rng(number).integers(300, 2400, (8, 8))
    values[0, :2] = 300, 2399
    Image.fromarray(values.astype(np.uint16)).save(file)


def data(root: Path, **options: Any) -> GrowingData:
    known = {"size": (8, 8), "val_share": 0.4, "test_share": 0.0}
    return GrowingData(ImageFolder(), root, **known | options)


def remarks(of: GrowingData) -> dict[str, int]:
    _ = of.snapshot
    found = {kind: own["count"] for kind, own in of.remarks.to_dict().items()}
    # Which classes fall to which split is a matter of the pixels.
    return {kind: count for kind, count in found.items() if not kind.startswith("classes")}


def test_twelve_bits_in_sixteen_are_told_with_the_range_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REGROW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fingerprints, "SETTLED_NS", -(10**18))
    root = pictures(tmp_path / "d", deep)
    for _ in range(2):  # read anew, then known
        # 300 >> 8 is 1, and 2399 >> 8 is 9.
        assert remarks(data(root)) == {
            "16-bit grey images, whose values 300 to 2399 become 9 of 256 levels "
            "(data.grey_range [300, 2399] would spread them over all)": 12
        }
        assert "12 16-bit grey images" in capsys.readouterr().err
        spread = data(root, grey_range=(300, 2399))
        assert remarks(spread) == {
            "16-bit grey images, whose values 300 to 2399 become 256 of 256 levels": 12
        }
        assert len(set(spread.snapshot.hashes) & set(data(root).snapshot.hashes)) == 0
    clipped = remarks(data(root, grey_range=(300, 2398)))
    assert clipped["images with values outside data.grey_range [300, 2398], clipped"] == 12
    # Training sees what was hashed.
    images = torch_pixels(spread)
    assert (images.min(), images.max()) == (0, 255)


def torch_pixels(of: GrowingData) -> np.ndarray:
    return np.stack(
        [of.examples("train")[0, n][0].numpy() for n in range(len(of.examples("train")))]
    )


def test_a_range_scales_every_image_alike_and_clips(tmp_path: Path) -> None:
    values = np.array([[0, 100, 101, 355, 356, 611, 612, 65535]], np.uint16)
    for suffix in ("png", "tif", "pgm"):
        file = tmp_path / f"x.{suffix}"
        Image.fromarray(values).save(file)
        # 512 values on 256 steps: two values a step.
        found = decode(file, Decoding(grey_range=(100, 611)))
        assert found.shape == (1, 8, 3)
        for channel in range(3):
            assert found[0, :, channel].tolist() == [0, 0, 0, 127, 128, 255, 255, 255]
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(every).save(tmp_path / "every.png")
    whole = decode(tmp_path / "every.png", Decoding(grey_range=(0, 65535)))
    assert np.array_equal(whole, decode(tmp_path / "every.png"))
    assert np.array_equal(whole[..., 0], every >> 8)


def test_the_range_of_a_pgm_is_in_its_own_values(tmp_path: Path) -> None:
    values = np.array([0, 15, 16, 2047, 2048, 4095], ">u2")
    (tmp_path / "x.pgm").write_bytes(b"P5 6 1 4095\n" + values.tobytes())
    found = decode(tmp_path / "x.pgm", Decoding(grey_range=(0, 4095)))
    assert found[0, :, 0].tolist() == [0, 0, 1, 127, 128, 255]


@pytest.mark.parametrize("ends", [(5, 5), (9, 3), (-1, 5), (0, 65536)])
def test_a_range_that_is_none_is_refused(tmp_path: Path, ends: tuple[int, int]) -> None:
    with pytest.raises(BadInput, match=r"data\.grey_range is \[.*two values of 0 to 65535"):
        data(tmp_path, grey_range=ends)


def test_a_memory_keeps_16_bits_for_the_range_of_then(tmp_path: Path) -> None:
    grown = data(pictures(tmp_path / "d", deep), grey_range=(300, 2399))
    store_memory(grown, 1.0, tmp_path)
    options: dict[str, Any] = {"size": (8, 8), "val_share": 0.0, "test_share": 0.0}
    kept = GrowingData(Stored(), tmp_path / "memory", grey_range=(300, 2399), **options)
    assert set(kept.snapshot.hashes) == set(grown.snapshot.hashes)
    with pytest.raises(BadInput, match=r"its pixels have changed, or data\.grey_range is not that"):
        _ = GrowingData(Stored(), tmp_path / "memory", **options).snapshot


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_sixteen_bits_of_colour_are_told(tmp_path: Path, channels: int) -> None:
    def save(file: Path, number: int) -> None:
        values = np.random.default_rng(number).integers(0, 4096, (8, 8, channels))
        values[0, :2] = [[0] * channels, [4095] * channels]
        if channels % 2 == 0:
            values[..., -1] = 65535
        file.write_bytes(png16(values))

    # The upper byte of 4095 is 15.
    assert remarks(data(pictures(tmp_path, save))) == {
        "16-bit colour images, of which the upper 8 bits are read: 16 of 256 levels": 12
    }


def test_signed_and_wide_numbers_are_refused(tmp_path: Path) -> None:
    for values in (np.full((4, 4), -5, np.int32), np.full((4, 4), 0.5, np.float32)):
        Image.fromarray(values).save(tmp_path / "x.tif")
        with pytest.raises(BadInput, match=r"x\.tif: its pixels are signed or 32-bit numbers"):
            decode(tmp_path / "x.tif")


def colours(number: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (8, 8, channels), dtype=np.uint8)


def transparent(file: Path, number: int) -> None:
    Image.fromarray(colours(number, 4)).save(file)


def opaque(file: Path, number: int) -> None:
    Image.fromarray(np.dstack([colours(number), np.full((8, 8), 255, np.uint8)])).save(file)


def palette(file: Path, number: int) -> None:
    Image.fromarray(colours(number)).quantize(8).save(file, transparency=0)


def moving(file: Path, number: int) -> None:
    frames = [Image.fromarray(colours(number + n)) for n in (0, 100)]
    frames[0].save(file, save_all=True, append_images=frames[1:])


def printed(file: Path, number: int) -> None:
    Image.fromarray(colours(number)).convert("CMYK").save(file, format="TIFF")


def plain(file: Path, number: int) -> None:
    Image.fromarray(colours(number)).save(file)


def black_and_white(file: Path, number: int) -> None:
    Image.fromarray(colours(number)).convert("1").save(file)


@pytest.mark.parametrize(
    ("save", "words"),
    [
        (plain, None),
        (opaque, None),
        (black_and_white, None),
        (transparent, "images with transparent pixels, read without their transparency"),
        (palette, "images with transparent pixels, read without their transparency"),
        (moving, "images of several frames or pages, of which the first is read"),
        (printed, "images in CMYK, read as RGB without a colour profile"),
    ],
)
def test_what_is_read_otherwise_than_written_is_counted(
    tmp_path: Path, save: Callable[[Path, int], None], words: str | None
) -> None:
    assert remarks(data(pictures(tmp_path, save))) == ({} if words is None else {words: 12})
