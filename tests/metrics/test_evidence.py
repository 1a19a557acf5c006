"""Evidence gives the metric's own score, resampled truly, and intervals that cover."""

import statistics
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from scipy.stats import binom
from torch import Tensor

from regrow.metrics.evidence import BoxEvidence, ConfusionEvidence, CorrectEvidence, Evidence, match
from regrow.metrics.exact_test import low_end
from regrow.metrics.intervals import lost_and_gained, paired_interval, unseen
from regrow.metrics.scores import Accuracy, MeanAP, MeanIoU

Image = tuple[Any, Any]

# Pixels of two classes, by truth and prediction: all right, all wrong.
GOOD, LOST = torch.tensor([50.0, 0, 0, 50]), torch.tensor([0.0, 50, 50, 0])


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _correct(flags: Tensor) -> CorrectEvidence:
    evidence = CorrectEvidence()
    # Class 0 is the truth; a wrong image is taken for class 1.
    predictions = torch.stack([flags.float(), 1 - flags.float()], 1)
    evidence.update(predictions, torch.zeros(len(flags), dtype=torch.long))
    return evidence


def _masks(seed: int, num_images: int = 8) -> tuple[Tensor, Tensor]:
    generator = _generator(seed)
    truth = torch.randint(0, 3, (num_images, 6, 5), generator=generator)
    void = torch.rand(truth.shape, generator=generator) < 0.2
    predicted = torch.randint(0, 4, truth.shape, generator=generator)
    return predicted.to(torch.uint8), truth.masked_fill(void, 255).to(torch.uint8)


def _boxes(seed: int, num_images: int = 6, num_classes: int = 3) -> list[Image]:
    """Give objects and detections on a coarse grid, with ties of score and of overlap."""
    generator = _generator(seed)
    images = []
    for number in range(num_images):
        num_objects = 0 if number == 0 else int(torch.randint(0, 6, (), generator=generator))
        corners = torch.randint(0, 6, (num_objects, 2), generator=generator).float() * 4
        sizes = torch.randint(1, 4, (num_objects, 2), generator=generator).float() * 4
        objects = torch.cat([corners, corners + sizes], 1)
        labels = torch.randint(0, num_classes, (num_objects,), generator=generator)
        copies = torch.randint(0, max(num_objects, 1), (2 * num_objects,), generator=generator)
        shifts = torch.randint(-1, 2, (len(copies), 4), generator=generator) * 2.0
        found = objects[copies] + shifts
        stray = torch.randint(0, 20, (int(number % 3), 2), generator=generator).float()
        found = torch.cat([found, torch.cat([stray, stray + 6], 1)])
        found = found[(found[:, 2:] > found[:, :2]).all(1)]
        kinds = torch.randint(0, num_classes, (len(found),), generator=generator)
        # Most detections have the class of the object they were made from.
        near = (found[:, None] - objects[None]).abs().sum(2) if num_objects else None
        if near is not None and len(found):
            own = labels[near.argmin(1)]
            keep = torch.rand(len(found), generator=generator) < 0.7
            kinds = own.where(keep, kinds)
        scores = torch.randint(1, 8, (len(found),), generator=generator) / 8
        images.append(
            (
                {"boxes": found, "scores": scores, "labels": kinds},
                {"boxes": objects, "labels": labels},
            )
        )
    return images


def _box_evidence(images: list[Image], num_classes: int = 3) -> BoxEvidence:
    evidence = BoxEvidence(num_classes)
    for found, truth in images:
        evidence.update([found], [truth])
    return evidence


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


def test_confusion_evidence_scores_as_mean_iou_does() -> None:
    predicted, truth = _masks(0)
    metric, evidence = MeanIoU(5), ConfusionEvidence(5)
    metric.update(predicted, truth)
    evidence.update(predicted[:3], truth[:3])
    evidence.update(predicted[3:], truth[3:])
    assert evidence.num_images == 8
    assert evidence.score() == pytest.approx(float(metric.compute()["miou"]), abs=1e-12)


@pytest.mark.parametrize("seed", range(40))
def test_box_evidence_scores_as_average_precision_does(seed: int) -> None:
    images = _boxes(seed)
    evidence = _box_evidence(images)
    assert evidence.num_images == len(images)
    assert evidence.score() == pytest.approx(_map50(images), abs=1e-6)


