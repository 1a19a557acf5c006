"""A sample is chosen by names: the order in which pictures come changes nothing."""

import numpy as np
import pytest

from regrow.data.images.transforms import small_image
from regrow.monitor.network import sample as sample_module
from regrow.monitor.network.sample import Sample, as_served

SIZE = (6, 10)


def _picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (12, 9, 3), dtype=np.uint8)


def _filled(numbers: list[int], count: int) -> list[tuple[int, bytes]]:
    made = Sample(SIZE, count)
    for number in numbers:
        made.offer(f"id{number}", number, _picture(number))
    assert len(made) == min(len(numbers), count)
    return [(place, image.tobytes()) for place, image in made]


def test_the_smallest_hashes_stay_in_any_order_and_in_any_larger_sample() -> None:
    numbers = [int(n) for n in np.random.default_rng(0).permutation(300)]
    found = _filled(numbers, 20)
    assert found == _filled(sorted(numbers), 20)
    assert found[:5] == _filled(numbers, 5)
    assert found == _filled(numbers, 300)[:20]
    assert {place for place, _ in found} != set(range(20))


def test_pictures_are_as_the_network_takes_them() -> None:
    for place, content in _filled(list(range(50)), 7):
        assert content == as_served(_picture(place), SIZE).tobytes()


@pytest.mark.parametrize("own", [(480, 640), (37, 201), (12, 9), (3, 2), (64, 64)])
@pytest.mark.parametrize("size", [(64, 64), (224, 160)])
def test_pictures_are_resized_as_for_training_but_for_a_level(
    own: tuple[int, int], size: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*own, 3), dtype=np.uint8)
    found, wanted = as_served(pixels, size), small_image(pixels, size).numpy()
    assert found.shape == (3, *size)
    assert np.abs(found.astype(int) - wanted).max() <= 1
    if own == size:
        np.testing.assert_array_equal(found, wanted)


def test_every_picture_has_the_same_chance() -> None:
    counts = np.zeros(40)
    for run in range(400):
        made = Sample((1, 1), 10)
        for number in range(40):
            made.offer(f"{run} {number}", number, np.zeros((1, 1, 3), np.uint8))
        counts[[place for place, _ in made]] += 1
    assert counts.sum() == 4000
    assert abs(counts - 100).max() < 5 * np.sqrt(400 * 0.25 * 0.75)


def test_none_are_kept_where_none_are_asked_for() -> None:
    assert _filled([1, 2, 3], 0) == []


def test_a_full_disk_is_an_error_and_no_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, start: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sample_module.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        _filled([1], 5)


def test_a_picture_that_is_not_there_takes_its_place() -> None:
    numbers = list(range(60))
    whole, made = dict(_filled(numbers, 10)), Sample(SIZE, 10)
    for number in numbers:
        wanted = made.wants(f"id{number}")
        assert made.offer(f"id{number}", number, _picture(number) if number % 3 else None) == wanted
    found = {place: image.tobytes() for place, image in made}
    assert found == {place: image for place, image in whole.items() if place % 3}
    assert (len(made), made.num_absent) == (len(found), 10 - len(found))
    assert 0 < made.num_absent < 10
    assert not Sample(SIZE, 0).wants("a")
