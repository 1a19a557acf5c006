"""The examples of a split: an image and its target in row numbers, from memory or from the file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from regrow.data.sampling import Key, counter_seed
from regrow.data.snapshot import VOID, Boxes, Item, Target
from regrow.data.transforms import augmented, decode, decode_mask, resize, resize_mask

Example = tuple[Tensor, Any]


@dataclass(frozen=True, slots=True)
class Pixels:
    """What is remembered of the files of an item.

    Args:
        size: Height and width of the image in its file, in pixels.
        image: The resized image, uint8 (3, h, w), where it is kept.
        mask: The resized mask, numbers as the file has them, (h, w), where it is kept.
    """

    size: tuple[int, int]
    image: np.ndarray | None = None
    mask: np.ndarray | None = None

    @property
    def num_bytes(self) -> int:
        """Count the bytes."""
        return sum(part.nbytes for part in (self.image, self.mask) if part is not None)


class Examples(Dataset[Example]):
    """The images of one split, resized, with targets in row numbers.

    Where some boxes or masks do not show all classes, each target is a mapping that also says which
    it knows, `known` (c,); a mask is its `mask` then.
    """

    def __init__(
        self,
        items: Sequence[Item],
        kept: Sequence[Pixels],
        rows: Mapping[str, int],
        size: tuple[int, int],
        augment: Sequence[v2.Transform],
        seed: int,
        num_rows: int | None = None,
    ) -> None:
        self.items, self.kept, self.rows = items, kept, rows
        self.num_rows = len(rows) if num_rows is None else num_rows
        self.is_partial = any(item.known is not None for item in items)
        self.labels = {name: torch.tensor(row) for name, row in rows.items()}
        self.size, self.augment, self.seed = size, augment, seed

    def __len__(self) -> int:
        """Count the images."""
        return len(self.items)

    def __getitem__(self, key: Key) -> Example:
        """Give the image and target of an epoch and index, augmented as this copy of it is."""
        epoch, index, *copy = key
        item, kept = self.items[index], self.kept[index]
        if kept.image is not None:
            image = torch.from_numpy(kept.image)
        else:
            image = _small(decode(item.image), self.size)
        target = self._target(item.target, kept)
        if self.augment:
            seed = counter_seed(self.seed, epoch, index, *copy)
            image, target = augmented(image, target, self.augment, seed)
        if self.is_partial and not isinstance(item.target, str):
            parts = target if isinstance(target, dict) else {"mask": target}
            target = {**parts, "known": self._known(item)}
        return image, target

    def _known(self, item: Item) -> Tensor:
        """Say for each row whether the label would show its class, (c,)."""
        known = torch.ones(self.num_rows, dtype=torch.bool)
        if item.known is not None:
            known[[row for name, row in self.rows.items() if name not in item.known]] = False
        return known

    def _target(self, target: Target, kept: Pixels) -> Any:
        if isinstance(target, str):
            return self.labels[target]
        if isinstance(target, Boxes):
            labels = torch.tensor([self.rows[name] for name in target.classes], dtype=torch.long)
            down, across = (new / old for new, old in zip(self.size, kept.size, strict=True))
            scale = torch.tensor([across, down, across, down])
            return {"boxes": torch.from_numpy(target.xyxy) * scale, "labels": labels}
        numbers = kept.mask
        if numbers is None:
            numbers = _small_mask(decode_mask(target.pixels), self.size)
        table = np.full(max(VOID, *target.names, *target.void) + 1, VOID, dtype=np.uint8)
        for number, name in target.names.items():
            table[number] = self.rows[name]
        return torch.from_numpy(table[numbers])


def collate(examples: Sequence[Example]) -> tuple[Tensor, Any]:
    """Make a batch."""
    images = torch.stack([image for image, _ in examples])
    targets = [target for _, target in examples]
    return images, targets if isinstance(targets[0], dict) else torch.stack(targets)


def keep(
    item: Item, image: np.ndarray, mask: np.ndarray | None, size: tuple[int, int] | None
) -> Pixels:
    """Keep what must not be read again, resized; only its size where there is no room for more."""
    small = small_mask = None
    if size is not None:
        small = _small(image, size).contiguous().numpy()
    if size is not None and mask is not None:
        small_mask = _small_mask(mask, size)
    return Pixels((image.shape[0], image.shape[1]), small, small_mask)


def _small(image: np.ndarray, size: tuple[int, int]) -> Tensor:
    return resize(torch.from_numpy(np.array(image)).permute(2, 0, 1), size)


def _small_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    numbers = mask.astype(np.uint8 if mask.dtype == np.uint8 else np.int32)
    return resize_mask(torch.from_numpy(numbers), size).numpy()
