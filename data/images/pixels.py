"""Memory for resized images and masks, which is filled when they are first read."""

import mmap
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from regrow.data.images.conversion import Decoding
from regrow.data.images.decoding import decode, decode_mask
from regrow.data.images.transforms import small_image, small_mask
from regrow.data.images.unchanged import Unchanged
from regrow.data.targets.labels import VOID, Item, Mask

SLAB = 2**26  # bytes that are asked for at a time; only what is filled takes up memory


@dataclass(frozen=True, slots=True)
class Pixels:
    """The resized pixels of an item, kept in memory, and the hashes of its files.

    Each has a place of its own, and what goes there is a function of the files alone: whoever
    reads them, and in what order, the examples are the same.

    Args:
        size: Height and width of the image in its file, in pixels.
        image: Where the resized image is kept, uint8 (3, h, w); None where there is no room.
        mask: Where the resized mask is kept, numbers as the file has them, (h, w), if there is one.
        is_filled: Whether they are there, bool (1,), in the same memory.
        decoding: How files become pixels.
        known: What the pixels of the image must be.
        known_mask: What the numbers of the mask must be.
    """

    size: tuple[int, int]
    image: np.ndarray | None = None
    mask: np.ndarray | None = None
    is_filled: np.ndarray | None = None
    decoding: Decoding = Decoding()
    known: Unchanged | None = None
    known_mask: Unchanged | None = None

    @property
    def num_bytes(self) -> int:
        """Count the bytes that are filled."""
        if self.is_filled is None or not self.is_filled[0]:
            return 0
        return sum(part.nbytes for part in (self.image, self.mask) if part is not None)

    def fill(self, image: np.ndarray, mask: np.ndarray | None) -> None:
        """Keep what was decoded, where there is room.

        Args:
            image: The whole image, uint8 (h, w, 3).
            mask: The numbers of the whole mask, (h, w), if there is one.
        """
        if self.image is not None:
            size = (self.image.shape[1], self.image.shape[2])
            small = small_mask(mask, size) if mask is not None else None
            self._keep(small_image(image, size).numpy(), small)

    def read(self, item: Item, size: tuple[int, int]) -> tuple[Tensor, np.ndarray | None]:
        """Return the resized image and the numbers of the mask, from memory or else the files.

        Args:
            item: The item.
            size: Height and width that both are resized to, in pixels.

        Returns:
            uint8 (3, h, w), and whole numbers (h, w) where the target is a mask.

        Raises:
            BadInput: If a file cannot be read, or has changed.
        """
        if self.image is not None and self.is_filled is not None and self.is_filled[0]:
            return torch.from_numpy(self.image), self.mask
        image, mask = small_image(self.whole(item), size), None
        if isinstance(item.target, Mask):
            mask = small_mask(self.numbers(item.target), size)
        self._keep(image.numpy(), mask)
        return image, mask

    def whole(self, item: Item) -> np.ndarray:
        """Decode the image of the item, uint8 (h, w, 3); refuse one that has changed."""

        def read() -> np.ndarray:
            return decode(item.image, self.decoding)

        return self.known.read(item.image, item.name, read) if self.known is not None else read()

    def numbers(self, mask: Mask) -> np.ndarray:
        """Decode the mask of the item, whole numbers (h, w); refuse one that has changed."""

        def read() -> np.ndarray:
            return decode_mask(mask.pixels, self.decoding)

        if self.known_mask is None:
            return read()
        return self.known_mask.read(mask.pixels, "a mask", read)

    def _keep(self, image: np.ndarray, mask: np.ndarray | None) -> None:
        if self.image is None or self.is_filled is None:
            return
        self.image[...] = image
        if self.mask is not None and mask is not None:
            self.mask[...] = mask
        self.is_filled[0] = True  # at last: until then it is read from the files


class PixelStore:
    """Memory that a process has in common with those forked from it.

    What a worker of a loader reads is thus kept for the others and for the epochs to come, and all
    of them together take no more than one. Where workers are not forked (macOS, Windows), each has
    a copy of what was filled before, and keeps what it reads until its epoch ends.

    Args:
        num_bytes: So much is given out at most.
        decoding: How files become pixels.
    """

    def __init__(self, num_bytes: int, decoding: Decoding = Decoding()) -> None:
        self.num_left, self.decoding = num_bytes, decoding
        self._pixels, self._stamps = _Slabs(), _Slabs()

    def place(
        self,
        file_size: tuple[int, int],
        size: tuple[int, int],
        numbers: tuple[int, ...] | None,
        hashes: tuple[bytes | None, bytes | None] = (None, None),
    ) -> Pixels:
        """Return a place in memory for an item, or one without where there is no room left.

        Args:
            file_size: Height and width of the image in its file, in pixels.
            size: Height and width of what is kept.
            numbers: The numbers in its mask, if it has one.
            hashes: The hashes of the pixels of the image and of the numbers of the mask, which are
                compared when they are read again.
        """
        height, width = size
        is_small = not numbers or 0 <= min(numbers) <= max(numbers) <= VOID
        area, kind = height * width, np.dtype("uint8" if is_small else "int32")
        masked = 0 if numbers is None else area * kind.itemsize
        known = [None if own is None else Unchanged(own, self._stamp()) for own in hashes]
        taken = self._take(3 * area + masked + 1)
        if taken is None:
            return Pixels(file_size, None, None, None, self.decoding, *known)
        image = taken[: 3 * area].reshape(3, height, width)
        mask = taken[3 * area : -1].view(kind).reshape(size) if masked else None
        return Pixels(file_size, image, mask, taken[-1:].view(bool), self.decoding, *known)

    def _take(self, num_bytes: int) -> np.ndarray | None:
        if num_bytes > self.num_left:
            self.num_left = 0  # as many of the first items as fit, and none after them
            return None
        self.num_left -= num_bytes
        return self._pixels.take(num_bytes)

    def _stamp(self) -> np.ndarray:
        return self._stamps.take(24).view(np.int64)


class _Slabs:
    """Memory in common, of which parts are taken one after the other."""

    def __init__(self) -> None:
        self._rest: np.ndarray = np.empty(0, np.uint8)

    def take(self, num_bytes: int) -> np.ndarray:
        if num_bytes > len(self._rest):
            self._rest = np.frombuffer(mmap.mmap(-1, max(SLAB, num_bytes)), np.uint8)
        taken, self._rest = self._rest[:num_bytes], self._rest[num_bytes:]
        return taken
