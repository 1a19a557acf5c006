"""Evidence is the recursion M <- L max(M, 1) of each bet, in one go or in parts."""

import itertools
import json
import math

import numpy as np
import pytest

from regrow.monitor.alarms.evidence import HEADROOM, Evidence


def _naive(factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Follow the recursion as it is written."""
    wealth, since = np.zeros(factors.shape[1]), np.zeros(factors.shape[1], dtype=int)
    means = []
    for step, factor in enumerate(factors):
        since[wealth <= 1] = step
        wealth = factor * np.maximum(wealth, 1)
        means.append(wealth.mean())
    return np.array(means), since


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("parts", [1, 2, 7, 400])
def test_it_is_the_recursion_in_any_number_of_parts(seed: int, parts: int) -> None:
    draw = np.random.default_rng(seed)
    factors = np.exp(draw.normal(-0.02, 0.3, (400, 5)))
    values, times = draw.random(400), np.arange(400.0) + 10
    expected, since = _naive(factors)
    own, found = Evidence.empty(5), []
    for places in np.array_split(np.arange(400), parts):
        found.append(own.add_(np.log(factors[places]), values[places], times[places]))
        # A restart of the process in between changes nothing.
        own = Evidence.from_list(json.loads(json.dumps(own.to_list())), 5)
    np.testing.assert_allclose(np.exp(np.concatenate(found)), expected, rtol=1e-9)
    np.testing.assert_array_equal(own.since, times[since])
    np.testing.assert_array_equal(own.count, 400 - since)
    np.testing.assert_allclose(own.total, [values[first:].sum() for first in since])
    np.testing.assert_allclose(own.squares, [(values[first:] ** 2).sum() for first in since])


def test_no_step_changes_nothing() -> None:
    own = Evidence.empty(3)
    assert own.add_(np.zeros((0, 3)), np.zeros(0), np.zeros(0)).shape == (0,)
    assert own.to_list() == Evidence.empty(3).to_list()


def test_the_mean_run_length_is_at_least_the_level() -> None:
    """Factors of mean 1, two bets, level 50: no false alarm before 50 steps in the mean."""
    draw, lengths = np.random.default_rng(0), []
    for _ in range(400):
        own, steps = Evidence.empty(2), 0
        while True:
            coins = draw.choice([-1.0, 1.0], 200)
            factors = np.log1p(np.stack([0.5 * coins, 0.2 * coins], axis=1))
            logs = own.add_(factors, coins, np.arange(200.0))
            over = np.flatnonzero(logs >= math.log(50))
            if len(over):
                lengths.append(steps + over[0] + 1)
                break
            steps += 200
    assert np.mean(lengths) > 50


def test_evidence_that_begins_anew_reaches_a_level_by_steps_over_level_at_most() -> None:
    """All 2^12 ways of 12 fair coins: P(some step reaches A) <= 12 / A, whatever A.

    The wealth is at most S <- L (S + 1), and the mean of S after t steps is t. So S stopped at the
    level or after N steps has the mean N at most, and Markov's inequality gives N / A.
    """
    peaks = []
    for coins in itertools.product([-1.0, 1.0], repeat=12):
        own = np.array(coins)
        factors = np.log1p(np.stack([0.9 * own, 0.4 * own, -0.4 * own], axis=1))
        peaks.append(Evidence.empty(3).add_(factors, own, np.arange(12.0)).max())
    levels = np.array([13, 16, 24, 50, 100, 200, 400, 600])
    shares = (np.array(peaks)[:, None] >= np.log(levels)).mean(axis=0)
    assert (shares <= 12 / levels).all()
    assert (shares > 0).all(), "a level that nothing reaches says nothing"


def test_wealth_is_limited_so_that_alarms_end() -> None:
    own = Evidence.empty(1)
    own.add_(np.full((1000, 1), 1.0), np.zeros(1000), np.zeros(1000))
    assert own.log_wealth[0] == pytest.approx(1000)
    own.limit_(5.0)
    assert own.log_wealth[0] == 5 + HEADROOM


@pytest.mark.parametrize(
    "content", [[], [[1.0]] * 5, [[1.0, 2.0]] * 4, [[math.nan, 1.0]] * 5, [["x", 1.0]] * 5]
)
def test_other_data_is_refused(content: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="evidence|convert"):
        Evidence.from_list(content, 2)
