"""Evidence gives the metric's own score, resampled truly, also of some classes alone."""

from typing import Any

import pytest
import torch
from torch import Tensor

from regrow.metrics.evidence import BoxEvidence, ConfusionEvidence, CorrectEvidence
from regrow.metrics.scores import Accuracy, MeanAP, MeanIoU

Image = tuple[Any, Any]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _map50(images: list[Image], num_classes: int = 3) -> float:
    metric = MeanAP(num_classes)
    metric.update([found for found, _ in images], [truth for _, truth in images])
    return float(metric.compute()["map50"])


def test_correct_evidence_scores_as_accuracy_does() -> None:
    predictions = torch.rand(37, 4, generator=_generator(0)).softmax(1)
    labels = torch.randint(0, 4, (37,), generator=_generator(1))
    metric, evidence = Accuracy(4), CorrectEvidence()
    for part in (slice(0, 20), slice(20, 37)):
        metric.update(predictions[part], labels[part])
        evidence.update(predictions[part], labels[part])
    assert evidence.num_images == 37
    assert evidence.score() == pytest.approx(float(metric.compute()["accuracy"]), abs=1e-12)


def test_evidence_of_nothing_has_no_images() -> None:
    assert CorrectEvidence().num_images == 0
    assert CorrectEvidence().correct.tolist() == []
    assert ConfusionEvidence(2).num_images == 0
    assert BoxEvidence(2).num_images == 0


def test_confusion_evidence_scores_as_mean_iou_does(make) -> None:
    predicted, truth = make.masks(0)
    metric, evidence = MeanIoU(5), ConfusionEvidence(5)
    metric.update(predicted, truth)
    evidence.update(predicted[:3], truth[:3])
    evidence.update(predicted[3:], truth[3:])
    assert evidence.num_images == 8
    assert evidence.score() == pytest.approx(float(metric.compute()["miou"]), abs=1e-12)


@pytest.mark.parametrize("seed", range(40))
def test_box_evidence_scores_as_average_precision_does(make, seed: int) -> None:
    images = make.boxes(seed)
    evidence = make.box_evidence(images)
    assert evidence.num_images == len(images)
    assert evidence.score() == pytest.approx(_map50(images), abs=1e-6)


def test_box_evidence_of_random_real_boxes_scores_as_average_precision_does(make) -> None:
    generator = _generator(7)
    images = []
    for _ in range(10):
        corners = torch.rand(8, 2, generator=generator) * 60
        objects = torch.cat([corners, corners + 10 + torch.rand(8, 2, generator=generator) * 30], 1)
        found = objects.repeat(3, 1) + torch.randn(24, 4, generator=generator) * 4
        labels = torch.randint(0, 3, (8,), generator=generator)
        scores = torch.rand(24, generator=generator)
        images.append(
            (
                {"boxes": found, "scores": scores, "labels": labels.repeat(3)},
                {"boxes": objects, "labels": labels},
            )
        )
    assert 0.2 < _map50(images) < 1
    assert make.box_evidence(images).score() == pytest.approx(_map50(images), abs=1e-6)


def test_box_evidence_counts_a_hundred_detections_of_a_class_as_coco_does(make) -> None:
    # A hundred wrong ones come before the right one of class 0; class 1 is a class of its own.
    stray = torch.tensor([[50.0, 50, 60, 60]]).repeat(100, 1)
    right = torch.tensor([[0.0, 0, 10, 10]])
    found = {
        "boxes": torch.cat([stray, right, right]),
        "scores": torch.cat([torch.linspace(0.9, 0.8, 100), torch.tensor([0.5, 0.4])]),
        "labels": torch.cat([torch.zeros(101, dtype=torch.long), torch.tensor([1])]),
    }
    truth = {"boxes": right.repeat(2, 1), "labels": torch.tensor([0, 1])}
    with pytest.warns(UserWarning, match="more than 100 detections"):
        expected = _map50([(found, truth)], 2)
    assert expected == pytest.approx(0.5)
    assert make.box_evidence([(found, truth)], 2).score() == pytest.approx(expected)


def test_box_evidence_without_detections_or_objects_is_zero(make) -> None:
    nothing = {
        "boxes": torch.zeros(0, 4),
        "scores": torch.zeros(0),
        "labels": torch.zeros(0).long(),
    }
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}
    one = {"boxes": torch.tensor([[0.0, 0, 9, 9]]), "labels": torch.tensor([1])}
    assert make.box_evidence([(nothing, empty)]).score() == 0
    assert make.box_evidence([(nothing, one)]).score() == 0
    assert make.box_evidence([({**one, "scores": torch.tensor([0.5])}, empty)]).score() == 0