def test_box_evidence_of_random_real_boxes_scores_as_average_precision_does() -> None:
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
    assert _box_evidence(images).score() == pytest.approx(_map50(images), abs=1e-6)


def test_box_evidence_counts_a_hundred_detections_of_a_class_as_coco_does() -> None:
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
    assert _box_evidence([(found, truth)], 2).score() == pytest.approx(expected)


def test_box_evidence_without_detections_or_objects_is_zero() -> None:
    nothing = {
        "boxes": torch.zeros(0, 4),
        "scores": torch.zeros(0),
        "labels": torch.zeros(0).long(),
    }
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}
    one = {"boxes": torch.tensor([[0.0, 0, 9, 9]]), "labels": torch.tensor([1])}
    assert _box_evidence([(nothing, empty)]).score() == 0
    assert _box_evidence([(nothing, one)]).score() == 0
    assert _box_evidence([({**one, "scores": torch.tensor([0.5])}, empty)]).score() == 0


def _evidences(kind: str) -> tuple[Evidence, Any]:
    """Give evidence of some images, and what gives evidence of a list of their numbers."""
    if kind == "labels":
        flags = torch.rand(8, generator=_generator(2)) < 0.6
        return _correct(flags), lambda numbers: _correct(flags[numbers])
    if kind == "masks":
        predicted, truth = _masks(3)

        def confusion(numbers: list[int]) -> Evidence:
            evidence = ConfusionEvidence(5)
            evidence.update(predicted[numbers], truth[numbers])
            return evidence

        return confusion(list(range(8))), confusion
    images = _boxes(4, 8)
    # Scores of their own, since the order of ties is the order of images.
    for number, (found, _) in enumerate(images):
        found["scores"] = found["scores"] - torch.arange(len(found["scores"])) / 500 - number / 9000
    return _box_evidence(images), lambda numbers: _box_evidence([images[n] for n in numbers])


@pytest.mark.parametrize("kind", ["labels", "masks", "boxes"])
def test_scores_by_counts_are_those_of_the_repeated_set(kind: str) -> None:
    evidence, drawn = _evidences(kind)
    draws = torch.randint(0, 8, (70, 8), generator=_generator(5))
    counts = torch.stack([torch.bincount(row, minlength=8) for row in draws])
    expected = [drawn(row.tolist()).score() for row in draws]
    assert len(set(expected)) > 5
    assert evidence.scores(counts).tolist() == pytest.approx(expected, abs=1e-9)
    assert evidence.score(counts[0]) == pytest.approx(expected[0], abs=1e-9)


def test_match_takes_the_best_free_object_once() -> None:
    objects = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8]])
    boxes = torch.tensor([[0.0, 0, 10, 8], [0, 0, 10, 8], [0, 0, 10, 10], [40, 40, 50, 50]])
    # The first takes the second object; the next still overlaps the first by .8; none is left.
    assert match(boxes, objects).tolist() == [True, True, False, False]
    assert match(boxes, objects, 0.9).tolist() == [True, False, True, False]
    assert match(boxes, objects[:0]).tolist() == [False] * 4
    assert match(boxes[:0], objects).tolist() == []


def test_match_counts_an_overlap_of_just_the_threshold() -> None:
    objects = torch.tensor([[0.0, 0, 10, 10]])
    assert match(torch.tensor([[0.0, 0, 10, 5]]), objects).tolist() == [True]
    assert match(torch.tensor([[0.0, 0, 10, 4.9]]), objects).tolist() == [False]


def test_interval_of_accuracies_is_that_of_the_exact_test() -> None:
    # 100 images: 8 lost, 3 gained.
    before, after = torch.ones(100, dtype=torch.bool), torch.ones(100, dtype=torch.bool)
    after[:8] = False
    before[8:11] = False
    assert lost_and_gained(_correct(before), _correct(after)) == (8, 3)
    for confidence in (0.95, 0.9):
        got = paired_interval(_correct(before), _correct(after), confidence)
        assert got == (low_end(8, 3, 100, confidence), -low_end(3, 8, 100, confidence))


