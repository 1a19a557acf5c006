"""Evidence of several networks, or of some of the images, says no more than its parts do."""

import pytest
import torch

from regrow.metrics.differences import MeanEvidence, PartEvidence, differ, part_of
from regrow.metrics.evidence import BoxEvidence, ConfusionEvidence, CorrectEvidence, Evidence
from regrow.metrics.intervals import paired_interval, unseen

RARE = (1 - 0.05**0.5) / 2  # of 2 images that show a class 78 % may be others; half of the score


def masks(num_images: int = 30) -> ConfusionEvidence:
    """Give a network that is right of all images, of which two show the second class."""
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
    with pytest.raises(TypeError, match="complete"):
        part.update(None, None)


def test_classes_do_not_choose_among_the_images_of_a_part() -> None:
    mean: Evidence = MeanEvidence([labels(1, 0, 1)])
    with pytest.raises(TypeError, match="part_of"):
        PartEvidence(mean, [True, True, False]).only([0])
