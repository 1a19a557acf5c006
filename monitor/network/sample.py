"""A bounded sample of pictures, chosen by their names, as the network takes them."""

import os
import tempfile
from collections.abc import Iterator
from heapq import heappush, heapreplace

import numpy as np
from PIL import Image

from regrow.monitor.draws import key_of


class Sample:
    """The pictures whose names have the smallest hashes, of all that were offered.

    They lie in a temporary file and not in memory: hundreds of large pictures may be asked for.

    Args:
        size: Height and width of the network's images.
        count: Largest number of pictures.
    """

    def __init__(self, size: tuple[int, int], count: int) -> None:
        self.size, self.count = size, count
        self._kept: list[tuple[int, int, int]] = []  # key, place, slot
        self._absent: set[int] = set()  # slots of pictures that were not kept
        self._slots: np.ndarray | None = None

    def wants(self, id_: str) -> bool:
        """Whether a picture would be kept now.

        Args:
            id_: What tells it from all others.
        """
        is_full = len(self._kept) >= self.count
        return not is_full or (self.count > 0 and -sample_key(id_) > self._kept[0][0])

    def offer(self, id_: str, place: int, pixels: np.ndarray | None) -> bool:
        """Keep a picture if its turn comes, and return whether it is kept.

        One whose pixels are not there takes its place in the sample all the same, so that no other
        one comes in because of it.

        Args:
            id_: What tells it from all others.
            place: A number by which it is found again.
            pixels: The picture, uint8 RGB (h, w, 3); None where it is not there.
        """
        key = -sample_key(id_)
        slot = len(self._kept)
        if slot < self.count:
            heappush(self._kept, (key, place, slot))
        elif self._kept and key > self._kept[0][0]:
            slot = self._kept[0][2]
            heapreplace(self._kept, (key, place, slot))
        else:
            return False
        self._absent.discard(slot)
        if pixels is None:
            self._absent.add(slot)
            return True
        if self._slots is None:
            self._slots = _on_disk((self.count, 3, *self.size))
        self._slots[slot] = as_served(pixels, self.size)
        return True

    def __len__(self) -> int:
        """Return how many pictures there are."""
        return len(self._kept) - self.num_absent

    @property
    def num_absent(self) -> int:
        """Return how many pictures of the sample are not there."""
        return len(self._absent)

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the place and the picture, uint8 (3, h, w), of each; the smallest hash first."""
        for _, place, slot in sorted(self._kept, reverse=True):
            if self._slots is not None and slot not in self._absent:
                yield place, np.array(self._slots[slot])


def as_served(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a picture as the server does, but without PyTorch.

    Both average as Pillow does. Few pixels differ, and these by one level of 255, whichever way the
    processor rounds there; the reference and the hours are resized alike.

    Args:
        pixels: The picture, uint8 RGB (h, w, 3).
        size: Height and width.

    Returns:
        uint8 (3, *size).
    """
    image = Image.fromarray(np.ascontiguousarray(pixels))
    resized = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(resized).transpose(2, 0, 1)


def sample_key(id_: str) -> int:
    """Return the number of 64 bits of a picture; those with the smallest ones are the sample."""
    return key_of(f"sample {id_}")


def _on_disk(shape: tuple[int, ...]) -> np.ndarray:
    """Return an array of bytes in a file without a name, which is gone when the array is."""
    with tempfile.TemporaryFile() as file:
        # A full disk is an error here; later, when a page is first written, it would be a signal.
        os.posix_fallocate(file.fileno(), 0, int(np.prod(shape)))
        return np.memmap(file, np.uint8, "r+", shape=shape)