def test_interval_turns_round_with_its_networks() -> None:
    before = torch.rand(50, generator=_generator(0)) < 0.8
    after = torch.rand(50, generator=_generator(1)) < 0.6
    low, high = paired_interval(_correct(before), _correct(after))
    assert low < high < 1
    assert paired_interval(_correct(after), _correct(before)) == pytest.approx((-high, -low))


@pytest.mark.parametrize("kind", ["labels", "masks", "boxes"])
def test_interval_of_equal_networks_holds_zero_and_is_not_empty(kind: str) -> None:
    evidence, _ = _evidences(kind)
    low, high = paired_interval(evidence, evidence)
    assert -1 <= low < 0 < high <= 1


def test_interval_of_one_image_is_everything() -> None:
    one = torch.ones(1, dtype=torch.bool)
    assert paired_interval(_correct(one), _correct(one)) == (-1, 1)


def test_different_numbers_of_images_are_refused() -> None:
    many, few = torch.ones(3, dtype=torch.bool), torch.ones(2, dtype=torch.bool)
    with pytest.raises(ValueError, match="3 images before and 2 after: not the same"):
        paired_interval(_correct(many), _correct(few))


@pytest.mark.parametrize("kind", ["labels", "masks", "boxes"])
def test_an_end_is_further_at_a_higher_confidence(kind: str) -> None:
    evidence, drawn = _evidences(kind)
    other = drawn([1, 1, 2, 3, 4, 5, 6, 7])
    lows, highs = zip(*(paired_interval(evidence, other, c) for c in (0.5, 0.8, 0.9)), strict=True)
    assert lows[0] > lows[1] > lows[2]
    assert highs[0] < highs[1] < highs[2]


def _segmentation_pair(num_images: int, seed: int) -> tuple[Evidence, Evidence]:
    generator = _generator(seed)
    truth = torch.randint(0, 2, (num_images, 4, 4), generator=generator)
    pair = []
    for share in (0.1, 0.3):
        wrong = torch.rand(truth.shape, generator=generator) < share
        evidence = ConfusionEvidence(2)
        evidence.update(truth ^ wrong, truth)
        pair.append(evidence)
    return pair[0], pair[1]


def test_interval_holds_the_difference_and_narrows_with_images() -> None:
    widths = []
    for count in (500, 2000):
        before, after = _segmentation_pair(count, 0)
        low, high = paired_interval(before, after)
        assert low < after.score() - before.score() < high < 0
        widths.append(high - low)
    # Four times the images: half of what was seen, a quarter of what was not.
    assert widths[0] / 4 < widths[1] < widths[0] / 2


@pytest.mark.parametrize("seed", [1, 5])
def test_interval_solves_its_equation_by_a_loop_over_the_same_thirds(seed: int) -> None:
    before, after = _segmentation_pair(800, seed)
    parts, spread = [], []
    for noise in torch.rand(140, 800, generator=_generator(3)):
        three = []
        for third in noise.argsort().tensor_split(3):
            counts = torch.bincount(third, minlength=800)
            three.append(after.score(counts) - before.score(counts))
        parts += three
        spread += [value - statistics.fmean(three) for value in three]
    # Unbiased in each split, of sets that have three times the variance of all.
    variance = sum(value**2 for value in spread) / 140 / 2 / 3
    size = sum(value**3 for value in spread) / sum(value**2 for value in spread)
    centre = after.score() - before.score()
    bias = (statistics.fmean(parts) - centre) / (3**0.5 - 1)
    assert size != 0
    assert bias != 0
    low, high = paired_interval(before, after, num_resamples=420, seed=3)
    for side, end in ((-1, low), (1, high)):
        event, away = max(side * size, 0), max(-side * bias, 0)
        reach = _seen(end - centre, before)
        # A loss of so much would come with a variance and a bias of its own.
        widened = variance + event * reach
        # The table of t with 799 degrees of freedom.
        expected = event / 2 + 1.646765 * widened**0.5 + away * widened / variance
        assert reach == pytest.approx(expected, rel=1e-5)


def _seen(distance: float, evidence: Evidence) -> float:
    """Give the distance of an end less what no image showed, which was squared and added."""
    return (distance**2 - unseen(evidence, 0.95) ** 2) ** 0.5


