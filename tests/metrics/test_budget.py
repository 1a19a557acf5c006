from collections.abc import Sequence
from math import ceil, log, nan

import pytest
import torch

from regrow.errors import BadInput
from regrow.metrics import budget as module
from regrow.metrics.budget import Budget, decide, foresee, images_needed
from regrow.metrics.evidence import ConfusionEvidence, CorrectEvidence, Evidence
from regrow.metrics.exact_test import images_to_decide
from regrow.metrics.unseen import Shown


class Scored(Evidence):
    """Evidence of a score that is given."""

    num_images = 0

    def __init__(self, value: float, num_images: int = 100) -> None:
        self.value, self.num_images = value, num_images

    def only(self, classes: Sequence[int]) -> Evidence:
        raise NotImplementedError

    def scores(self, counts: torch.Tensor) -> torch.Tensor:
        return torch.full((len(counts),), self.value, dtype=torch.float64)


@pytest.fixture
def interval(monkeypatch):
    def put(low: float, high: float) -> None:
        monkeypatch.setattr(module, "paired_interval", lambda *_: (low, high))

    return put


@pytest.mark.parametrize(
    ("low", "high", "is_met"),
    [
        (-0.004, 0.02, True),
        (-0.01, 0.0, True),  # the low end on the limit
        (-0.05, -0.02, False),
        (-0.05, -0.01, "undecided"),  # the high end on the limit
        (-0.02, 0.02, "undecided"),
        (0.01, 0.02, True),
    ],
)
def test_the_whole_interval_decides(interval, low, high, is_met):
    interval(low, high)
    verdict = decide(Scored(0.9), Scored(0.9 + (low + high) / 2), Budget(0.01))
    assert verdict.is_met == is_met
    assert verdict.interval == (low, high)
    assert verdict.num_images == 100
    assert (verdict.num_needed is not None) == (is_met == "undecided")


def test_four_times_the_images_halve_the_interval():
    # 0.00 +- 0.02 around a limit of -0.01: half the width decides it.
    assert images_needed(-0.02, 0.02, 0.0, -0.01, 100, unseen=0.001) == 400
    # The same from below: the high end has to sink under the limit.
    assert images_needed(-0.04, 0.0, -0.02, -0.01, 100, unseen=0.001) == 400


def test_twice_the_images_halve_an_interval_of_the_rule_of_three():
    # 2 s / (1 + s) = 0.02 at s = 0.020 / 1.98, and 0.01 at 0.010 / 1.99; of 100 images s stays
    # unseen as likely as the other of 100 log(1 - 0.0101010) / log(1 - 0.0050251) = 201.5.
    assert images_needed(-0.02, 0.005, 0.0, -0.01, 100, unseen=0.02) == 202


def test_what_was_seen_falls_with_the_root_and_what_was_not_with_the_number():
    # The low end is as near as it may be; the high end is not, and has to pass: of its 0.04 what
    # was seen is 0.0012^0.5, and 0.0012 * 100 / 1234 + 0.0016434^2 is just below 0.01^2.
    assert images_needed(-0.04, 0.02, -0.02, -0.01, 100, unseen=0.02) == 1234


def test_a_reach_that_no_image_showed_asks_for_few_more_images():
    # Penn-Fudan: 34 test images. Of a reach of 0.15596 the rule of three makes 0.15556.
    share = 1 - 0.05 ** (1 / 34)
    unseen = 2 * share / (1 + share)
    values = (-0.17069684703828, 0.1411810397237571, -0.0147349, -0.03, 34)
    assert images_needed(*values, unseen) == 398


def test_images_needed_of_a_rare_class_are_those_that_show_it(interval):
    # 3 of 60 images show the second class, whose score is half of the mean. Of those images a
    # share of 0.1 must be the most that is unseen: 0.9^28.43 = 0.05, and one of 20 images is one.
    both, one = torch.tensor([[50.0, 0], [0, 50]]), torch.tensor([[99.0, 0], [0, 0]])
    evidence = ConfusionEvidence.of(torch.stack([both] * 3 + [one] * 57))
    verdict = decide(evidence, evidence, Budget(0.05))
    assert verdict.is_met == "undecided"
    assert verdict.num_needed == 569  # 20 * 28.43 = 568.7
    more = ConfusionEvidence.of(torch.stack([both] * 29 + [one] * 551))
    assert decide(more, more, Budget(0.05)).is_met is True


