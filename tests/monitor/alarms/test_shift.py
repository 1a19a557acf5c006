"""The warning: legal bets, the study's delays, and no alarm where nothing has changed."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import kstest, rankdata

from regrow.monitor.alarms.shift import (
    BETS,
    NUM_BETS,
    ShiftDetector,
    by_block,
    log_factors,
    rank_error,
    ranks,
    spread_error,
)


def _delay(reference: np.ndarray, scores: np.ndarray, seed: int, level: float = 1e6) -> float:
    u = ranks(np.sort(reference), scores, np.random.default_rng(seed).random(len(scores)))
    logs = ShiftDetector(len(reference)).add_(u, np.arange(len(u), dtype=float))
    over = np.flatnonzero(logs >= math.log(level))
    return float(over[0] + 1) if len(over) else math.inf


def test_ranks_are_uniform_whatever_the_ties() -> None:
    draw = np.random.default_rng(0)
    for sample in (draw.standard_normal, lambda n: draw.integers(0, 3, n), np.ones):
        reference = np.sort(np.asarray(sample(4000), dtype=float))
        found = ranks(reference, np.asarray(sample(4000), dtype=float), draw.random(4000))
        assert kstest(found, "uniform").pvalue > 0.001
        assert 0 <= found.min() <= found.max() < 1


def test_ranks_are_those_of_scipy() -> None:
    draw = np.random.default_rng(1)
    reference, scores = np.sort(draw.integers(0, 9, 30)), draw.integers(0, 9, 20)
    for score in scores:
        # The last of equal values: the middle rank and half of the ties.
        joined = rankdata([*reference, score], "max")[-1], rankdata([*reference, score], "min")[-1]
        low = ranks(reference, np.array([score]), np.array([0.0]))[0] * 31
        high = ranks(reference, np.array([score]), np.array([1.0]))[0] * 31
        assert (low, high) == (pytest.approx(joined[1] - 1), pytest.approx(joined[0]))


def test_the_formula_is_followed_step_by_step() -> None:
    u, n = np.array([0.1, 0.9, 0.5]), 2000
    factors = np.exp(log_factors(u, n))
    assert factors.shape == (3, NUM_BETS)
    assert sorted({abs(b) for b in BETS}) == [0.06, 0.12, 0.25, 0.5, 1.0, 1.9]
    for place, bet in enumerate(BETS):
        expected = (1 + bet * (u - 0.5)) / (1 + abs(bet) * rank_error(n))
        np.testing.assert_allclose(factors[:, place], expected)
        wide = (1 + bet * (abs(2 * u - 1) - 0.5)) / (1 + abs(bet) * spread_error(n))
        np.testing.assert_allclose(factors[:, len(BETS) + place], wide)


def _means(reference: np.ndarray, values: np.ndarray, shares: np.ndarray) -> tuple[float, float]:
    """Return the means of u and of |2u - 1| over new scores, exactly.

    Args:
        reference: The scores of the reference.
        values: What scores there are, ascending.
        shares: The probability of each.
    """
    ends = np.searchsorted(np.sort(reference), [values, values], side="left")
    ends[1] = np.searchsorted(np.sort(reference), values, side="right")
    low, high = ends[0] / (len(reference) + 1), (ends[1] + 1) / (len(reference) + 1)
    # u is uniform on [low, high]; (2x - 1) |2x - 1| / 4 is an integral of |2x - 1|.
    ends = 2 * np.array([low, high]) - 1
    wide = np.diff(ends * np.abs(ends) / 4, axis=0)[0] / (high - low)
    return float(shares @ (low + high) / 2), float(shares @ wide)


@pytest.mark.parametrize("n", [30, 500])
@pytest.mark.parametrize("num_values", [2, 3, 10, 2000])
def test_references_are_off_by_no_more_than_is_paid_for(n: int, num_values: int) -> None:
    """The bounds must hold for 99.5 % of the references, with any ties; here they do for all."""
    draw, values = np.random.default_rng([n, num_values]), np.arange(num_values)
    off = []
    for _ in range(400):
        shares = draw.dirichlet(np.ones(num_values))
        reference = draw.choice(values, n, p=shares)
        off.append(_means(reference, values, shares))
    errors = np.abs(np.array(off) - 0.5).max(axis=0)
    assert errors[0] < rank_error(n)
    assert errors[1] < spread_error(n)


@pytest.mark.parametrize("n", [30, 500, 5000])
def test_the_bounds_are_those_of_uniform_numbers(n: int) -> None:
    """Without ties the mean rank is off as a mean of n uniform numbers is: 1 / (12 n) squared."""
    draw, standard = np.random.default_rng(n), 1 / math.sqrt(12 * n)
    off = np.array([draw.random(n).mean() for _ in range(4000)]) - 0.5
    assert off.std() == pytest.approx(standard, rel=0.05)
    # Three inequalities share the probability: P(|x| > 3.14 sd) = DELTA / 3 of a normal mean.
    assert 3.14 < rank_error(n) / standard < 3.14 * 1.25
    # The spread is off likewise, and by what vanishes as 1 / n.
    assert rank_error(n) < spread_error(n) < rank_error(n) + 12 / n


@pytest.mark.parametrize("n", [30, 500])
def test_no_bet_gains_while_nothing_has_changed(n: int) -> None:
    draw, grid, gains = np.random.default_rng(n), (np.arange(4000) + 0.5) / 4000, 0
    for _ in range(60):
        u = ranks(np.sort(draw.random(n)), grid, draw.random(4000))
        gains += np.exp(log_factors(u, n)).mean(axis=0).max() > 1 + 1e-3
    assert gains == 0


def test_clean_streams_give_no_alarm_and_shifts_the_study_s_delays() -> None:
    """The study's medians, with wider bounds, are 1,902, 282 and 58 images; 0 of 40 streams."""
    draw = np.random.default_rng(0)
    delays: dict[float, list[float]] = {0: [], 0.25: [], 0.5: [], 1: []}
    for seed in range(12):
        reference = draw.standard_normal(2000)
        for shift, found in delays.items():
            length = 20_000 if not shift else 3000
            found.append(_delay(reference, shift + draw.standard_normal(length), seed))
    assert delays[0] == [math.inf] * 12
    assert np.median(delays[0.25]) < 1902
    assert 282 / 1.4 < np.median(delays[0.5]) < 282 * 1.1
    assert 58 / 1.4 < np.median(delays[1]) < 58 * 1.2