class _Mean(Evidence):
    """A score that is the mean of values, and less by a bias of a number over the root of n."""

    def __init__(self, values: Tensor, bias: float = 0) -> None:
        self.values, self.bias = values.double(), bias

    def update(self, predictions: Any, targets: Any) -> None:
        raise NotImplementedError

    def only(self, classes: Sequence[int]) -> Evidence:
        raise NotImplementedError

    @property
    def num_images(self) -> int:
        return len(self.values)

    def scores(self, counts: Tensor) -> Tensor:
        total = counts.double().sum(1)
        return counts.double() @ self.values / total - self.bias / total.sqrt()


def test_variance_and_event_size_of_a_mean_are_those_of_its_values() -> None:
    # Most images keep their score, a few lose some of it or twice as much.
    values = torch.zeros(90)
    values[:6], values[6:9] = -1.5, -3
    before = _Mean(torch.zeros(90))
    low, high = paired_interval(before, _Mean(values), num_resamples=90_000)
    centre = -18 / 90
    squares = 6 * 1.5**2 + 3 * 3**2 - 90 * centre**2
    cubes = 6 * (-1.5 - centre) ** 3 + 3 * (-3 - centre) ** 3 + 81 * (-centre) ** 3
    variance, size = squares / 89 / 90, -cubes / squares / 90
    # The table of t with 89 degrees of freedom; above there are no events. Of 30,000 splits the
    # standard error is 0.6 % of the variance and 3 % of the size.
    assert _seen(high - centre, before) == pytest.approx(1.662155 * variance**0.5, rel=0.01)
    reach = _seen(centre - low, before)
    expected = size / 2 + 1.662155 * (variance + size * reach) ** 0.5
    assert reach == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("bias", [0.3, -0.3])
def test_a_bias_that_falls_with_the_root_moves_the_end_that_it_brought_in(bias: float) -> None:
    values = torch.tensor([-0.5, 0.5]).repeat(60)
    same = _Mean(torch.zeros(120))
    wanted = paired_interval(same, _Mean(values), num_resamples=60_000)
    biased = paired_interval(same, _Mean(values, bias), num_resamples=60_000)
    # All is less by 0.3 / 120^0.5 = 0.0274. One end was brought in and is put right, the other is
    # left where it is.
    brought_in, left = (1, 0) if bias > 0 else (0, 1)
    assert biased[brought_in] == pytest.approx(wanted[brought_in], abs=0.005)
    assert biased[left] == pytest.approx(wanted[left] - bias / 120**0.5, abs=1e-9)


def test_a_loss_whose_bias_outgrows_it_has_no_end() -> None:
    class Spoiled(_Mean):
        """A score that a single image spoils."""

        def scores(self, counts: Tensor) -> Tensor:
            return -0.3 * (counts.double() @ self.values > 0).double()

    values = torch.zeros(90)
    values[0] = 1
    # Thirds lose 0.3, 0 and 0, so that the variance is 0.01, an event 0.1 and the bias
    # 0.2 / 0.732 = 0.273: more is lost to the bias of a further event than it takes.
    assert paired_interval(_Mean(torch.zeros(90)), Spoiled(values))[0] == -1


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_images_than_thirds_decide_nothing(count: int) -> None:
    one = _Mean(torch.ones(count))
    assert paired_interval(one, one) == (-1, 1)


def test_interval_is_the_same_for_a_seed_and_moves_with_it() -> None:
    before, after = _segmentation_pair(800, 1)
    first = paired_interval(before, after, num_resamples=100, seed=1)
    assert paired_interval(before, after, num_resamples=100, seed=1) == first
    assert paired_interval(before, after, num_resamples=100, seed=2) != first


def test_thirds_without_any_spread_fall_back_to_the_rule_of_three() -> None:
    truth = torch.zeros(30, 2, 2, dtype=torch.long)
    truth[:, 0] = 1
    evidence = ConfusionEvidence(2)
    evidence.update(truth, truth)
    # (1 - s)^30 = 0.05, s = 0.095034; of a union of 1 + s there are 1 - s right.
    three = 1 - 0.904966 / 1.095034
    assert unseen(evidence, 0.95) == pytest.approx(three, abs=1e-6)
    assert paired_interval(evidence, evidence) == pytest.approx((-three, three), abs=1e-6)


