"""Pictures that are sent become the pixels that data loading makes of the same file."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy
from PIL import Image

from given import Given
from regrow.data.images.conversion import Decoding
from regrow.data.module import GrowingData
from regrow.data.targets.labels import Item
from regrow.deploy.serving.pictures import read_npy, read_pictures
from regrow.errors import BadInput

SIZE = (64, 96)
Picture = Callable[..., np.ndarray]
GREY_RANGE = (500, 40_000)


def oriented(pixels: np.ndarray, orientation: int) -> tuple[Image.Image, dict[str, object]]:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return Image.fromarray(pixels), {"format": "JPEG", "exif": exif}


def kinds(pixels: np.ndarray) -> dict[str, tuple[Image.Image, dict[str, object]]]:
    """Return a picture in every way that files hold colours, and how each is saved."""
    whole = Image.fromarray(pixels)
    deep = pixels[..., 0].astype(np.uint16) * 257
    clear = whole.convert("RGBA")
    clear.putalpha(Image.fromarray(pixels[..., 1]))
    palette = whole.quantize(32)
    made: dict[str, tuple[Image.Image, dict[str, object]]] = {
        f"orientation {n}": oriented(pixels, n) for n in range(1, 9)
    }
    return made | {
        "grey": (whole.convert("L"), {"format": "JPEG"}),
        "grey PNG": (whole.convert("L"), {"format": "PNG"}),
        "one bit": (whole.convert("1"), {"format": "PNG"}),
        "palette": (palette, {"format": "PNG"}),
        "palette with transparency": (palette, {"format": "PNG", "transparency": 3}),
        "16 bit": (Image.fromarray(deep), {"format": "PNG"}),
        "CMYK": (whole.convert("CMYK"), {"format": "JPEG"}),
        "alpha": (clear, {"format": "PNG"}),
        "alpha WebP": (clear, {"format": "WEBP", "lossless": True}),
        "WebP": (whole, {"format": "WEBP", "quality": 70}),
        "progressive": (whole, {"format": "JPEG", "progressive": True, "subsampling": 2}),
    }


KINDS = list(kinds(np.zeros((8, 8, 3), np.uint8)))


def loaded(file: Path, grey_range: tuple[int, int] | None) -> np.ndarray:
    """Return the pixels that an evaluation gets of a file."""
    items = [Item(f"{split}.x", file, "a", split) for split in ("train", "val", "test")]
    other = np.zeros((8, 8, 3), np.uint8)
    items.append(Item("other", other, "b", "train"))
    data = GrowingData(Given(items), size=SIZE, batch_size=1, test_share=0, grey_range=grey_range)
    data.order_classes(data.classes)
    ((images, _),) = list(data.test_dataloader())
    return np.asarray(images)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(80, 120), (301, 97), (20, 30)])
def test_the_pixels_are_those_of_data_loading(
    tmp_path: Path, picture: Picture, kind: str, size: tuple[int, int]
) -> None:
    made, options = kinds(picture(3, size))[kind]
    made.save(tmp_path / "x", **options)  # type: ignore[arg-type]
    content = (tmp_path / "x").read_bytes()
    grey_range = GREY_RANGE if kind == "16 bit" else None
    found = read_pictures([content], SIZE, Decoding(grey_range=grey_range))
    assert found.images.dtype == np.uint8
    assert np.array_equal(found.images, loaded(tmp_path / "x", grey_range))
    turned = size[::-1] if kind in {f"orientation {n}" for n in range(5, 9)} else size
    assert found.sizes == [turned]


def bomb(width: int, height: int) -> bytes:
    """Return a PNG of few bytes that says it has many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        end = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + end

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + head + rows + chunk(b"IEND", b"")


def test_pixels_of_all_pictures_of_a_request_are_limited(picture: Picture) -> None:
    limit = Decoding(max_pixels=20_000)
    file = io.BytesIO()
    Image.fromarray(picture(0, (100, 100))).save(file, "PNG")
    assert len(read_pictures([file.getvalue()] * 2, SIZE, limit).images) == 2
    with pytest.raises(BadInput, match=r"picture 3 of 3: the picture: 100x100.*limit of 0 pixels"):
        read_pictures([file.getvalue()] * 3, SIZE, limit)
    with pytest.raises(BadInput, match="the picture: 60000x60000, 3,600.0 megapixels, more than"):
        read_pictures([bomb(60_000, 60_000)], SIZE, Decoding())
    with pytest.raises(BadInput, match="the picture: corrupt or truncated"):
        read_pictures([bomb(100, 100)], SIZE, limit)


@pytest.mark.parametrize("count", [0, 65])
def test_the_number_of_pictures_is_limited(count: int) -> None:
    with pytest.raises(BadInput, match=f"{count} images in one request; send 1 to 64"):
        read_pictures([b"x"] * count, SIZE, Decoding())


def saved(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    npy.write_array(file, array, version=version, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
@pytest.mark.parametrize("shape", [(5, 7, 3), (2, 5, 7, 3)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_whole(
    shape: tuple[int, ...], version: tuple[int, int], order: str
) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    body = saved(np.array(values, order=order), version)  # type: ignore[call-overload]
    found = read_npy(body, 1000)
    assert np.array_equal(found, values.reshape(-1, 5, 7, 3))


def header(text: str) -> bytes:
    content = text.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(content)) + content


def described(shape: str, descr: str = "|u1", tail: bytes = b"") -> bytes:
    return header(f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n") + tail


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the body is no NumPy file"),
        (b"\x93NUMPY\x03\x00aaaa", "the body is no NumPy file .version"),
        (header("{"), "the body is no NumPy file"),
        (header("[" * 500), "the body is no NumPy file"),
        (header(" " * 5000 + "{}"), "the body is no NumPy file"),
        (saved(np.zeros((2, 2, 3), np.float32)), r"the array is float32 of shape \(2, 2, 3\)"),
        (saved(np.array([{"a": 1}], dtype=object)), "the array is object"),
        (saved(np.zeros((2, 2), np.uint8)), r"of shape \(2, 2\); send uint8 of"),
        (saved(np.zeros((3, 2, 2), np.uint8)), r"of shape \(3, 2, 2\); send uint8 of"),
        (described("(1000000, 1000000, 3)"), "the array has 1,000,000,000,000 pixels"),
        (described("(99999999, 1, 1, 3)"), "99,999,999 images in one request"),
        (described("(-2, -3, 3)"), "the array has 6 pixels; send 1 to"),
        (described("(0, 4, 3)"), "the array has 0 pixels; send 1 to"),
        (described("(4, 4, 3)", tail=b"abc"), "has 3 bytes where its shape .* needs 48"),
        (described("(2, 2, 3)", tail=b"a" * 13), "has 13 bytes where its shape .* needs 12"),
    ],
)
def test_arrays_that_are_no_pictures(body: bytes, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        read_npy(body, 10**6)
