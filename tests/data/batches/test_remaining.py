import torch
from torch.utils.data import Dataset

from regrow.data.batches.mixture import Mixture
from regrow.data.batches.remaining import without_first
from regrow.data.batches.sampling import EpochSampler, Key, ResumableLoader


class Echo(Dataset):
    """Gives back the keys that it is asked for, and remembers them."""

    def __init__(self) -> None:
        self.asked: list[Key] = []

    def __getitem__(self, key: Key):
        self.asked.append(key)
        return torch.tensor(key[:2]), torch.tensor(key[1])


def loader(mixture: Mixture | None = None, batch_size: int = 3, **options) -> ResumableLoader:
    sampler = EpochSampler(12, 5, shuffle=True, mixture=mixture)
    sampler.set_epoch(2)
    return ResumableLoader(Echo(), batch_size=batch_size, sampler=sampler, **options)


def indices(batches) -> list[int]:
    return [int(index) for _, targets in batches for index in targets]


def test_what_follows_the_first_batches_comes_in_their_order_at_every_pass() -> None:
    whole = indices(loader())
    rest = without_first(loader(), 2)
    assert indices(rest) == indices(rest) == whole[6:]
    assert all(int(epoch) == 2 for images, _ in rest for epoch in images[:, 0])


def test_images_of_the_first_batches_are_not_even_read() -> None:
    given = loader()
    indices(without_first(given, 2))
    assert {key[1] for key in given.dataset.asked} == set(indices(loader())[6:])


def test_copies_of_an_image_of_the_first_batches_are_left_out_too() -> None:
    often = Mixture([6.0] * 3 + [1.0] * 9)
    whole = indices(loader(often))
    assert set(whole[:3]) & set(whole[3:])
    rest = indices(without_first(loader(often), 1))
    assert rest == [index for index in whole if index not in whole[:3]]
    assert rest


def test_a_last_batch_that_is_not_full_is_dropped_where_the_loader_drops_it() -> None:
    whole = indices(loader(batch_size=5))
    assert indices(without_first(loader(batch_size=5, drop_last=True), 1)) == whole[5:10]
    assert indices(without_first(loader(batch_size=5), 1)) == whole[5:]
    # Unless nothing else is left.
    assert indices(without_first(loader(batch_size=7, drop_last=True), 1)) == whole[7:]


def test_batches_of_any_other_kind_are_left_out_by_their_place() -> None:
    batches = [(torch.full((2, 1), float(n)), n) for n in range(4)]
    rest = without_first(batches, 3)
    assert [n for _, n in rest] == [n for _, n in rest] == [3]
    assert list(without_first(batches, 4)) == []
