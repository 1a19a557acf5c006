from collections import Counter

import numpy as np
import pytest
import torch

from regrow.data.batches.mixture import Mixture, repeat_factors
from regrow.data.batches.sampling import EpochSampler


def draw(mixture: Mixture, epoch: int = 0, seed: int = 0) -> list[int]:
    return mixture.draw(epoch, torch.Generator().manual_seed(seed))


def test_an_epoch_keeps_its_length_and_each_image_comes_as_often_as_its_weight_says() -> None:
    # Of a sum of 8 over 4 images, each step is 2: 0, 2, 2 and 4 are no, one, one and two steps.
    for seed in range(20):
        assert Counter(draw(Mixture([0, 2, 2, 4]), seed=seed)) == {1: 1, 2: 1, 3: 2}


def test_parts_of_a_step_come_as_often_as_they_should_over_many_epochs() -> None:
    weights = np.array([0.5, 1.0, 1.7, 0.8, 3.0])
    mixture, counts = Mixture(weights), np.zeros(5)
    generator = torch.Generator().manual_seed(0)
    for _ in range(4000):
        drawn = np.bincount(mixture.draw(0, generator), minlength=5)
        expected = weights / weights.sum() * 5
        assert (drawn >= np.floor(expected)).all()
        assert (drawn <= np.ceil(expected)).all()
        counts += drawn
    # Standard deviation of a mean of 4,000 bits: at most 0.008.
    assert np.abs(counts / 4000 - weights / weights.sum() * 5).max() < 0.035


def test_neighbours_are_drawn_independently() -> None:
    """A single random offset over images in their order would take either all even or all odd."""
    pairs = Counter()
    for seed in range(300):
        drawn = set(draw(Mixture([1] * 5 + [5]), seed=seed))  # of each of the five 3 come in 5
        pairs[0 in drawn, 1 in drawn] += 1
    assert len(pairs) == 4


def test_the_first_epochs_have_weights_of_their_own() -> None:
    mixture = Mixture([1, 1, 2], first=[0, 0, 1], num_first=2)
    assert draw(mixture, 0) == draw(mixture, 1) == [2, 2, 2]
    assert Counter(draw(mixture, 2))[2] in (1, 2)


@pytest.mark.parametrize("weights", [[1, -1], [0, 0], [1, float("nan")], []])
def test_weights_that_are_none_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="finite, 0 or more, and not all zero"):
        Mixture(weights)


def test_copies_in_an_epoch_have_keys_of_their_own() -> None:
    sampler = EpochSampler(4, 3, shuffle=True, mixture=Mixture([0, 2, 2, 4]))
    sampler.set_epoch(5)
    assert sorted(sampler) == [(5, 1), (5, 2), (5, 3), (5, 3, 1)]


def test_a_resumed_epoch_numbers_copies_as_the_whole_one_does() -> None:
    sampler = EpochSampler(60, 3, shuffle=True, mixture=Mixture(range(60)))
    whole = list(sampler)
    sampler.skipped = 25
    assert list(sampler) == whole[25:]


def test_processes_share_an_epoch() -> None:
    mixture = Mixture(range(7))
    whole = list(EpochSampler(7, 3, shuffle=True, mixture=mixture))
    parts = [
        list(EpochSampler(7, 3, shuffle=True, rank=r, world=2, mixture=mixture)) for r in (0, 1)
    ]
    together = [key for pair in zip(*parts, strict=True) for key in pair]
    assert together[:7] == whole


def test_an_image_of_several_classes_counts_by_its_rarest_and_one_of_none_least() -> None:
    # Four images show a, two b, one c.
    shown = [{"a"}, {"a", "b"}, {"a", "b", "c"}, {"a"}, set()]
    assert repeat_factors(shown) == pytest.approx([1 / 4, 1 / 2, 1, 1 / 4, 1 / 4])
    assert repeat_factors([set(), set()]) == [1, 1]
    assert repeat_factors([]) == []


def test_the_exponent_says_how_far_classes_are_balanced() -> None:
    shown = [{"a"}] * 90 + [{"b"}] * 10
    totals = {}
    for exponent in (1.0, 0.5):
        weights = np.array(repeat_factors(shown, exponent))
        totals[exponent] = weights[:90].sum() / weights[90:].sum()
    assert totals[1.0] == pytest.approx(1)
    assert totals[0.5] == pytest.approx(3)  # the root of 90 / 10


def test_factors_are_those_of_the_paper_with_a_threshold_of_one() -> None:
    shown = [{"a", "b"}, {"a"}, {"a", "c"}, {"a", "c"}]
    share = {"a": 1.0, "b": 0.25, "c": 0.5}
    paper = [max(max(1, (1 / share[name]) ** 0.5) for name in own) for own in shown]
    found = np.array(repeat_factors(shown, 0.5))
    assert found / found[1] == pytest.approx(np.array(paper) / paper[1])
