"""Kernel SHAP gives the Shapley values: exactly where all coalitions are evaluated, else nearly."""

from collections.abc import Callable
from itertools import combinations
from math import factorial

import numpy as np
import pytest

from regrow.monitor.network.shapley import Design, design, shapley_values


def _exact(num_players: int, value: Callable[[np.ndarray], float]) -> np.ndarray:
    """Return the Shapley values by their definition: the mean over all orders."""
    found = np.zeros(num_players)
    for player in range(num_players):
        others = [other for other in range(num_players) if other != player]
        for size in range(num_players):
            weight = factorial(size) * factorial(num_players - size - 1) / factorial(num_players)
            for members in combinations(others, size):
                row = np.isin(np.arange(num_players), members)
                without = value(row)
                row[player] = True
                found[player] += weight * (value(row) - without)
    return found


def _game(num_players: int, seed: int) -> Callable[[np.ndarray], float]:
    """Return a game in which every coalition has a value of its own."""
    values = np.random.default_rng(seed).normal(size=2**num_players)
    return lambda row: float(values[int(row @ (1 << np.arange(num_players)))])


def _estimate(own: Design, value: Callable[[np.ndarray], float]) -> np.ndarray:
    none, everyone = np.zeros(own.num_players, bool), np.ones(own.num_players, bool)
    values = np.array([value(row) for row in own.coalitions])
    return shapley_values(own, values, value(none), value(everyone))


@pytest.mark.parametrize("num_players", [2, 3, 4, 5, 6])
def test_all_coalitions_give_the_shapley_values_exactly(num_players: int) -> None:
    own = design(num_players, 2**num_players - 2, seed=0)
    assert len({tuple(row) for row in own.coalitions}) == 2**num_players - 2
    value = _game(num_players, seed=num_players)
    np.testing.assert_allclose(_estimate(own, value), _exact(num_players, value), atol=1e-12)


def test_a_game_worked_by_hand() -> None:
    """A glove game: one left glove, two right ones; a pair is worth 1."""
    own = design(3, 6, seed=0)
    found = _estimate(own, lambda row: float(row[0] and (row[1] or row[2])))
    np.testing.assert_allclose(found, [2 / 3, 1 / 6, 1 / 6], atol=1e-12)


@pytest.mark.parametrize("num_runs", [32, 33, 64, 200, 300])
def test_a_budget_gives_additive_games_exactly_and_values_that_add_up(num_runs: int) -> None:
    own = design(16, num_runs, seed=3)
    assert num_runs - 8 <= len(own.coalitions) <= num_runs
    assert own.weights.sum() == pytest.approx(1)
    additive = np.random.default_rng(0).normal(size=16)
    np.testing.assert_allclose(_estimate(own, lambda row: float(row @ additive)), additive)
    value = _game(16, seed=1)
    whole = value(np.ones(16, bool)) - value(np.zeros(16, bool))
    assert _estimate(own, value).sum() == pytest.approx(whole)


def test_coalitions_come_with_their_complements_and_every_player_alone() -> None:
    own = design(16, 200, seed=3)
    rows = {tuple(row) for row in own.coalitions.tolist()}
    assert {tuple(not one for one in row) for row in rows} == rows
    assert {tuple(row) for row in np.eye(16, dtype=bool).tolist()} <= rows
    assert {sum(row) for row in rows} == set(range(1, 16))
    np.testing.assert_array_equal(design(16, 200, seed=3).coalitions, own.coalitions)
    assert not np.array_equal(design(16, 200, seed=4).coalitions, own.coalitions)


def test_a_larger_budget_comes_nearer() -> None:
    """Pairs of players that only count together: the value of each is half of its pair's."""
    pairs = np.random.default_rng(2).normal(size=8)

    def value(row: np.ndarray) -> float:
        return float((row[::2] & row[1::2]) @ pairs)

    wanted = np.repeat(pairs / 2, 2)
    errors = [
        np.mean([np.abs(_estimate(design(16, n, s), value) - wanted).mean() for s in range(10)])
        for n in (64, 200, 1000)
    ]
    # Interactions of two cancel in pairs of coalitions: there only rounding is left.
    assert max(errors) < 1e-9

    def steep(row: np.ndarray) -> float:
        return float(np.tanh(row[::2] @ pairs * (row[1::2].mean() + 0.2)))

    large = [
        np.mean([np.abs(_estimate(design(16, n, s), steep) - exact).mean() for s in range(10)])
        for exact in [_estimate(design(16, 20_000, 99), steep)]
        for n in (64, 200, 1000)
    ]
    assert large[0] > large[1] > large[2]


@pytest.mark.parametrize(("num_players", "num_runs"), [(1, 10), (16, 31), (3, 5)])
def test_too_small_a_budget_is_refused(num_players: int, num_runs: int) -> None:
    with pytest.raises(ValueError, match="too few"):
        design(num_players, num_runs, seed=0)
