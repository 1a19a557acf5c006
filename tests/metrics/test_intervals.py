"""Intervals cover: against the exact test, a loop over the same thirds, and planted losses."""

import statistics
from collections.abc import Sequence

import pytest
import torch
from scipy.stats import binom
from torch import Tensor

from regrow.metrics.evidence import BoxEvidence, ConfusionEvidence, CorrectEvidence, Evidence
from regrow.metrics.exact_test import low_end
from regrow.metrics.intervals import lost_and_gained, paired_interval, unseen

# Pixels of two classes, by truth and prediction: all right, all wrong.
GOOD, LOST = torch.tensor([50.0, 0, 0, 50]), torch.tensor([0.0, 50, 50, 0])


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_interval_of_accuracies_is_that_of_the_exact_test(make) -> None:
    # 100 images: 8 lost, 3 gained.
    before, after = torch.ones(100, dtype=torch.bool), torch.ones(100, dtype=torch.bool)
    after[:8] = False
    before[8:11] = False
    assert lost_and_gained(make.correct(before), make.correct(after)) == (8, 3)
    for confidence in (0.95, 0.9):
        got = paired_interval(make.correct(before), make.correct(after), confidence)
        assert got == (low_end(8, 3, 100, confidence), -low_end(3, 8, 100, confidence))


def test_interval_turns_round_with_its_networks(make) -> None:
    before = torch.rand(50, generator=_generator(0)) < 0.8
    after = torch.rand(50, generator=_generator(1)) < 0.6
    low, high = paired_interval(make.correct(before), make.correct(after))
    assert low < high < 1
    assert paired_interval(make.correct(after), make.correct(before)) == pytest.approx(
        (-high, -low)
    )


@pytest.mark.parametrize("kind", ["labels", "masks", "boxes"])
def test_interval_of_equal_networks_holds_zero_and_is_not_empty(make, kind: str) -> None:
    evidence, _ = make.evidences(kind)
    low, high = paired_interval(evidence, evidence)
    assert -1 <= low < 0 < high <= 1


def test_interval_of_one_image_is_everything(make) -> None:
    one = torch.ones(1, dtype=torch.bool)
    assert paired_interval(make.correct(one), make.correct(one)) == (-1, 1)


def test_different_numbers_of_images_are_refused(make) -> None:
    many, few = torch.ones(3, dtype=torch.bool), torch.ones(2, dtype=torch.bool)
    with pytest.raises(ValueError, match="3 images before and 2 after: not the same"):
        paired_interval(make.correct(many), make.correct(few))


@pytest.mark.parametrize("kind", ["labels", "masks", "boxes"])
def test_an_end_is_further_at_a_higher_confidence(make, kind: str) -> None:
    evidence, drawn = make.evidences(kind)
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
    """Return the distance of an end less what no image showed, which was squared and added."""
    return (distance**2 - unseen(evidence, 0.95) ** 2) ** 0.5


class _Mean(Evidence):
    """A score that is the mean of values, and less by a bias of a number over the root of n."""

    def __init__(self, values: Tensor, bias: float = 0) -> None:
        self.values, self.bias = values.double(), bias

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


@pytest.mark.parametrize("kind", ["masks", "boxes"])
def test_an_interval_of_classes_that_no_image_shows_is_everything(make, kind: str) -> None:
    """Two networks that never see a class agree about it, and that says nothing of them."""
    if kind == "masks":
        predicted, truth = make.masks(0, 60)
        evidence: Evidence = ConfusionEvidence(5)
        evidence.update(predicted, truth)
    else:
        images = make.boxes(4, 60)
        found, _ = images[1]
        found["labels"] = torch.full_like(found["labels"], 3)
        evidence = make.box_evidence(images, 5)
    # The truth has three classes; class 3 is named all the same, 4 is not.
    for absent in ([3], [4], [3, 4]):
        assert paired_interval(evidence.only(absent), evidence.only(absent)) == (-1, 1)
    low, high = paired_interval(evidence.only([0, 4]), evidence.only([0, 4]))
    assert -0.5 < low < 0 < high < 0.5
