"""Differences over seeds and images: numbers worked by hand, and evidence of means and of parts."""

import math

import pytest
import scipy.stats
import torch

from regrow.metrics.differences import (
    Difference,
    MeanEvidence,
    PartEvidence,
    differ,
    part_of,
    seed_interval,
)
from regrow.metrics.evidence import (
    BoxEvidence,
    Collector,
    ConfusionEvidence,
    CorrectEvidence,
    Evidence,
)
from regrow.metrics.intervals import paired_interval, unseen

RARE = (1 - 0.05**0.5) / 2  # of 2 images that show a class 78 % may be others; half of the score


def masks(num_images: int = 30) -> ConfusionEvidence:
    """Return a network that is right of all images, of which two show the second class."""
    truth = torch.zeros(num_images, 2, 2, dtype=torch.long)
    truth[:2, 0] = 1
    evidence = ConfusionEvidence(3)
    evidence.update(truth, truth)
    return evidence


def boxes(num_images: int = 30) -> BoxEvidence:
    evidence = BoxEvidence(3)
    for number in range(num_images):
        labels = torch.tensor([0, 1] if number < 2 else [0])
        objects = torch.arange(len(labels))[:, None] * 20 + torch.tensor([0.0, 0, 9, 9])
        found = {"boxes": objects, "labels": labels, "scores": torch.ones(len(labels))}
        evidence.update([found], [{"boxes": objects, "labels": labels}])
    return evidence


def labels(*right: int) -> CorrectEvidence:
    evidence, flags = CorrectEvidence(), torch.tensor(right)
    evidence.update(torch.stack([1 - flags, flags], 1).float(), torch.ones(len(right)).long())
    return evidence


@pytest.mark.parametrize("made", [masks, boxes])
def test_a_rare_class_is_as_rare_for_several_networks(made) -> None:
    one = made()
    assert paired_interval(one, one) == pytest.approx((-RARE, RARE))
    mean = MeanEvidence([one, made()])
    assert mean.images_by_class.tolist() == [30, 2, 0]
    assert paired_interval(mean, mean) == pytest.approx((-RARE, RARE))
    only = mean.only([1])
    assert only.images_by_class.tolist() == [2]
    assert unseen(only, 0.95) == pytest.approx(2 * RARE)


@pytest.mark.parametrize("made", [masks, boxes])
def test_a_rare_class_is_as_rare_among_some_of_the_images(made) -> None:
    part = PartEvidence(made(60), [True] * 30 + [False] * 30)
    assert part.images_by_class.tolist() == [30, 2, 0]
    assert paired_interval(part, part) == pytest.approx((-RARE, RARE))
    assert part.only([1]).images_by_class.tolist() == [2]
    # Without the images that show it the class is none that the score is a mean over.
    rest = PartEvidence(made(60), [False] * 30 + [True] * 30)
    assert rest.images_by_class.tolist() == [30, 0, 0]
    assert rest.only([1]).images_by_class.tolist() == [0]
    assert paired_interval(rest.only([1]), rest.only([1])) == (-1, 1)


@pytest.mark.parametrize("made", [masks, boxes])
def test_intervals_over_images_of_a_comparison_know_rare_classes(made) -> None:
    found = differ([1.0] * 2, [1.0] * 2, [made(), made()], [made(), made()])
    # Both ends together hold at 95 %, so each alone at 97.5 %.
    rare = (1 - 0.025**0.5) / 2
    assert found.by_image == pytest.approx((-rare, rare))


def test_a_part_of_what_an_evidence_of_labels_knows_is_one_of_labels() -> None:
    part = part_of(labels(1, 0, 1, 1, 0), [True, True, False, True, False])
    assert isinstance(part, CorrectEvidence)
    assert part.correct.tolist() == [True, False, True]
    assert part.only([1]).num_images == 3
    assert part.only([0]).num_images == 0
    assert part_of(CorrectEvidence(), []).num_images == 0


@pytest.mark.parametrize("made", [masks, boxes])
def test_a_part_scores_as_its_images_do(made) -> None:
    part = part_of(made(8), [False, True, True, True] + [False] * 4)
    assert part.num_images == 3
    assert part.score() == 1
    counts = torch.tensor([[1, 1, 1], [0, 2, 1]])
    assert part.scores(counts).tolist() == [1, 1]
    assert not isinstance(part, Collector)


def test_classes_do_not_choose_among_the_images_of_a_part() -> None:
    mean: Evidence = MeanEvidence([labels(1, 0, 1)])
    with pytest.raises(TypeError, match="part_of"):
        PartEvidence(mean, [True, True, False]).only([0])


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
    mean = MeanEvidence([labels(1, 1, 0, 0), labels(1, 0, 0, 1)])
    counts = torch.tensor([[1, 1, 1, 1], [2, 0, 0, 0], [0, 1, 0, 1], [0, 0, 3, 1]])
    assert mean.num_images == 4
    assert mean.scores(counts).tolist() == [0.5, 1.0, 0.5, 0.125]
    assert not isinstance(mean, Collector)


def test_interval_over_images_keeps_seeds_together() -> None:
    # Two seeds that are wrong on the same images know no more than one of them.
    worse, better = labels(*[1, 0] * 50), labels(*[1, 0, 1, 1] * 25)
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
