"""Decoding of image files and masks to arrays of pixels."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import numpy as np

from regrow.data.images.conversion import Decoding, Facts, converted
from regrow.data.images.opening import SENT, open_image
from regrow.errors import BadInput


class Derived(ABC):
    """An image that is computed when it is read, such as one whose hash is compared."""

    @abstractmethod
    def __call__(self, decoding: Decoding = Decoding()) -> np.ndarray:
        """Return the pixels, uint8 RGB (h, w, 3).

        Args:
            decoding: How files become pixels.

        Raises:
            BadInput: If it cannot be used.
        """


def decode(
    image: Path | bytes | np.ndarray | Callable[[], np.ndarray],
    decoding: Decoding = Decoding(),
) -> np.ndarray:
    """Return the pixels of an image, uint8 RGB (h, w, 3), the way up that its EXIF data says.

    Args:
        image: The file, or its bytes, or pixels, which are given back, or what reads them.
        decoding: How a file becomes pixels.

    Raises:
        BadInput: If the file is missing, no regular file, or too large, or holds numbers that are
            no colours.
        CorruptImage: If it is truncated or no image.
    """
    return decode_noted(image, decoding)[0]


def decode_noted(
    image: Path | bytes | np.ndarray | Callable[[], np.ndarray], decoding: Decoding
) -> tuple[np.ndarray, Facts]:
    """Return the pixels of an image as `decode` does, and what they leave out of a file."""
    if isinstance(image, np.ndarray):
        return image, {}
    if isinstance(image, Derived):
        return image(decoding), {}
    if not isinstance(image, Path | bytes):
        return image(), {}
    name = SENT if isinstance(image, bytes) else image
    return converted(open_image(image, decoding.max_pixels), name, decoding)


def decode_mask(
    mask: Path | np.ndarray | Callable[..., np.ndarray],
    decoding: Decoding = Decoding(),
) -> np.ndarray:
    """Return the numbers of a mask, whole numbers (h, w); a palette's indices are the numbers.

    Args:
        mask: The file, or the numbers, which are given back, or what draws them.
        decoding: How a file becomes pixels.

    Raises:
        BadInput: If the file is missing, no regular file, or too large, or has more than one
            channel.
        CorruptImage: If it is truncated or no image.
    """
    if isinstance(mask, np.ndarray):
        return mask
    if not isinstance(mask, Path):
        return mask(decoding)
    pixels = np.asarray(open_image(mask, decoding.max_pixels))
    if pixels.ndim != 2 or not np.issubdtype(pixels.dtype, np.integer):
        raise BadInput(
            f"{mask}: a mask has one channel of class numbers, this has {pixels.shape} "
            f"{pixels.dtype}; save it as 8-bit grey or with a palette, each colour as the "
            "number of its class"
        )
    return pixels
