"""Memory for resized images and masks, which is filled when they are first read."""

import mmap
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from regrow.data.snapshot import VOID, Item, Mask
from regrow.data.transforms import Decoding, decode, decode_mask, resize, small_mask

SLAB = 2**26  # bytes that are asked for at a time; only what is filled takes up memory


@dataclass(frozen=True, slots=True)
class Pixels:
    """What is remembered of the files of an item.

    Each has a place of its own, and what goes there is a function of the files alone: whoever
    reads them, and in what order, the examples are the same.

    Args:
        size: Height and width of the image in its file, in pixels.
        image: Where the resized image is kept, uint8 (3, h, w); None where there is no room.
        mask: Where the resized mask is kept, numbers as the file has them, (h, w), if there is one.
        is_filled: Whether they are there, bool (1,), in the same memory.
        decoding: How files become pixels.
    """

    size: tuple[int, int]
    image: np.ndarray | None = None
    mask: np.ndarray | None = None
    is_filled: np.ndarray | None = None
    decoding: Decoding = Decoding()

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
            self._keep(_small(image, size).numpy(), small)

    def read(self, item: Item, size: tuple[int, int]) -> tuple[Tensor, np.ndarray | None]:
        """Give the resized image and the numbers of the mask, from memory or else from the files.

        Args:
            item: The item.
            size: Height and width that both are resized to, in pixels.

        Returns:
            uint8 (3, h, w), and whole numbers (h, w) where the target is a mask.

        Raises:
            BadInput: If a file cannot be read.
        """
        if self.image is not None and self.is_filled is not None and self.is_filled[0]:
            return torch.from_numpy(self.image), self.mask
        image, mask = _small(decode(item.image, self.decoding), size), None
        if isinstance(item.target, Mask):
            mask = small_mask(decode_mask(item.target.pixels, self.decoding), size)
        self._keep(image.numpy(), mask)
        return image, mask

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

    def __init__(self, num_bytes: int, decoding: Decoding = Decoding()) -> None:  # noqa: B008
        self.num_left, self.decoding = num_bytes, decoding
        self._slab: np.ndarray = np.empty(0, np.uint8)

    def place(
        self, file_size: tuple[int, int], size: tuple[int, int], numbers: tuple[int, ...] | None
    ) -> Pixels:
        """Give an item its place, or none where there is no room left.

        Args:
            file_size: Height and width of the image in its file, in pixels.
            size: Height and width of what is kept.
            numbers: The numbers in its mask, if it has one.
        """
        height, width = size
        is_small = not numbers or 0 <= min(numbers) <= max(numbers) <= VOID
        area, kind = height * width, np.dtype("uint8" if is_small else "int32")
        masked = 0 if numbers is None else area * kind.itemsize
        taken = self._take(3 * area + masked + 1)
        if taken is None:
            return Pixels(file_size, decoding=self.decoding)
        image = taken[: 3 * area].reshape(3, height, width)
        mask = taken[3 * area : -1].view(kind).reshape(size) if masked else None
        return Pixels(file_size, image, mask, taken[-1:].view(bool), self.decoding)

    def _take(self, num_bytes: int) -> np.ndarray | None:
        if num_bytes > self.num_left:
            self.num_left = 0  # as many of the first items as fit, and none after them
            return None
        self.num_left -= num_bytes
        if num_bytes > len(self._slab):
            self._slab = np.frombuffer(mmap.mmap(-1, max(SLAB, num_bytes)), np.uint8)
        taken, self._slab = self._slab[:num_bytes], self._slab[num_bytes:]
        return taken


def _small(image: np.ndarray, size: tuple[int, int]) -> Tensor:
    return resize(torch.from_numpy(np.array(image)).permute(2, 0, 1), size)
