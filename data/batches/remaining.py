"""Training batches without the images of the first ones, which are held back."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from regrow.data.batches.sampling import ResumableLoader

Batches = Iterable[tuple[Tensor, Any]]


class WithoutFirst:
    """Batches that follow the first ones, anew at every pass.

    Args:
        batches: The batches, which are the same at every pass.
        num_batches: Number of batches at the start that are left out.
    """

    def __init__(self, batches: Batches, num_batches: int) -> None:
        self.batches, self.num_batches = batches, num_batches

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        """Yield the batches of one pass."""
        return islice(iter(self.batches), self.num_batches, None)


def without_first(batches: Batches, num_batches: int) -> Batches:
    """Return batches that show no image of the first ones.

    Where a loader of regrow's shows an image several times in an epoch, as with `data.balance`, its
    other copies are left out too. Of other loaders the first batches are left out, and no more.

    Args:
        batches: The batches, which are the same at every pass, in the current epoch of their
            sampler.
        num_batches: Number of batches at the start whose images are left out.
    """
    if not isinstance(batches, ResumableLoader):
        return WithoutFirst(batches, num_batches)
    size = batches.batch_size or 1
    keys = list(batches.sampler)
    first = {index for _, index, *_ in keys[: num_batches * size]}
    rest = [key for key in keys if key[1] not in first]
    return DataLoader(
        batches.dataset,
        batch_size=size,
        sampler=rest,
        num_workers=batches.num_workers,
        collate_fn=batches.collate_fn,
        drop_last=batches.drop_last and len(rest) >= size,
        pin_memory=batches.pin_memory,
    )