COLUMNS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "constant": lambda draw, n: np.full(n, 0.3),
    "two values": lambda draw, n: draw.integers(0, 2, n),
    "a rare value": lambda draw, n: draw.random(n) < 0.01,
    "whole numbers": lambda draw, n: draw.poisson(2, n),
    "often 0": lambda draw, n: np.maximum(draw.standard_normal(n), 0),
    "heavy tails": lambda draw, n: draw.standard_cauchy(n) * 1e300,
    "normal": lambda draw, n: draw.standard_normal(n),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_one_half_of_a_reference_gives_no_alarm_beside_the_other(column: str) -> None:
    """Whatever the ties; and no number of the state or the effect is NaN."""
    draw, alarms = np.random.default_rng(0), 0
    for _ in range(40):
        values = COLUMNS[column](draw, 1000).astype(np.float64)
        halves = draw.permutation(values).reshape(2, 500)
        detector = ShiftDetector(500)
        logs = detector.add_(
            ranks(np.sort(halves[0]), halves[1], draw.random(500)), np.arange(500.0)
        )
        alarms += bool((logs >= math.log(1e4)).any())
        effect = detector.effect()
        assert effect is not None
        assert np.isfinite(
            [effect.auc, *effect.interval, *np.ravel(detector.evidence.to_list())]
        ).all()
    assert alarms == 0


def test_forty_clean_streams_of_many_scores_give_no_alarm() -> None:
    """Every score of a stream shares the level; the reference of each stream is another one."""
    draw, alarms = np.random.default_rng(0), 0
    for _ in range(40):
        for make in COLUMNS.values():
            reference = np.sort(make(draw, 500).astype(np.float64))
            u = ranks(reference, make(draw, 2000).astype(np.float64), draw.random(2000))
            logs = ShiftDetector(500).add_(u, np.arange(2000.0))
            alarms += bool((logs >= math.log(1e4 * len(COLUMNS))).any())
    assert alarms == 0


def test_a_change_of_spread_alone_is_found() -> None:
    draw = np.random.default_rng(0)
    reference = draw.standard_normal(2000)
    assert _delay(reference, 2 * draw.standard_normal(3000), 0) < 1000
    assert _delay(reference, 0.3 * draw.standard_normal(3000), 0) < 1000


def test_constant_scores_give_no_alarm_until_they_change() -> None:
    assert _delay(np.ones(500), np.ones(20_000), 0) == math.inf
    assert _delay(np.ones(500), np.zeros(300), 0) < 100


def test_the_effect_is_the_area_under_the_curve() -> None:
    draw = np.random.default_rng(3)
    reference, scores = np.sort(draw.standard_normal(2000)), 1 + draw.standard_normal(1000)
    detector = ShiftDetector(2000)
    assert detector.effect() is None
    times = np.arange(1000.0) + 50
    detector.add_(ranks(reference, scores, draw.random(1000)), times)
    effect = detector.effect()
    assert effect is not None
    assert effect.auc == pytest.approx((scores[:, None] > reference).mean(), abs=0.02)
    assert effect.interval[0] < 0.7602 < effect.interval[1]  # Phi(1 / sqrt 2)
    assert effect.count > 900
    assert not detector.is_of_spread
    # Within a few steps of the change.
    assert detector.evidence.since[detector.evidence.strongest] < 80


def test_blocks_are_means_in_the_order_in_which_they_end() -> None:
    u, times = np.array([0.1, 0.9, 0.3, 0.5]), np.arange(4.0)
    means, ends, spreads = by_block(u, times, ["a", "b", "a", "c"])
    np.testing.assert_allclose(means, [0.9, 0.2, 0.5])
    np.testing.assert_allclose(ends, [1, 2, 3])
    np.testing.assert_allclose(spreads, [0.8, (0.8 + 0.4) / 2, 0])
    assert [len(part) for part in by_block(u[:0], times[:0], [])] == [0, 0, 0]


def test_frames_of_one_video_count_once() -> None:
    """100 equal frames of each of 40 videos: without blocks that alarms, with them it must not."""
    draw, false = np.random.default_rng(0), {"frames": 0, "videos": 0}
    for _ in range(10):
        reference = np.sort(draw.standard_normal(500))
        u = ranks(reference, np.repeat(draw.standard_normal(40), 100), draw.random(4000))
        names = np.repeat(np.arange(40), 100).astype(str)
        for name in false:
            detector = ShiftDetector(500)
            if name == "frames":
                logs = detector.add_(u, np.arange(4000.0))
            else:
                means, ends, spreads = by_block(u, np.arange(4000.0), names.tolist())
                logs = detector.add_(means, ends, spreads)
            false[name] += bool((logs >= math.log(1e4)).any())
    assert false == {"frames": 10, "videos": 0}
