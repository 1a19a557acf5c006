import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import Dataset

from regrow.data.batches.sampling import EpochSampler, Key, ResumableLoader, counter_seed
from regrow.data.images.opening import CorruptImage
from regrow.errors import BadInput


class Echo(Dataset[Tensor]):
    """Gives back what it is asked for, and remembers it."""

    def __init__(self, length: int, broken: int | None = None) -> None:
        self.length, self.broken = length, broken
        self.asked: list[Key] = []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: Key) -> Tensor:
        if key[1] == self.broken:
            raise BadInput(f"{key[1]}.png: no such file; add the file")
        self.asked.append(key)
        return torch.tensor(key)


def loader(length: int = 10, seed: int = 3, shuffle: bool = True, **options) -> ResumableLoader:
    sampler = EpochSampler(length, seed, shuffle=shuffle)
    options = {"dataset": Echo(length), "batch_size": 3, "sampler": sampler} | options
    return ResumableLoader(**options)


def keys(batches) -> list[list[list[int]]]:
    return [batch.tolist() for batch in batches]


counters = st.lists(st.integers(-(2**127), 2**127 - 1), min_size=1, max_size=4)


@given(counters, counters)
def test_counter_seed_is_a_function_of_the_counters_that_generators_take(one, other) -> None:
    seed = counter_seed(*one)
    assert seed == counter_seed(*one)
    assert (seed == counter_seed(*other)) == (one == other)
    torch.Generator().manual_seed(seed)
    np.random.default_rng(seed)
    assert 0 <= seed < 2**63


def test_counter_seed_minds_the_order() -> None:
    assert counter_seed(1, 2) != counter_seed(2, 1)


def test_counter_seed_stays_what_it_was() -> None:
    """Runs are repeated by later versions: BLAKE2b of little-endian 16-byte counters, by hand."""
    data = b"\x05" + bytes(15) + b"\xff" * 16  # 5, -1
    digest = hashlib.blake2b(data, digest_size=8).digest()
    assert counter_seed(5, -1) == int.from_bytes(digest, "little") // 2


@given(st.integers(1, 60), st.integers(0, 5), st.integers(0, 5))
def test_each_epoch_shows_every_example_once(length: int, seed: int, epoch: int) -> None:
    sampler = EpochSampler(length, seed, shuffle=True)
    sampler.set_epoch(epoch)
    assert sorted(sampler) == [(epoch, index) for index in range(length)]
    assert len(sampler) == length


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochSampler(100, seed, shuffle=True)
        sampler.set_epoch(epoch)
        torch.rand(5)  # whatever the process's own stream does
        return [index for _, index in sampler]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_without_shuffling_the_order_stays() -> None:
    sampler = EpochSampler(4, 7, shuffle=False)
    sampler.set_epoch(9)
    assert list(sampler) == [(9, 0), (9, 1), (9, 2), (9, 3)]


@given(st.integers(0, 40), st.integers(1, 5))
def test_ranks_share_what_is_not_shuffled_without_overlap(length: int, world: int) -> None:
    ranks = [EpochSampler(length, shuffle=False, rank=r, world=world) for r in range(world)]
    shares = [[index for _, index in rank] for rank in ranks]
    assert sorted(index for share in shares for index in share) == list(range(length))
    assert [len(rank) for rank in ranks] == [len(share) for share in shares]


@given(st.integers(1, 40), st.integers(1, 5))
def test_ranks_share_what_is_shuffled_and_repeat_only_to_be_even(length: int, world: int) -> None:
    ranks = [EpochSampler(length, shuffle=True, rank=r, world=world) for r in range(world)]
    shares = [[index for _, index in rank] for rank in ranks]
    seen = [index for share in shares for index in share]
    assert set(seen) == set(range(length))
    assert len({len(share) for share in shares}) == 1
    assert len(seen) - length < world
    assert [len(rank) for rank in ranks] == [len(share) for share in shares]


def test_more_ranks_than_shuffled_examples_all_get_one() -> None:
    shares = [list(EpochSampler(2, shuffle=True, rank=r, world=5)) for r in range(5)]
    assert [len(share) for share in shares] == [1] * 5


def test_a_loader_restored_mid_epoch_gives_exactly_the_rest() -> None:
    for stop in range(4):
        whole = keys(loader())
        first = loader()
        given = iter(first)
        start = [next(given).tolist() for _ in range(stop)]
        later = loader()
        later.load_state_dict(first.state_dict())
        assert start + keys(later) == whole


def test_a_restored_loader_reads_none_of_the_batches_it_skips() -> None:
    later = loader(shuffle=False)
    later.load_state_dict({"batch": 2, "epoch": 0})
    assert later.state_dict() == {"batch": 2, "epoch": 0}
    assert keys(later) == [[[0, 6], [0, 7], [0, 8]], [[0, 9]]]
    assert later.dataset.asked == [(0, 6), (0, 7), (0, 8), (0, 9)]
    assert later.state_dict() == {"batch": 4, "epoch": 0}


def test_a_restored_loader_skips_only_once() -> None:
    later = loader()
    later.load_state_dict({"batch": 3})
    assert len(keys(later)) == 1
    assert len(keys(later)) == 4


def test_a_state_of_another_epoch_skips_nothing() -> None:
    later = loader()
    later.load_state_dict({"batch": 4, "epoch": 0})
    later.sampler.set_epoch(1)
    assert len(keys(later)) == 4
    assert later.state_dict() == {"batch": 4, "epoch": 1}


def test_a_worker_reads_the_same_batches() -> None:
    assert keys(loader(num_workers=1)) == keys(loader())


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_unreadable_image_is_told_in_one_line(num_workers: int) -> None:
    broken = loader(shuffle=False, dataset=Echo(10, broken=4), num_workers=num_workers)
    with pytest.raises(BadInput, match=r"^4\.png: no such file; add the file$"):
        list(broken)


class Cut(Echo):
    """A corrupt file whose name looks like an error's."""

    def __getitem__(self, key: tuple[int, ...]) -> int:
        raise CorruptImage("a: b\n.png: corrupt")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_corrupt_image_is_told_as_one_by_workers_too(num_workers: int) -> None:
    with pytest.raises(CorruptImage, match=r"^a: b.*\.png: corrupt$") as raised:
        list(loader(shuffle=False, dataset=Cut(10), num_workers=num_workers))
    assert "Traceback" not in str(raised.value)