def test_the_rule_of_three_holds_for_each_class_and_the_images_that_show_it() -> None:
    truth = torch.zeros(30, 2, 2, dtype=torch.long)
    truth[:2, 0] = 1
    masks = ConfusionEvidence(4)
    masks.update(truth, truth)
    assert masks.images_by_class.tolist() == [30, 2, 0, 0]
    boxes = BoxEvidence(4)
    for number in range(30):
        labels = torch.tensor([0, 0, 1] if number < 2 else [0])
        corners = torch.arange(len(labels))[:, None] * torch.ones(4) * 20
        objects = corners + torch.tensor([0.0, 0, 9, 9])
        found = {"boxes": objects, "labels": labels, "scores": torch.ones(len(labels))}
        boxes.update([found], [{"boxes": objects, "labels": labels}])
    assert boxes.images_by_class.tolist() == [30, 2, 0, 0]
    assert len(CorrectEvidence().images_by_class) == 0
    # Of two images that show a class, 78 % of such images may be others; it is half of the score.
    rare = (1 - 0.05**0.5) / 2
    assert rare == pytest.approx(0.388197, abs=1e-6)
    for evidence in (masks, boxes):
        assert unseen(evidence, 0.95) == pytest.approx(rare)
        assert paired_interval(evidence, evidence) == pytest.approx((-rare, rare))


def test_a_change_in_one_image_narrows_no_interval() -> None:
    truth = torch.zeros(20, 8, 8, dtype=torch.long)
    truth[:, 0] = 1
    before, after = ConfusionEvidence(2), ConfusionEvidence(2)
    before.update(truth, truth)
    changed = truth.clone()
    changed[0, 0, 0] = 0
    after.update(changed, truth)
    for pair in ((before, after), (after, before)):
        low, high = paired_interval(*pair)
        assert low < -0.1
        assert high > 0.1


def test_images_that_are_void_all_over_decide_nothing() -> None:
    void = torch.full((3, 2, 2), 255)
    seen = void.clone()
    seen[0] = torch.tensor([[0, 1], [1, 0]])
    for truth in (void, seen):
        evidence = ConfusionEvidence(2)
        evidence.update(torch.zeros_like(truth), truth)
        low, high = paired_interval(evidence, evidence)
        assert low < -0.5
        assert high > 0.5


def test_losses_that_are_rare_and_large_move_the_end_that_they_would_move() -> None:
    whole, holed = GOOD.repeat(100, 1), GOOD.repeat(100, 1)
    holed[:6] = LOST
    low, high = paired_interval(_confusions(whole), _confusions(holed))
    centre = _confusions(holed).score() - _confusions(whole).score()
    # Six were seen. Of a Poisson number x, six is 1.66 x^0.5 too few for x = 11.7. Near an IoU of
    # 0.9 a further image takes less than the ones before, so that the end lies nearer.
    before = _confusions(whole)
    assert 4.2 / 6 < -_seen(low - centre, before) / centre < 5.7 / 6
    # And of the variance of six, 1.66 * 6^0.5 = 4.07 too many.
    assert -_seen(high - centre, before) / centre == pytest.approx(4.07 / 6, rel=0.1)
    mirrored = paired_interval(_confusions(holed), _confusions(whole))
    assert mirrored == pytest.approx((-high, -low), abs=1e-9)


def _confusions(images: Tensor) -> ConfusionEvidence:
    return ConfusionEvidence.of(images.view(-1, 2, 2))


@pytest.mark.parametrize("num_images", [50, 100, 200])
def test_networks_at_the_edge_are_accepted_no_more_often_than_promised(num_images: int) -> None:
    # On 4 % of the images all is lost: both classes keep 0.96 of a union of 1.04.
    generator, num_runs, edge, accepted = _generator(5), 300, 0.96 / 1.04 - 1, 0
    before = _confusions(GOOD.expand(num_images, 4))
    for _ in range(num_runs):
        is_lost = torch.rand(num_images, generator=generator) < 0.04
        after = _confusions(torch.where(is_lost[:, None], LOST, GOOD))
        accepted += paired_interval(before, after, num_resamples=200)[0] >= edge
    # The bound that a probability of 5 % exceeds once in a hundred times.
    assert accepted <= binom.ppf(0.99, num_runs, 0.05)


