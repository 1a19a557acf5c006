"""Pictures of a request: encoded files or arrays become the pixels that data loading makes."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib import format as npy

from regrow.data.images.conversion import Decoding
from regrow.data.images.decoding import decode
from regrow.data.images.opening import image_size
from regrow.data.images.transforms import small_image
from regrow.errors import BadInput
from regrow.files import one_line

MAX_IMAGES = 64  # of one request
MAX_HEADER = 1000  # characters of the header of an array


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of one request, resized as a network sees them.

    Args:
        images: The resized images, uint8 (n, 3, h, w).
        sizes: Height and width of each picture as it was sent.
    """

    images: np.ndarray
    sizes: list[tuple[int, int]]


def read_pictures(
    given: Sequence[bytes] | np.ndarray, size: tuple[int, int], decoding: Decoding
) -> Pictures:
    """Decode and resize pictures, bit for bit as training and evaluation do the same files.

    Args:
        given: The bytes of encoded pictures, or decoded ones, uint8 (n, h, w, 3).
        size: Height and width that they are resized to.
        decoding: How pictures become pixels; its limit of pixels is one of all of them together.

    Raises:
        BadInput: If there are none or too many, or one cannot be read.
    """
    refuse_count(len(given))
    left, images, sizes = decoding.max_pixels, [], []
    for place, one in enumerate(given):
        try:
            height, width = image_size(one, left) if isinstance(one, bytes) else one.shape[:2]
            left -= height * width
            pixels = decode(one, decoding)
        except BadInput as error:
            at = f"picture {place + 1} of {len(given)}: " if len(given) > 1 else ""
            raise BadInput(f"{at}{error}") from error
        images.append(small_image(pixels, size).numpy())
        sizes.append((int(pixels.shape[0]), int(pixels.shape[1])))
    return Pictures(np.stack(images), sizes)


def refuse_count(count: int) -> None:
    """Refuse a request of no images, or of more than one request may have."""
    if not 1 <= count <= MAX_IMAGES:
        raise BadInput(f"{count:,} images in one request; send 1 to {MAX_IMAGES}")


def read_npy(body: bytes, max_pixels: int) -> np.ndarray:
    """Return the pictures in the bytes of a NumPy file, without copying them.

    Args:
        body: The file, as `numpy.save` writes it: uint8, RGB, (h, w, 3) or (n, h, w, 3).
        max_pixels: How many pixels they may have together.

    Returns:
        uint8 (n, h, w, 3).

    Raises:
        BadInput: If it is anything else.
    """
    file = io.BytesIO(body)
    try:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"version {version}")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, is_fortran, dtype = read(file, max_header_size=MAX_HEADER)
    except Exception as error:  # of a header that is no literal, a dozen kinds
        raise BadInput(f"the body is no NumPy file ({one_line(error)})") from error
    if dtype != np.uint8 or len(shape) not in (3, 4) or shape[-1] != 3:
        raise BadInput(
            f"the array is {dtype} of shape {shape}; send uint8 of (h, w, 3) or (n, h, w, 3)"
        )
    batch = shape if len(shape) == 4 else (1, *shape)
    refuse_count(batch[0])
    num_pixels = batch[0] * batch[1] * batch[2]
    if min(batch) < 1 or num_pixels > max_pixels:
        raise BadInput(f"the array has {num_pixels:,} pixels; send 1 to {max_pixels:,}")
    if len(body) - file.tell() != 3 * num_pixels:
        raise BadInput(
            f"the array has {len(body) - file.tell():,} bytes where its shape {shape} needs "
            f"{3 * num_pixels:,}"
        )
    values = np.frombuffer(body, np.uint8, offset=file.tell())
    return values.reshape(shape, order="F" if is_fortran else "C").reshape(batch)
