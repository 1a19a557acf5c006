from dataclasses import dataclass

import pytest
import torch

from regrow.data.errors import BadInput
from regrow.models.evidence import CorrectEvidence
from regrow.prune import budget as module
from regrow.prune.budget import Budget, decide, images_needed


@dataclass
class Scored:
    value: float
    num_images: int = 100

    def score(self) -> float:
        return self.value


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
    assert images_needed(-0.02, 0.02, 0.0, -0.01, 100) == 400
    # The same from below: the high end has to sink under the limit.
    assert images_needed(-0.04, 0.0, -0.02, -0.01, 100) == 400


def test_a_difference_on_the_limit_is_decided_by_no_number_of_images():
    assert images_needed(-0.03, 0.01, -0.01, -0.01, 100) is None
    assert images_needed(-1, 1, float("nan"), -0.01, 100) is None


def test_more_images_are_needed_than_there_are():
    assert images_needed(-0.0100001, 0.02, 0.0, -0.01, 100) == 101
    # The high end lies on the limit: one image more at least.
    assert images_needed(-0.05, -0.01, -0.03, -0.01, 100) == 101


def test_the_confidence_is_that_of_the_budget():
    before, after = torch.ones(200, dtype=torch.bool), torch.ones(200, dtype=torch.bool)
    after[:4] = False
    pair = []
    for flags in (before, after):
        evidence = CorrectEvidence()
        evidence.update(torch.eye(2)[1 - flags.long()], torch.zeros(200, dtype=torch.long))
        pair.append(evidence)
    # By hand: 5/202 - 1/202 lost, deviation ((6 - 16/202) / 202**2)**0.5 = 0.012045.
    sure = decide(*pair, Budget(0.04, confidence=0.99))
    assert sure.interval[0] == pytest.approx(-4 / 202 - 2.575829 * 0.012045, abs=1e-5)
    assert sure.is_met == "undecided"
    assert decide(*pair, Budget(0.04, confidence=0.8)).is_met is True


def test_undecided_says_how_many_images_would_decide(interval):
    interval(-0.02, 0.02)
    verdict = decide(Scored(0.9), Scored(0.9), Budget(0.01))
    assert verdict.num_needed == 400


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
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, float], name: str) -> None:
    with pytest.raises(BadInput, match=name):
        Budget(**values)