@pytest.mark.parametrize("kind", ["labels", "masks", "boxes"])
def test_scores_by_counts_are_those_of_the_repeated_set(make, kind: str) -> None:
    evidence, drawn = make.evidences(kind)
    draws = torch.randint(0, 8, (70, 8), generator=_generator(5))
    counts = torch.stack([torch.bincount(row, minlength=8) for row in draws])
    expected = [drawn(row.tolist()).score() for row in draws]
    assert len(set(expected)) > 5
    assert evidence.scores(counts).tolist() == pytest.approx(expected, abs=1e-9)
    assert evidence.score(counts[0]) == pytest.approx(expected[0], abs=1e-9)


def _drawn_counts(num_images: int) -> Tensor:
    draws = torch.randint(0, num_images, (20, num_images), generator=_generator(9))
    return torch.stack([torch.bincount(row, minlength=num_images) for row in draws])


def test_accuracy_of_some_classes_is_that_of_their_images() -> None:
    predictions = torch.rand(40, 4, generator=_generator(0))
    labels = torch.randint(0, 4, (40,), generator=_generator(1))
    whole, alone = CorrectEvidence(), CorrectEvidence()
    for part in (slice(0, 25), slice(25, 40)):
        whole.update(predictions[part], labels[part])
        mine = (labels[part] == 1) | (labels[part] == 3)
        alone.update(predictions[part][mine], labels[part][mine])
    found = whole.only([3, 1])
    assert (
        found.num_images == alone.num_images == int(torch.isin(labels, torch.tensor([1, 3])).sum())
    )
    assert torch.equal(found.correct, alone.correct)
    assert found.only([1]).num_images == int((labels == 1).sum())
    # An image taken for the class is none that shows it.
    assert whole.only([0, 1, 2, 3]).score() == whole.score()
    assert whole.only([]).num_images == 0


def test_mean_iou_of_some_classes_is_the_mean_of_theirs(make) -> None:
    predicted, truth = make.masks(0, 12)
    evidence = ConfusionEvidence(5)
    evidence.update(predicted, truth)
    counts = _drawn_counts(12)
    wanted = []
    for row in counts:
        metric = MeanIoU(5)
        repeated = torch.repeat_interleave(torch.arange(12), row)
        metric.update(predicted[repeated], truth[repeated])
        per_class = metric.compute()["per_class"]
        wanted.append(float((per_class[2] + per_class[0]) / 2))
    found = evidence.only([2, 0])
    assert found.num_images == 12
    assert found.scores(counts).tolist() == pytest.approx(wanted, abs=1e-12)
    shown = [int(((truth == index).flatten(1).any(1)).sum()) for index in (2, 0)]
    assert found.images_by_class.tolist() == shown
    # The whole is left as it was; a class that nobody sees or names has no score.
    assert evidence.score() == pytest.approx(evidence.only([0, 1, 2, 3]).score())
    assert torch.tensor(evidence.only([4]).score()).isnan()


def test_average_precision_of_some_classes_is_that_without_the_others(make) -> None:
    images = make.boxes(4, 8)
    for number, (found, _) in enumerate(images):
        found["scores"] = found["scores"] - torch.arange(len(found["scores"])) / 500 - number / 9000

    def of(parts: dict[str, Tensor]) -> dict[str, Tensor]:
        mine = (parts["labels"] == 0) | (parts["labels"] == 2)
        return {name: value[mine] for name, value in parts.items()}

    alone = make.box_evidence([(of(found), of(truth)) for found, truth in images])
    found = make.box_evidence(images).only([0, 2])
    counts = _drawn_counts(8)
    assert found.num_images == 8
    assert found.scores(counts).tolist() == pytest.approx(alone.scores(counts).tolist(), abs=1e-12)
    assert found.score() != make.box_evidence(images).score()
    assert found.images_by_class.tolist() == alone.images_by_class[[0, 2]].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_evidence_in_another_order_is_that_of_images_added_so(make, seed: int) -> None:
    images = make.boxes(seed)
    for found, _ in images:  # scores that many share: then the order shows
        found["scores"] = (found["scores"] * 3).round() / 3
    order = torch.randperm(len(images), generator=_generator(seed)).tolist()
    predicted, truth = make.masks(seed)
    masks = torch.randperm(len(predicted), generator=_generator(seed)).tolist()
    confusion, other = ConfusionEvidence(5), ConfusionEvidence(5)
    confusion.update(predicted, truth)
    other.update(predicted[masks], truth[masks])
    for own, expected in (
        (
            make.box_evidence(images).in_order(order),
            make.box_evidence([images[number] for number in order]),
        ),
        (confusion.in_order(masks), other),
    ):
        drawn = torch.rand(20, expected.num_images, generator=_generator(1))
        assert torch.equal(own.scores(drawn), expected.scores(drawn))
        assert torch.equal(own.shown, expected.shown)


def test_evidence_of_nothing_has_one_order() -> None:
    for own in (ConfusionEvidence(2), BoxEvidence(2)):
        assert own.in_order([]).num_images == 0