def test_a_difference_on_the_limit_is_decided_by_no_number_of_images():
    assert images_needed(-0.03, 0.01, -0.01, -0.01, 100, unseen=0.001) is None


def test_a_score_that_is_unknown_is_decided_by_no_number_of_images(interval):
    interval(-1, 1)
    assert decide(Scored(0.9), Scored(nan), Budget()).num_needed is None


def test_more_images_are_needed_than_there_are():
    assert images_needed(-0.0100001, 0.02, 0.0, -0.01, 100, unseen=0.001) == 101
    # The high end lies on the limit: one image more at least.
    assert images_needed(-0.05, -0.01, -0.03, -0.01, 100, unseen=0.001) == 101


def _accuracies(lost: int, gained: int, num_images: int) -> list[CorrectEvidence]:
    before = torch.ones(num_images, dtype=torch.bool)
    after = before.clone()
    after[:lost] = False
    before[lost : lost + gained] = False
    pair = []
    for flags in (before, after):
        evidence = CorrectEvidence()
        evidence.update(torch.eye(2)[1 - flags.long()], torch.zeros(num_images, dtype=torch.long))
        pair.append(evidence)
    return pair


def test_the_confidence_is_that_of_the_budget():
    # Equal networks on 100 images: 0.97^100 = 0.048 and 0.971^100 = 0.053; 0.956^100 = 0.011.
    pair = _accuracies(0, 0, 100)
    assert decide(*pair, Budget(0.03)).is_met is True
    assert decide(*pair, Budget(0.029)).is_met == "undecided"
    assert decide(*pair, Budget(0.048, confidence=0.99)).is_met is True
    assert decide(*pair, Budget(0.044, confidence=0.99)).is_met == "undecided"


def test_accuracy_is_decided_by_the_exact_test_from_either_side():
    # Of 50 images all 8 that changed were lost.
    pair = _accuracies(8, 0, 50)
    # P(8 or more of 50) = 0.05 at 0.0816: if no image were ever gained.
    broken = decide(*pair, Budget(0.06))
    assert broken.is_met is False
    assert broken.interval[1] < -0.06
    undecided = decide(*pair, Budget(0.12))
    assert undecided.is_met == "undecided"
    # P(8 or fewer of 50) = 0.05 at 0.2712.
    assert decide(*pair, Budget(0.29)).is_met is True
    assert undecided.num_images == 50


@pytest.mark.parametrize("max_drop", [0.02, 0.05])
def test_the_images_needed_of_accuracy_decide(max_drop):
    needed = decide(*_accuracies(0, 0, 40), Budget(max_drop)).num_needed
    # The rule of three: (1 - max_drop)^n = 0.05.
    assert needed == ceil(log(0.05) / log(1 - max_drop))
    assert decide(*_accuracies(0, 0, needed), Budget(max_drop)).is_met is True
    assert decide(*_accuracies(0, 0, needed - 1), Budget(max_drop)).is_met == "undecided"


def test_the_images_needed_of_accuracy_are_those_of_its_losses_and_gains():
    verdict = decide(*_accuracies(8, 1, 100), Budget(0.05))
    assert verdict.is_met == "undecided"
    assert verdict.num_needed == images_to_decide(8, 1, 100, -0.05, 0.95)
    sure = decide(*_accuracies(8, 1, 100), Budget(0.05, confidence=0.99))
    assert sure.num_needed == images_to_decide(8, 1, 100, -0.05, 0.99)


def test_the_images_needed_of_other_scores_follow_the_rule_of_three():
    counts = torch.tensor([[50.0, 0], [0, 50]])
    evidence = ConfusionEvidence.of(counts.repeat(60, 1, 1))
    verdict = decide(evidence, evidence, Budget(0.02))
    assert verdict.is_met == "undecided"
    # 2 s / (1 + s) = 0.02 at s = 1 / 99, and (98 / 99)^295.08 = 0.05.
    assert verdict.num_needed == 296
    for count, is_met in ((295, "undecided"), (296, True)):
        more = ConfusionEvidence.of(counts.repeat(count, 1, 1))
        assert decide(more, more, Budget(0.02)).is_met == is_met


