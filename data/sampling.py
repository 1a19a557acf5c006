"""Randomness as a function of counters: the order of examples, and the seed of anything else."""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

Key = tuple[int, int]  # epoch, index


def counter_seed(*counters: int) -> int:
    """Give a seed that is a function of counters alone, such as seed, epoch and index.

    Args:
        counters: Whole numbers; their order matters.

    Returns:
        A number of 63 bits, which every generator of PyTorch takes.
    """
    data = b"".join(counter.to_bytes(16, "little", signed=True) for counter in counters)
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") >> 1


class EpochSampler(Sampler[Key]):
    """Give each example's epoch and index, in an order that is a function of seed and epoch.

    Args:
        length: Number of examples.
        seed: The run's seed.
        shuffle: Shuffle anew every epoch; else the order stays.
        rank: Number of this process.
        world: Number of processes. Shuffled examples are repeated until all processes have equally
            many; others are never repeated.
    """

    def __init__(
        self, length: int, seed: int = 0, *, shuffle: bool, rank: int = 0, world: int = 1
    ) -> None:
        self.length, self.seed, self.shuffle = length, seed, shuffle
        self.rank, self.world, self.epoch = rank, world, 0
        self.skipped = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, as Lightning does before each."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Count this process's examples."""
        if self.shuffle:
            return -(-self.length // self.world)
        return len(range(self.rank, self.length, self.world))

    def __iter__(self) -> Iterator[Key]:
        """Give epoch and index of each, less those skipped once by a resumed run."""
        order = list(range(self.length))
        if self.shuffle:
            generator = torch.Generator().manual_seed(counter_seed(self.seed, self.epoch))
            order = torch.randperm(self.length, generator=generator).tolist()
            missing = len(self) * self.world - self.length
            order += order[:missing]
        mine = order[self.rank :: self.world]
        skipped, self.skipped = self.skipped, 0
        return iter([(self.epoch, index) for index in mine[skipped:]])


class ResumableLoader(DataLoader[Any]):
    """A loader that knows how many batches it gave, so that a resumed run goes on after them.

    Lightning saves and restores the state of loaders that have one.
    """

    batches_given = 0
    batches_skipped = 0

    def state_dict(self) -> dict[str, int]:
        """Give the number of batches given in this epoch; 0 when the epoch is over."""
        given = self.batches_given
        return {"batches": 0 if given >= len(self) else given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Skip that many batches in the next epoch that is read."""
        self.batches_skipped = int(state["batches"])

    def __iter__(self) -> Iterator[Any]:
        """Give the batches of an epoch, or what is left of it."""
        skipped, self.batches_skipped = self.batches_skipped, 0
        if isinstance(self.sampler, EpochSampler):
            self.sampler.skipped = skipped * (self.batch_size or 1)
        self.batches_given = skipped
        for batch in super().__iter__():
            self.batches_given += 1
            yield batch