@pytest.mark.parametrize("num_images", [100, 200])
def test_detections_taken_for_a_rare_class_are_accepted_no_more_often_than_promised(
    num_images: int,
) -> None:
    # One image of ten shows the rare class. On 4.5 % of all, the object of the common class is
    # taken for one, at any score: the rare class keeps a precision of 0.1 / 0.145, and the common
    # class 96 of 101 recalls.
    generator, num_runs, accepted = _generator(0), 300, 0
    edge = (0.1 / 0.145 - 1) / 2 + (96 / 101 - 1) / 2
    for _ in range(num_runs):
        is_rare, is_taken = torch.rand(2, num_images, generator=generator) < torch.tensor(
            [[0.1], [0.045]]
        )
        scores = torch.rand(2, num_images, generator=generator).double()
        before = _detections(is_rare, torch.zeros(num_images, dtype=torch.bool), scores)
        after = _detections(is_rare, is_taken, scores)
        accepted += paired_interval(before, after, num_resamples=200)[0] >= edge
    # The bound that a probability of 5 % exceeds once in a hundred times.
    assert accepted <= binom.ppf(0.99, num_runs, 0.05)


def _detections(is_rare: Tensor, is_taken: Tensor, scores: Tensor) -> BoxEvidence:
    numbers, is_right = torch.arange(len(is_rare)), ~is_taken
    common = (scores[0, is_right], is_right[is_right], numbers[is_right])
    rare = [
        (scores[1, is_rare], is_rare[is_rare], numbers[is_rare]),
        (scores[0, is_taken], is_right[is_taken], numbers[is_taken]),
    ]
    scored, matched, images = (torch.cat(parts) for parts in zip(*rare, strict=True))
    num_objects = torch.stack([torch.ones_like(numbers), is_rare.long()], 1)
    return BoxEvidence.of(num_objects, [common, (scored, matched, images)])


# Evidence of some classes alone.


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


def test_mean_iou_of_some_classes_is_the_mean_of_theirs() -> None:
    predicted, truth = _masks(0, 12)
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


def test_average_precision_of_some_classes_is_that_without_the_others() -> None:
    images = _boxes(4, 8)
    for number, (found, _) in enumerate(images):
        found["scores"] = found["scores"] - torch.arange(len(found["scores"])) / 500 - number / 9000

    def of(parts: dict[str, Tensor]) -> dict[str, Tensor]:
        mine = (parts["labels"] == 0) | (parts["labels"] == 2)
        return {name: value[mine] for name, value in parts.items()}

    alone = _box_evidence([(of(found), of(truth)) for found, truth in images])
    found = _box_evidence(images).only([0, 2])
    counts = _drawn_counts(8)
    assert found.num_images == 8
    assert found.scores(counts).tolist() == pytest.approx(alone.scores(counts).tolist(), abs=1e-12)
    assert found.score() != _box_evidence(images).score()
    assert found.images_by_class.tolist() == alone.images_by_class[[0, 2]].tolist()


@pytest.mark.parametrize("kind", ["masks", "boxes"])
def test_an_interval_of_classes_that_no_image_shows_is_everything(kind: str) -> None:
    """Two networks that never see a class agree about it, and that says nothing of them."""
    if kind == "masks":
        predicted, truth = _masks(0, 60)
        evidence: Evidence = ConfusionEvidence(5)
        evidence.update(predicted, truth)
    else:
        images = _boxes(4, 60)
        found, _ = images[1]
        found["labels"] = torch.full_like(found["labels"], 3)
        evidence = _box_evidence(images, 5)
    # The truth has three classes; class 3 is named all the same, 4 is not.
    for absent in ([3], [4], [3, 4]):
        assert paired_interval(evidence.only(absent), evidence.only(absent)) == (-1, 1)
    low, high = paired_interval(evidence.only([0, 4]), evidence.only([0, 4]))
    assert -0.5 < low < 0 < high < 0.5
