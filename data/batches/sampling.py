"""Randomness as a function of counters: the order of examples, and seeds for anything else."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from regrow.data.batches.mixture import Mixture
from regrow.errors import BadInput

Key = tuple[int, ...]  # epoch, index; and which of its copies, where an epoch has it again


def counter_seed(*counters: int) -> int:
    """Return a seed that is a function of counters alone, such as seed, epoch and index.

    Args:
        counters: Whole numbers of up to 127 bits; their order matters.

    Returns:
        A number of 63 bits, >= 0, which every generator of PyTorch and NumPy takes.
    """
    data = b"".join(counter.to_bytes(16, "little", signed=True) for counter in counters)
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") >> 1


class EpochSampler(Sampler[Key]):
    """The order of the examples in an epoch, as keys; a function of seed and epoch alone.

    Args:
        length: Number of examples.
        seed: The run's seed.
        shuffle: Shuffle anew every epoch; else the order stays.
        rank: Number of this process.
        world: Number of processes. Shuffled examples are repeated until all processes have equally
            many, as torch's DistributedSampler does; others are never repeated.
        mixture: How often each of the shuffled examples comes; once where it is None.
    """

    def __init__(
        self,
        length: int,
        seed: int = 0,
        *,
        shuffle: bool,
        rank: int = 0,
        world: int = 1,
        mixture: Mixture | None = None,
    ) -> None:
        self.length, self.seed, self.shuffle = length, seed, shuffle
        self.rank, self.world, self.epoch = rank, world, 0
        self.skipped, self.mixture = 0, mixture

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, as Lightning does before each."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Count this process's examples."""
        if self.shuffle:
            return -(-self.length // self.world)
        return len(range(self.rank, self.length, self.world))

    def __iter__(self) -> Iterator[Key]:
        """Yield the key of each example, less those skipped once by a resumed run."""
        order = list(range(self.length))
        if self.shuffle and order:
            generator = torch.Generator().manual_seed(counter_seed(self.seed, self.epoch))
            if self.mixture is None:
                order = torch.randperm(self.length, generator=generator).tolist()
            else:
                order = self.mixture.draw(self.epoch, generator)
            total = len(self) * self.world
            order = (order * -(-total // self.length))[:total]
        keys = self._keys(order) if self.mixture is not None else [(self.epoch, i) for i in order]
        skipped, self.skipped = self.skipped, 0
        return iter(keys[self.rank :: self.world][skipped:])

    def _keys(self, order: Sequence[int]) -> list[Key]:
        """Return keys that number copies of an example, so that each is augmented differently."""
        seen: Counter[int] = Counter()
        keys: list[Key] = []
        for index in order:
            keys.append((self.epoch, index, seen[index]) if seen[index] else (self.epoch, index))
            seen[index] += 1
        return keys


class ResumableLoader(DataLoader[Any]):
    """A data loader whose state is the number of batches given, so that a run resumes after them.

    Its sampler is an EpochSampler. Lightning saves and restores the state of loaders that have one.
    """

    _given = 0
    _epoch = 0
    _resumed: dict[str, int] | None = None

    def state_dict(self) -> dict[str, int]:
        """Return the number of batches given, and of which epoch."""
        return {"batch": self._given, "epoch": self._epoch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Skip as many batches in the next epoch that is read, without decoding them.

        Nothing is skipped in another epoch than that of the state: a checkpoint written after an
        epoch's last batch is followed by a whole epoch.

        Args:
            state: What `state_dict` returned; without `epoch`, the next epoch is meant.
        """
        self._resumed = {name: int(value) for name, value in state.items()}
        self._given = self._resumed["batch"]
        self._epoch = self._resumed.get("epoch", 0)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield the batches of an epoch, or what is left of it.

        Raises:
            BadInput: If an image cannot be read, in one line whichever process read it.
        """
        state, self._resumed = self._resumed, None
        epoch = getattr(self.sampler, "epoch", 0)
        is_same = state is not None and state.get("epoch", epoch) == epoch
        self._given = state["batch"] if state is not None and is_same else 0
        self._epoch = epoch
        if isinstance(self.sampler, EpochSampler):
            self.sampler.skipped = self._given * (self.batch_size or 1)
        try:
            for batch in super().__iter__():
                self._given += 1
                yield batch
        except BadInput as error:
            # A worker's error arrives with its traceback as the message, which ends in its own.
            text = str(error.args[0])
            said = text.rpartition(f"{type(error).__module__}.{type(error).__qualname__}: ")[2]
            raise type(error)(said.strip()) from error
