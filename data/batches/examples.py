"""The examples of a split: images and their targets in row numbers, from memory or from files."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from regrow.data.batches.sampling import EpochSampler, Key, ResumableLoader, counter_seed
from regrow.data.images.pixels import Pixels
from regrow.data.images.transforms import augmented
from regrow.data.targets.ignored import separated
from regrow.data.targets.labels import VOID, Boxes, Item, Target

Example = tuple[Tensor, Any]


class Examples(Dataset[Example]):
    """The images of one split, resized, with targets in row numbers.

    Where some boxes or masks do not show all classes, each target is a mapping that also says which
    it knows, `known` (c,); a mask is its `mask` then. Where some boxes are ignored, all targets
    have those apart, as `regrow.data.targets.ignored.separated` gives them.
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
        self.has_ignored = any(isinstance(i.target, Boxes) and i.target.ignored for i in items)
        self.labels = {name: torch.tensor(row) for name, row in rows.items()}
        self.size, self.augment, self.seed = size, augment, seed

    def __len__(self) -> int:
        """Count the images."""
        return len(self.items)

    def __getitem__(self, key: Key) -> Example:
        """Return the image and target of an epoch and index, augmented as this copy of it is."""
        epoch, index, *copy = key
        item, kept = self.items[index], self.kept[index]
        image, numbers = kept.read(item, self.size)
        target = self._target(item.target, kept, numbers)
        if self.augment:
            seed = counter_seed(self.seed, epoch, index, *copy)
            image, target = augmented(image, target, self.augment, seed)
        if self.is_partial and not isinstance(item.target, str):
            parts = target if isinstance(target, dict) else {"mask": target}
            target = {**parts, "known": self._known(item)}
        return image, target

    def _known(self, item: Item) -> Tensor:
        """Return for each row whether the label would show its class, (c,)."""
        known = torch.ones(self.num_rows, dtype=torch.bool)
        if item.known is not None:
            known[[row for name, row in self.rows.items() if name not in item.known]] = False
        return known

    def _target(self, target: Target, kept: Pixels, numbers: np.ndarray | None) -> Any:
        if isinstance(target, str):
            return self.labels[target]
        if isinstance(target, Boxes):
            labels = torch.tensor([self.rows[name] for name in target.classes], dtype=torch.long)
            down, across = (new / old for new, old in zip(self.size, kept.size, strict=True))
            scale = torch.tensor([across, down, across, down])
            boxes = torch.from_numpy(target.xyxy) * scale
            if self.has_ignored:
                return separated(boxes, labels, torch.tensor(target.marks, dtype=torch.long))
            return {"boxes": boxes, "labels": labels}
        table = np.full(max(VOID, *target.names, *target.void) + 1, VOID, dtype=np.uint8)
        for number, name in target.names.items():
            table[number] = self.rows[name]
        return torch.from_numpy(table[numbers])


def collate(examples: Sequence[Example]) -> tuple[Tensor, Any]:
    """Return a batch: images stacked, and targets stacked where they are tensors."""
    images = torch.stack([image for image, _ in examples])
    targets = [target for _, target in examples]
    return images, targets if isinstance(targets[0], dict) else torch.stack(targets)


def make_loader(
    examples: Examples,
    batch_size: int,
    num_workers: int,
    sampler: EpochSampler,
) -> ResumableLoader:
    """Return batches of the examples of a split.

    Args:
        examples: The examples.
        batch_size: Number of images in a batch.
        num_workers: Processes that decode and augment; 0 does it in this one.
        sampler: The order of the examples; one that shuffles is for training.
    """
    return ResumableLoader(
        examples,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate,
        # A last batch of one or two images would upset batch norms.
        drop_last=sampler.shuffle and len(sampler) >= batch_size,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=False,
    )