def test_undecided_says_how_many_images_would_decide(interval):
    interval(-0.2, 0.2)
    verdict = decide(Scored(0.9), Scored(0.9), Budget(0.1))
    # Of 0.2 the rule of three makes 0.0573 on 100 images and 0.0157 on 377; the rest falls to
    # 0.0367 * 100 / 377 = 0.00974 of its square, and 0.00974 + 0.0157^2 is just below 0.1^2.
    assert verdict.num_needed == 377


def test_scores_on_different_images_are_refused():
    with pytest.raises(ValueError, match="before has 100 images and after 99"):
        decide(Scored(0.9), Scored(0.9, 99), Budget())


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"max_drop": -0.01}, "budget.max_drop"),
        ({"max_drop": 1.5}, "budget.max_drop"),
        ({"confidence": 95}, "budget.confidence"),
        ({"confidence": 1}, "budget.confidence"),
        ({"confidence": 0.4}, "budget.confidence"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, float], name: str) -> None:
    with pytest.raises(BadInput, match=name):
        Budget(**values)


# What is known before anything is done to the network.


def test_images_that_cannot_decide_are_told_with_how_many_could():
    # 2 s / (1 + s) = 0.03 at s = 0.03 / 1.97, and (1 - s)^195.2 = 0.05; of 34 images it is 0.1556.
    line = foresee(Shown(34, (34, 20)), 0.03, 0.95, "test images")
    assert line is not None
    assert line.startswith(
        "34 test images are too few to rule out a loss above 3 points (at least 196 needed)"
    )
    assert "may still have lost 15.6 points" in line
    assert foresee(Shown(196, (196, 115)), 0.03, 0.95, "test images") is None
    assert foresee(Shown(195, (195, 115)), 0.03, 0.95, "test images") is not None


def test_accuracy_needs_the_images_of_the_exact_test():
    # 0.99^298 = 0.05002 and 0.99^299 = 0.04952.
    line = foresee(Shown(100, is_accuracy=True), 0.01, 0.95, "old test images")
    assert line is not None
    assert line.startswith(
        "100 old test images are too few to rule out a loss above 1 point (at least 299 needed)"
    )
    for count in (298, 299):
        is_met = decide(*_accuracies(0, 0, count), Budget(0.01)).is_met
        foreseen = foresee(Shown(count, is_accuracy=True), 0.01, 0.95, "images")
        assert (is_met is True) == (foreseen is None)


def test_a_rare_class_asks_for_images_that_show_it():
    # Of 1,000 images 4 show the second class. A share of 0.02 of those is a point of the mean:
    # 0.98^148.3 = 0.05, and one of 250 images is one: 37,071.
    shown = Shown(1000, (1000, 4))
    line = foresee(shown, 0.01, 0.95, "images")
    assert line is not None
    assert "(at least 37,071 needed)" in line
    assert shown.unseen(0.95) == pytest.approx((1 - 0.05**0.25) / 2)


def test_no_number_of_images_decides_that_nothing_at_all_is_lost():
    line = foresee(Shown(100), 0.0, 0.95, "images")
    assert line is not None
    assert "above 0 points (no number of them can)" in line


def test_a_verdict_tells_what_was_seen_from_what_was_not():
    good, worse = torch.tensor([[50.0, 0], [0, 50]]), torch.tensor([[40.0, 10], [0, 50]])
    before = ConfusionEvidence.of(torch.stack([good] * 60))
    after = ConfusionEvidence.of(torch.stack([good] * 40 + [worse] * 20))
    verdict = decide(before, after, Budget(0.02))
    share = 1 - 0.05 ** (1 / 60)
    assert verdict.unseen == pytest.approx(2 * share / (1 + share))
    assert verdict.sampling is not None
    centre = after.score() - before.score()
    for seen, end in zip(verdict.sampling, verdict.interval, strict=True):
        assert (end - centre) ** 2 == pytest.approx((seen - centre) ** 2 + verdict.unseen**2)
    # Nothing was seen to vary: all is caution.
    same = decide(before, before, Budget(0.02))
    assert same.sampling == (0, 0)
    assert same.interval == pytest.approx((-verdict.unseen, verdict.unseen))
    # The exact test has both in one.
    exact = decide(*_accuracies(0, 0, 100), Budget(0.02))
    assert exact.sampling is None
    assert exact.unseen == pytest.approx(-exact.interval[0], abs=1e-9)
