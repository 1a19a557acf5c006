"""Opening of image files, or of their bytes: of known formats and bounded size."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from PIL import Image, ImageOps, UnidentifiedImageError

from regrow.errors import BadInput
from regrow.files import one_line, open_regular

# What Pillow decodes by itself. Others of its formats start programs (EPS) or are no pictures.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MAX_PIXELS = 178_956_970  # where Pillow takes an image for a bomb: a quarter of 2 GiB, in RGB
ORIENTATION = 0x0112  # a tag of EXIF; from 5 on it swaps height and width
TILE_SIDES, BITS_PER_SAMPLE = (322, 323), 258  # tags of TIFF
SENT = "the picture"  # what errors call an image that has no file


class CorruptImage(BadInput):
    """A corrupt image: a file that is there and is no image, or only part of one."""


def open_image(image: Path | bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open and decode an image, the way up that its EXIF data says; threads may do so at once.

    Args:
        image: The file, or its bytes; what it holds is told by its content, whatever its name ends
            in.
        max_pixels: An image of more pixels is refused before it is decoded.

    Returns:
        The image; its `info` has `warnings`, what Pillow warned of; `is_animated`, whether it has
        more frames than this first one; `depth`, the bits of a channel; and `max_value`, the
        largest one that a channel of the file may have.

    Raises:
        BadInput: If it is missing, no regular file, cannot be read, or has too many pixels.
        CorruptImage: If it is truncated, or no image of these formats.
    """
    with (
        _named_errors(image),
        _unlimited() as said,
        _content(image) as f,
        Image.open(f, formats=FORMATS) as opened,
    ):
        _refuse_size(image, opened, max_pixels)
        # The second picture of a photo is a preview, which nobody means.
        is_animated = opened.format != "MPO" and bool(getattr(opened, "is_animated", False))
        depth, max_value = _depth(opened, f), _max_value(opened)
        opened.load()
        ImageOps.exif_transpose(opened, in_place=True)
        opened.info |= {"is_animated": is_animated, "depth": depth, "max_value": max_value}
        opened.info["warnings"] = list(dict.fromkeys(said))
        return opened


def is_turned_by_exif(path: Path) -> bool:
    """Whether the EXIF data of an image swaps its height and width.

    Raises:
        BadInput: As `open_image`.
    """
    with _named_errors(path), open_regular(path) as f, Image.open(f, formats=FORMATS) as opened:
        return bool(opened.getexif().get(ORIENTATION, 1) >= 5)


