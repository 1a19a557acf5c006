"""Image files are opened by one function: of known formats, bounded, and never waited for."""

import os
import socket
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from regrow.data.formats import ImageFolder, Torchvision
from regrow.data.images.conversion import Decoding
from regrow.data.images.decoding import decode, decode_mask
from regrow.data.images.opening import FORMATS, CorruptImage, image_size, open_image
from regrow.data.module import GrowingData
from regrow.errors import BadInput

ROOT = Path(__file__).parents[3]
RED = np.full((4, 6, 3), (200, 10, 30), np.uint8)
EPS = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n"
    b"(%pipe%id) (w) file\nshowpage\n%%EOF\n"
)


def png(width: int, height: int, *, is_whole: bool = False) -> bytes:
    """A grey PNG of few bytes, whatever its size; the pixels are there only if it is whole."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        end = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + end

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes((width + 1) * height if is_whole else 9))
    parts = chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "MPO"])
def test_the_formats_are_told_by_their_content(tmp_path: Path, name: str) -> None:
    options: dict[str, Any] = {"lossless": True} if name == "WEBP" else {}
    Image.fromarray(RED).save(tmp_path / "x", format=name, **options)
    (tmp_path / "x").rename(tmp_path / "x.png")
    assert np.abs(decode(tmp_path / "x.png").astype(int) - RED).max() <= 3
    assert name in FORMATS or name == "MPO"


def test_no_other_format_is_opened_and_no_program_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gs = tmp_path / "bin" / "gs"
    gs.parent.mkdir()
    gs.write_text(f"#!/bin/sh\ntouch {tmp_path}/CALLED\n")
    gs.chmod(0o755)
    monkeypatch.setenv("PATH", f"{gs.parent}:{os.environ['PATH']}")
    (tmp_path / "eps.png").write_bytes(EPS)
    for name in ("TGA", "ICO", "PCX", "SGI"):  # of Pillow's
        Image.fromarray(RED).save(tmp_path / f"{name}.png", format=name)
    for file in sorted(tmp_path.glob("*.png")):
        with pytest.raises(CorruptImage, match=rf"{file.name}: .*none of JPEG, PNG, BMP, GIF, W"):
            decode(file)
        with pytest.raises(CorruptImage, match="none of JPEG"):
            decode_mask(file)
    assert not (tmp_path / "CALLED").exists()


def test_libraries_that_open_images_themselves_open_the_same_formats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
        for n in range(4):
            Image.fromarray(RED + n).save(tmp_path / name / f"{n}.png")
    source = Torchvision("torchvision.datasets.ImageFolder")
    items = source.read(tmp_path).items
    assert [np.array_equal(decode(i.image), RED + k % 4) for k, i in enumerate(items)] == [
        True
    ] * 12
    (tmp_path / "b" / "2.png").write_bytes(EPS)
    with pytest.raises(CorruptImage, match="ImageFolder image 6: .*none of JPEG, PNG"):
        decode(items[6].image)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # warns above, and refuses twice that
    assert np.array_equal(decode(items[5].image), RED + 1)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 11)
    with pytest.raises(BadInput, match="ImageFolder image 5: Image size ") as refused:
        decode(items[5].image)
    assert not isinstance(refused.value, CorruptImage)


def test_one_function_opens_images() -> None:
    found = {
        file.relative_to(ROOT).as_posix()
        for file in ROOT.glob("[!.]*/**/*.py")
        # Examples stand for programs of others, and do without regrow.
        if not {"tests", "examples"} & {*file.parts} and "Image.open(" in file.read_text()
    }
    # What is packed for other servers runs there, without regrow.
    assert found == {"data/images/opening.py", "deploy/packing/inference.py"}


def test_a_large_image_is_told_from_a_corrupt_one_with_the_way_to_accept_it(tmp_path: Path) -> None:
    file = tmp_path / "scan.png"
    file.write_bytes(png(20_000, 15_000))
    with pytest.raises(
        BadInput,
        match=r"scan\.png: 20000x15000, 300\.0 megapixels, more than data\.max_pixels 178,956,970; "
        "raise it if",
    ) as refused:
        decode(file)
    assert not isinstance(refused.value, CorruptImage)
    file.write_bytes(png(30, 20, is_whole=True))
    assert decode(file, Decoding(max_pixels=600)).shape == (20, 30, 3)
    for read in (decode, decode_mask):
        with pytest.raises(BadInput, match=r"30x20, 0\.0 megapixels, more than data\.max_pix"):
            read(file, Decoding(max_pixels=599))


def test_accepted_images_are_above_the_limits_of_pillow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # warns above, and refuses twice that
    for side in (12, 20):
        (tmp_path / "x.png").write_bytes(png(side, side, is_whole=True))
        assert decode(tmp_path / "x.png").shape == (side, side, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_a_tile_counts_like_an_image(tmp_path: Path) -> None:
    tags = {256: 4, 257: 4, 258: 8, 259: 1, 262: 1, 277: 1, 322: 60_000, 323: 60_000}
    entries = b"".join(
        struct.pack("<HHII", tag, 4, 1, value)
        for tag, value in sorted({**tags, 324: 8, 325: 16}.items())
    )
    ifd = struct.pack("<H", len(tags) + 2) + entries + bytes(4)
    (tmp_path / "x.tif").write_bytes(b"II*\0" + struct.pack("<I", 8) + ifd)
    with pytest.raises(BadInput, match=r"60000x60000, in tiles, 3,600\.0 megapixels, more than"):
        decode(tmp_path / "x.tif")


def test_large_images_end_the_run_though_corrupt_ones_are_skipped(tmp_path: Path) -> None:
    for n in range(12):
        file = tmp_path / "ab"[n % 2] / f"{n}.png"
        file.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(n).integers(0, 256, (5, 5, 3), np.uint8)
        Image.fromarray(pixels).save(file)
    (tmp_path / "a" / "cut.png").write_bytes(png(30, 20))
    options = {"val_share": 0.4, "test_share": 0.0, "skip_corrupt": True}
    assert GrowingData(ImageFolder(), tmp_path, **options).num_skipped == 0
    data = GrowingData(ImageFolder(), tmp_path, **options)
    assert len(data.snapshot.items) == 12
    assert data.num_skipped == 1
    with pytest.raises(BadInput, match=r"cut\.png: 30x20, 0\.0 megapixels, more than"):
        _ = GrowingData(ImageFolder(), tmp_path, max_pixels=599, **options).snapshot
    with pytest.raises(BadInput, match=r"data\.max_pixels is 0"):
        GrowingData(ImageFolder(), tmp_path, max_pixels=0)


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (1, 1)])
def test_thin_images_are_resized_like_others(tmp_path: Path, size: tuple[int, int]) -> None:
    file = tmp_path / "thin.png"
    Image.new("RGB", size, (1, 2, 3)).save(file)
    assert decode(file).shape == (size[1], size[0], 3)


def test_images_without_pixels_are_corrupt(tmp_path: Path) -> None:
    for content in (png(0, 4), png(4, 0), b"P5 0 3 255\n", b"GIF89a\0\0\0\0\0\0\0;"):
        (tmp_path / "x.png").write_bytes(content)
        with pytest.raises(CorruptImage, match=r"x\.png: corrupt"):
            decode(tmp_path / "x.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders are POSIX")
@pytest.mark.timeout(20)
def test_what_would_be_waited_for_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket.png"))
    for name, reason in (("pipe", "a named pipe"), ("zero", "a device"), ("socket", "a socket")):
        for read in (decode, decode_mask):
            with pytest.raises(BadInput, match=rf"{name}\.png is {reason}") as refused:
                read(tmp_path / f"{name}.png")
            assert not isinstance(refused.value, CorruptImage)


def test_links_and_names_that_lead_nowhere_are_not_corrupt(tmp_path: Path) -> None:
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "gone.png").symlink_to("nothing.png")
    for name in ("loop.png", "gone.png", "nul\0.png", f"{'long' * 100}.png"):
        with pytest.raises(BadInput, match=r"\.png: ") as refused:
            decode(tmp_path / name)
        assert not isinstance(refused.value, CorruptImage)


@pytest.mark.parametrize(
    ("raised", "is_corrupt", "reason"),
    [
        (OSError(5, "Input/output error"), False, "Input/output error"),
        (MemoryError(), False, "too little memory"),
        (OSError("image file is truncated"), True, "image file is truncated"),
        (ZeroDivisionError(), True, "ZeroDivisionError"),
    ],
)
def test_a_disk_that_fails_does_not_make_images_corrupt(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    raised: Exception,
    is_corrupt: bool,
    reason: str,
) -> None:
    def load(self: ImageFile.ImageFile) -> None:
        raise raised

    Image.fromarray(RED).save(tmp_path / "x.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    with pytest.raises(BadInput, match=rf"x\.png: .*{reason}") as refused:
        decode(tmp_path / "x.png")
    assert isinstance(refused.value, CorruptImage) == is_corrupt


def test_what_pillow_warns_of_is_kept_and_not_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = ImageFile.ImageFile.load

    def warn(self: ImageFile.ImageFile) -> Any:
        warnings.warn("odd block", UserWarning, stacklevel=1)
        return load(self)

    Image.fromarray(RED).save(tmp_path / "x.bmp")
    assert open_image(tmp_path / "x.bmp").info["warnings"] == []
    with warnings.catch_warnings(), monkeypatch.context() as patch:
        patch.setattr(ImageFile.ImageFile, "load", warn)
        warnings.simplefilter("error")
        opened = open_image(tmp_path / "x.bmp")
    assert opened.info["warnings"] == ["odd block"]
    assert np.array_equal(np.asarray(opened), RED)


def test_more_frames_than_the_first_are_told(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 6, 3), value, np.uint8)) for value in (0, 99, 200)]
    for suffix in ("gif", "tif", "webp", "png"):
        alone, several = tmp_path / f"one.{suffix}", tmp_path / f"more.{suffix}"
        frames[1].save(alone)
        frames[1].save(several, save_all=True, append_images=frames[2:])
        assert open_image(alone).info["is_animated"] is False
        found = open_image(several)
        assert found.info["is_animated"] is True
        assert np.abs(np.asarray(found.convert("RGB")).astype(int) - 99).max() <= 3
    frames[1].save(tmp_path / "x.jpg", format="MPO", save_all=True, append_images=frames[2:])
    assert open_image(tmp_path / "x.jpg").info["is_animated"] is False


def test_the_size_of_an_image_is_told_without_its_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    for orientation, size in ((1, (20, 30)), (3, (20, 30)), (6, (30, 20)), (8, (30, 20))):
        exif[0x0112] = orientation
        Image.effect_noise((30, 20), 99).save(tmp_path / "a.jpg", exif=exif)
        assert image_size(tmp_path / "a.jpg") == size
        assert open_image(tmp_path / "a.jpg").size == size[::-1]
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[:-50])
    assert image_size(tmp_path / "a.jpg") == (30, 20)
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(CorruptImage, match="corrupt"):
        image_size(tmp_path / "a.jpg")
    Image.new("RGB", (3, 2)).save(tmp_path / "b.png")
    with pytest.raises(BadInput, match=r"more than data\.max_pixels 5"):
        image_size(tmp_path / "b.png", 5)


def oriented(mode: str, kind: str, orientation: int) -> bytes:
    """A picture of noise whose EXIF data turns it."""
    random = np.random.default_rng(orientation)
    picture = Image.fromarray(random.integers(0, 256, (6, 9, 3), dtype=np.uint8)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    made = BytesIO()
    picture.save(made, format=kind, exif=exif)
    return made.getvalue()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_bytes_of_a_file_are_read_as_the_file(
    tmp_path: Path, mode: str, orientation: int
) -> None:
    content = oriented(mode, "JPEG", orientation)
    (tmp_path / "x.jpg").write_bytes(content)
    assert np.array_equal(decode(content), decode(tmp_path / "x.jpg"))
    assert image_size(content) == image_size(tmp_path / "x.jpg") == decode(content).shape[:2]


def test_bytes_that_are_no_picture_are_refused_without_a_word_on_files() -> None:
    with pytest.raises(CorruptImage, match=r"^the picture: corrupt .*; send another$"):
        decode(png(4, 4)[:30])
    with pytest.raises(CorruptImage, match="the picture: corrupt or truncated .none of JPEG"):
        image_size(b"no picture")
    with pytest.raises(BadInput, match="the picture: 8x8, 0.0 megapixels, more than the limit of"):
        open_image(png(8, 8), max_pixels=63)


def test_threads_that_read_images_leave_warnings_and_limit_as_they_were() -> None:
    limit, filters, show = Image.MAX_IMAGE_PIXELS, list(warnings.filters), warnings.showwarning
    contents = [oriented("RGB", "PNG", 1 + n % 8) for n in range(64)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(decode, contents * 4))
    assert all(np.array_equal(a, decode(b)) for a, b in zip(found, contents * 4, strict=True))
    assert limit == Image.MAX_IMAGE_PIXELS
    assert list(warnings.filters) == filters
    assert warnings.showwarning == show
