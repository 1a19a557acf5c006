"""The alarm on labelled loss: exact bounds, legal bets under sampling, the study's delays."""

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from regrow.errors import BadInput
from regrow.monitor.alarms.risk import (
    STAKES,
    RiskDetector,
    clopper_pearson,
    level,
    promise,
    proportion_interval,
)


@pytest.mark.parametrize(("count", "total"), [(0, 10), (3, 40), (40, 40), (100, 2000)])
def test_the_bound_is_exact(count: int, total: int) -> None:
    bound = clopper_pearson(count, total, 0.995)
    if count < total:
        assert binom.cdf(count, total, bound) == pytest.approx(0.005)
    expected = binomtest(count, total).proportion_ci(0.95, "exact")
    assert proportion_interval(count, total) == pytest.approx((expected.low, expected.high))


def test_no_trials_leave_everything_open() -> None:
    assert proportion_interval(0, 0) == (0, 1)


def test_a_promise_is_the_bound_and_the_tolerance() -> None:
    losses = np.repeat([1.0, 0.0], [100, 1900])
    made = promise(losses, np.random.default_rng(0).random(2000), tolerance=0.02)
    assert made.risk == 0.05
    assert made.limit == pytest.approx(clopper_pearson(100, 2000, 0.995) + 0.02)
    assert promise(np.ones(3), np.zeros(3)).limit == 1


def test_the_bound_holds_for_losses_between_0_and_1() -> None:
    draw, over = np.random.default_rng(0), 0
    for _ in range(400):
        losses = draw.beta(1, 4, 100)  # of mean 1/5
        over += promise(losses, draw.random(100), tolerance=0.0).limit < 0.2
    assert over <= 8  # 400 times .005 is 2


@pytest.mark.parametrize("losses", [[], [0.5, 1.2], [-0.1], [math.nan]])
def test_what_is_no_loss_is_refused(losses: list[float]) -> None:
    with pytest.raises(BadInput, match="losses of the reference"):
        promise(np.array(losses), np.zeros(len(losses)))


def _delay(limit: float, risk: float, draw: np.random.Generator, length: int = 20_000) -> float:
    losses = (draw.random(length) < risk).astype(float)
    logs = RiskDetector(limit).add_(losses, np.arange(length, dtype=float))
    over = np.flatnonzero(logs >= math.log(1e5))
    return float(over[0] + 1) if len(over) else math.inf


def test_the_study_s_delays() -> None:
    """Risk .05 before, 2,000 labels, tolerance .02: to .15 after 494 labels, to .25 after 87."""
    draw, found = np.random.default_rng(0), {0.05: [], 0.15: [], 0.25: []}
    for _ in range(30):
        reference = (draw.random(2000) < 0.05).astype(float)
        limit = promise(reference, draw.random(2000)).limit
        for risk, delays in found.items():
            delays.append(_delay(limit, risk, draw))
    assert sum(map(math.isfinite, found[0.05])) <= 1
    assert 494 / 1.4 < np.median(found[0.15]) < 494 * 1.4
    assert 87 / 1.4 < np.median(found[0.25]) < 87 * 1.4


def test_labels_that_were_sampled_unevenly_do_not_mislead() -> None:
    """Hard pictures are labelled far more often; the risk of all stays what was promised."""
    draw, alarms = np.random.default_rng(0), {"honest": 0, "naive": 0}
    for _ in range(20):
        sampled, naive = RiskDetector(0.12), RiskDetector(0.12)
        for hour in range(50):
            hard = draw.random(200) < 0.2
            losses = (draw.random(200) < np.where(hard, 0.4, 0.025)).astype(float)  # mean .1
            probabilities = np.where(hard, 0.5, 0.05)
            is_labelled = draw.random(200) < probabilities
            mine, p = losses[is_labelled], probabilities[is_labelled]
            logs = sampled.add_sampled_(mine / p, 200, float(hour))
            alarms["honest"] += logs[0] >= math.log(1e5)
            logs = naive.add_(mine, np.full(len(mine), float(hour)))
            alarms["naive"] += logs.max(initial=0) >= math.log(1e5)
    assert alarms["honest"] == 0
    assert alarms["naive"] > 0


def test_an_hour_of_samples_is_the_product_over_its_pictures() -> None:
    detector = RiskDetector(0.1)
    logs = detector.add_sampled_(np.array([1 / 0.5, 0 / 0.2]), 10, 7.0)
    bets = STAKES / 0.1
    expected = [(1 + b * (2 - 0.1)) * (1 - b * 0.1) ** 9 for b in bets]
    assert logs[0] == pytest.approx(math.log(np.mean(expected)))
    assert detector.risk() == pytest.approx(0.2)


def test_a_risk_above_the_limit_is_found_by_samples() -> None:
    draw, detector = np.random.default_rng(0), RiskDetector(0.08)
    logs = []
    for hour in range(100):
        losses = (draw.random(100) < 0.4).astype(float)
        is_labelled = draw.random(100) < 0.3
        p = np.full(is_labelled.sum(), 0.3)
        logs += detector.add_sampled_(losses[is_labelled] / p, 100, float(hour)).tolist()
    assert max(logs) > math.log(1e5)
    assert detector.risk() == pytest.approx(0.4, abs=0.05)


def test_the_level_is_shared_by_detectors() -> None:
    assert level(1000, 5) == pytest.approx(math.log(5000))
    assert level(0.1, 0) == 0
    assert RiskDetector(0.5).risk() is None