def image_size(image: Path | bytes, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Return the height and width of an image, the way up that its EXIF data says, in pixels.

    Its pixels are not decoded.

    Raises:
        BadInput: As `open_image`.
    """
    with (
        _named_errors(image),
        _unlimited(),
        _content(image) as f,
        Image.open(f, formats=FORMATS) as opened,
    ):
        _refuse_size(image, opened, max_pixels)
        width, height = opened.size
        is_turned = opened.getexif().get(ORIENTATION, 1) >= 5
        return (width, height) if is_turned else (height, width)


def num_channels(path: Path) -> int:
    """Return how many numbers a pixel of an image file has; those of a palette are colours.

    Raises:
        BadInput: As `open_image`.
    """
    with _named_errors(path), open_regular(path) as f, Image.open(f, formats=FORMATS) as opened:
        return 3 if opened.mode == "P" else len(opened.getbands())


@contextmanager
def opened_by_library(name: str) -> Iterator[None]:
    """Let a library that opens images itself open the same formats, and name its errors.

    Args:
        name: What to call the image in an error.
    """
    original = Image.open

    def of_formats(file: Any, mode: Any = "r", formats: Any = None) -> Image.Image:
        return original(file, mode, FORMATS)

    with _named_errors(name), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        Image.open = of_formats  # type: ignore[assignment]
        try:
            yield
        finally:
            Image.open = original


def _content(image: Path | bytes) -> IO[bytes]:
    return BytesIO(image) if isinstance(image, bytes) else open_regular(image)


@contextmanager
def _named_errors(path: Path | str | bytes) -> Iterator[None]:
    """Name the file in any error, and tell what is corrupt from what could not be read."""
    if isinstance(path, bytes):
        path = SENT
    try:
        yield
    except BadInput:
        raise
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such file; correct the list or add the file") from error
    except Image.DecompressionBombError as error:  # of a library that opens images itself
        raise BadInput(f"{path}: {error} Make the image smaller") from error
    except MemoryError as error:
        raise BadInput(f"{path}: too little memory to decode it; make the image smaller") from error
    except UnidentifiedImageError as error:
        raise _corrupt(path, f"none of {', '.join(FORMATS)}") from error
    except Exception as error:  # Pillow's readers raise a dozen kinds for broken files
        if isinstance(error, OSError) and error.errno is not None:
            raise BadInput(
                f"{path}: {error.strerror}; it must be a file that may be read"
            ) from error
        raise _corrupt(path, one_line(error)) from error


def _corrupt(path: Path | str, reason: str) -> CorruptImage:
    if path == SENT:
        return CorruptImage(f"{path}: corrupt or truncated ({reason}); send another")
    return CorruptImage(
        f"{path}: corrupt or truncated ({reason}); replace it; --data.skip_corrupt=true skips such "
        "images"
    )


def _depth(opened: Image.Image, file: IO[bytes]) -> int:
    """Return the bits of a channel, which Pillow does not say of colours."""
    if opened.format == "PNG":
        place = file.tell()
        file.seek(24)  # in the header, which comes first
        depth = file.read(1)[0]
        file.seek(place)
        return depth
    bits = getattr(opened, "tag_v2", {}).get(BITS_PER_SAMPLE, (8,))
    return max(bits) if isinstance(bits, tuple) else 8


def _max_value(opened: Image.Image) -> int:
    """Return the largest value that a file of 16 bits may have; Pillow scales that of PGM."""
    tiles: Any = getattr(opened, "tile", ())
    arguments: Any = tiles[0][3] if opened.format == "PPM" and tiles else None
    is_scaled = isinstance(arguments, tuple) and len(arguments) == 2
    return int(arguments[1]) if is_scaled else 65535


def _refuse_size(image: Path | bytes, opened: Image.Image, max_pixels: int) -> None:
    path = SENT if isinstance(image, bytes) else image
    width, height = opened.size
    tags = getattr(opened, "tag_v2", {})
    # A tile is decoded whole, however little of it lies in the image.
    tile = [tags.get(tag, 0) for tag in TILE_SIDES]
    sides = tile if all(type(n) is int for n in tile) and tile[0] * tile[1] > width * height else ()
    across, down = sides or (width, height)
    if across < 1 or down < 1:
        raise _corrupt(path, f"its size is {width}x{height}")
    if across * down > max_pixels:
        of_tile = ", in tiles" if sides else ""
        found = (
            f"{path}: {across}x{down}{of_tile}, {across * down / 1e6:,.1f} megapixels, more than"
        )
        if path == SENT:
            raise BadInput(f"{found} the limit of {max_pixels:,} pixels; make it smaller")
        raise BadInput(
            f"{found} data.max_pixels {max_pixels:,}; raise it if the image is what you expect, or "
            "make the image smaller"
        )


class _Shared(threading.local):
    """What Pillow warned of in each thread, where that is asked for."""

    said: list[str] | None = None


_SHARED, _LOCK, _ENTERED, _UNDO = _Shared(), threading.Lock(), [0], ExitStack()


@contextmanager
def _unlimited() -> Iterator[list[str]]:
    """Yield what Pillow warns of in this thread, and switch off Pillow's own limit of pixels.

    Half of that limit warns, and the whole looks like a fault. Limit and warnings belong to the
    process: the first thread changes them, and the last puts them back.
    """
    with _LOCK:
        if not _ENTERED[0]:
            _change()
        _ENTERED[0] += 1
    before, _SHARED.said = _SHARED.said, []
    try:
        yield _SHARED.said
    finally:
        _SHARED.said = before
        with _LOCK:
            _ENTERED[0] -= 1
            if not _ENTERED[0]:
                _UNDO.close()


def _change() -> None:
    _UNDO.enter_context(warnings.catch_warnings())
    _UNDO.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    Image.MAX_IMAGE_PIXELS = None
    warnings.simplefilter("always")
    show = warnings.showwarning

    def note(message: Warning | str, *where: Any, **options: Any) -> None:
        if _SHARED.said is None:  # of a thread that reads no image
            show(message, *where, **options)
        else:
            _SHARED.said.append(str(message))

    warnings.showwarning = note
