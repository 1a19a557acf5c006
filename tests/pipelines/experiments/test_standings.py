"""Intervals over seeds and images against numbers worked by hand and a library's own."""

import math

import pytest
import scipy.stats
import torch

from regrow.metrics.differences import Difference, MeanEvidence, differ, seed_interval
from regrow.metrics.evidence import CorrectEvidence
from regrow.models.cost import Cost
from regrow.pipelines.experiments.contestants import Contestant, Phase, Result
from regrow.pipelines.experiments.standings import Standing
from regrow.training.evaluation import Evaluation


def evidence(right: list[int]) -> CorrectEvidence:
    """Give the evidence of images that are right or wrong."""
    found = CorrectEvidence()
    found.update(torch.tensor([[1.0, 0.0]] * len(right)), 1 - torch.tensor(right))
    return found


def test_interval_over_seeds_worked_by_hand() -> None:
    # Mean 2, deviation 1, so an error of 1 / sqrt(3); 4.3027 is Student's t for 2 degrees.
    reach = 4.3027 / 3**0.5
    assert seed_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - reach, 2 + reach), abs=1e-4)


def test_interval_over_seeds_is_that_of_the_paired_t_test() -> None:
    ours, theirs = [0.71, 0.74, 0.70, 0.76], [0.70, 0.71, 0.71, 0.72]
    found = differ(ours, theirs, confidence=0.9)
    expected = scipy.stats.ttest_rel(ours, theirs).confidence_interval(0.9)
    assert found.by_seed == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx(0.0175)
    assert found.by_image is None


@pytest.mark.parametrize("differences", [[0.5], [0.3 - 0.2, 0.1, 0.1]])
def test_a_spread_that_is_unknown_decides_nothing(differences: list[float]) -> None:
    assert seed_interval(differences) is None
    assert differ(differences, [0.0] * len(differences)).verdict == "undecided"


def test_seeds_must_be_the_same() -> None:
    with pytest.raises(ValueError, match="zip"):
        differ([0.1, 0.2], [0.1])


def test_mean_evidence_draws_an_image_for_all_networks_at_once() -> None:
    mean = MeanEvidence([evidence([1, 1, 0, 0]), evidence([1, 0, 0, 1])])
    counts = torch.tensor([[1, 1, 1, 1], [2, 0, 0, 0], [0, 1, 0, 1], [0, 0, 3, 1]])
    assert mean.num_images == 4
    assert mean.scores(counts).tolist() == [0.5, 1.0, 0.5, 0.125]
    with pytest.raises(TypeError, match="complete"):
        mean.update(None, None)


def test_interval_over_images_keeps_seeds_together() -> None:
    # Two seeds that are wrong on the same images know no more than one of them.
    worse, better = evidence([1, 0] * 50), evidence([1, 0, 1, 1] * 25)
    one = differ([0.75], [0.5], [better], [worse]).by_image
    two = differ([0.75] * 2, [0.5] * 2, [better] * 2, [worse] * 2).by_image
    assert one == two
    # A quarter of 100 images were gained: the error is sqrt(0.25 * 0.75 / 99), and one more gain
    # adds to it. Both ends hold at 95 %, so each alone at 97.5 %: Student's t of 99 is 1.984. On
    # 0.0362 of all images anything may happen, unseen: 0.9638^100 = 0.025.
    unseen = 2 * 0.0362 / 1.0362
    below, above = 1.984 * 0.0435, 0.0995  # x = 0.0025 + 1.984 sqrt(0.0435^2 + 0.005 x)
    expected = 0.25 - math.hypot(below, unseen), 0.25 + math.hypot(above, unseen)
    # The splits are drawn: of 667, the error's error is 3 %.
    assert one == pytest.approx(expected, abs=0.008)


@pytest.mark.parametrize(
    ("by_seed", "by_image", "expected"),
    [
        ((0.1, 0.2), (0.05, 0.3), "higher"),
        ((0.1, 0.2), None, "higher"),
        ((-0.2, -0.1), (-0.3, -0.1), "lower"),
        ((-0.1, 0.2), (0.05, 0.3), "undecided"),
        ((0.1, 0.2), (-0.05, 0.3), "undecided"),
        ((-0.2, -0.1), (-0.3, 0.0), "undecided"),
        (None, (0.05, 0.3), "undecided"),
        (None, (-0.3, -0.1), "undecided"),
    ],
)
def test_a_verdict_needs_seeds_and_images(by_seed, by_image, expected: str) -> None:
    assert Difference(0.0, by_seed, by_image).verdict == expected


def standing(train: list[float], val: list[float], right: list[list[int]]) -> Standing:
    phases = (Phase("training", 2, 10, 30), Phase("measuring", 0, 5, 20))
    pairs = enumerate(zip(train, val, strict=True))
    results = tuple(Result("it", seed, one, other, 800, phases) for seed, (one, other) in pairs)
    tests = tuple(
        Evaluation("accuracy", sum(r) / len(r), {}, {}, evidence(r), len(r)) for r in right
    )
    return Standing(Contestant("it"), results, tests, Cost(1, 1), 1.0, 1)


def test_a_standing_gives_gaps_and_what_was_spent() -> None:
    one = standing([0.9, 0.8], [0.6, 0.7], [[1, 0], [1, 1]])
    assert one.gaps == pytest.approx([0.3, 0.1])
    assert one.test == [0.5, 1.0]
    assert one.spent == 0.5  # (10 * 30 + 5 * 20) / 800
    assert one.results[0].epochs == 2


def test_standings_are_compared_in_each_figure() -> None:
    mine = standing([0.9, 0.8], [0.6, 0.7], [[1, 1, 0, 1], [1, 1, 1, 1]])
    other = standing([0.9, 0.9], [0.5, 0.4], [[1, 0, 0, 1], [1, 0, 1, 0]])
    found = mine.against(other)
    assert {name: one.mean for name, one in found.items()} == pytest.approx(
        {"train": -0.05, "val": 0.2, "gap": -0.25, "test": 0.375}
    )
    assert found["val"].by_image is None
    low, high = found["test"].by_image or (0, 0)
    assert low < 0.375 < high
