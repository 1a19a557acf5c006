"""Shapley values by Kernel SHAP: what each of a few players adds to a value.

Source: Lundberg and Lee, A unified approach to interpreting model predictions, NeurIPS 2017: the
Shapley values solve a weighted least-squares problem over coalitions. Coalitions come in pairs with
their complements, which halves the variance at least (Covert and Lee, Improving KernelSHAP, AISTATS
2021, 2012.01536); sizes that fit into the budget are taken whole.
"""

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np


@dataclass(frozen=True, slots=True)
class Design:
    """Coalitions to evaluate, and their weights: the same ones for every picture.

    Args:
        coalitions: Whether each player is in, bool (runs, players); neither all nor none of them.
        weights: The weight of each in the least squares, (runs,), summing to 1.
    """

    coalitions: np.ndarray
    weights: np.ndarray

    @property
    def num_players(self) -> int:
        """Return the number of players."""
        return int(self.coalitions.shape[1])


def design(num_players: int, num_runs: int, seed: int) -> Design:
    """Return coalitions for a budget; all of them where it suffices, and the values are exact then.

    Args:
        num_players: The number of players, at least 2.
        num_runs: Largest number of coalitions, besides all players and none.
        seed: What the coalitions drawn are a function of.

    Raises:
        ValueError: If there are too few players, or runs for every player alone and left out.
    """
    if num_players < 2 or num_runs < min(2 * num_players, 2**num_players - 2):
        raise ValueError(f"{num_runs} runs for {num_players} players, too few")
    sizes = list(range(1, num_players // 2 + 1))  # and their complements
    weights: dict[tuple[int, ...], float] = {}
    left = num_runs
    while sizes and left >= _num_coalitions(num_players, sizes[0]):
        size = sizes.pop(0)
        left -= _num_coalitions(num_players, size)
        each = _kernel(num_players, size) / comb(num_players, size)
        weights |= dict.fromkeys(combinations(range(num_players), size), each)
    found = _pairs(num_players, weights)
    if sizes:
        found |= _drawn(num_players, sizes, left // 2, np.random.default_rng(seed))
    coalitions = np.array([*found], dtype=bool)
    values = np.array([*found.values()])
    return Design(coalitions, values / values.sum())


Row = tuple[bool, ...]


def _num_coalitions(num_players: int, size: int) -> int:
    """Return the number of coalitions of a size and of their complements."""
    return comb(num_players, size) * (1 if 2 * size == num_players else 2)


def _kernel(num_players: int, size: int) -> float:
    """Return the weight of all coalitions of a size together, up to a factor."""
    return (num_players - 1) / (size * (num_players - size))


def _pairs(num_players: int, weights: dict[tuple[int, ...], float]) -> dict[Row, float]:
    found: dict[Row, float] = {}
    for members, weight in weights.items():
        row = tuple(player in members for player in range(num_players))
        found[row] = found[tuple(not own for own in row)] = weight
    return found


def _drawn(
    num_players: int, sizes: list[int], num_pairs: int, random: np.random.Generator
) -> dict[Row, float]:
    """Draw coalitions of some sizes with their complements; drawn twice, they weigh twice."""
    shares = np.array([_kernel(num_players, s) * (1 + (2 * s != num_players)) for s in sizes])
    found: dict[Row, float] = {}
    for size in random.choice(sizes, num_pairs, p=shares / shares.sum()):
        members = {*random.permutation(num_players)[:size].tolist()}
        row = tuple(player in members for player in range(num_players))
        for own in (row, tuple(not one for one in row)):
            found[own] = found.get(own, 0.0) + float(shares.sum()) / (2 * num_pairs)
    return found


def shapley_values(own: Design, values: np.ndarray, empty: float, full: float) -> np.ndarray:
    """Compute the Shapley value of each player, (players,); they sum to `full - empty`.

    Args:
        own: The coalitions.
        values: The value of each coalition, (runs,).
        empty: The value without any player.
        full: The value with all players.
    """
    players = own.coalitions.astype(np.float64)
    weighted = players * own.weights[:, None]
    normal, right = players.T @ weighted, weighted.T @ (values - empty)
    # The smallest weighted error under the constraint that the values sum to full - empty.
    free, ones = np.linalg.solve(normal, np.stack([right, np.ones(own.num_players)], axis=1)).T
    found: np.ndarray = free + ones * ((full - empty - free.sum()) / ones.sum())
    return found
