"""The multiple-choice knapsack problem, and the minimax choice: one width for each layer."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from math import inf
from typing import NamedTuple

# States of the dynamic program that are kept besides each other; up to so many it is exact.
MOST_STATES = 2048


class _State(NamedTuple):
    cost: tuple[float, ...]
    value: float
    choices: tuple[int, ...]


def knapsack(
    values: Sequence[Sequence[float]],
    costs: Sequence[Sequence[Sequence[float]]],
    ceilings: Sequence[float],
    most_states: int = MOST_STATES,
) -> list[int] | None:
    """Choose one option of each class, so that the values' sum is least under ceilings of costs.

    Dynamic programming over classes that keeps the states no other one beats in value and all
    costs (Kellerer, Pferschy and Pisinger, Knapsack Problems, 2004, chapter 11). Where these are
    too many, only the best of each small range of costs goes on, whose own costs still count.

    Args:
        values: For each class the value of each option.
        costs: For each class and option one cost for each ceiling.
        ceilings: The largest accepted sum of each cost.
        most_states: How many states are kept; more take longer, and leave fewer out.

    Returns:
        The place of the chosen option of each class; None if no choice is under all ceilings.
    """
    kinds = range(len(ceilings))
    # What the classes that are still to come cost at least.
    rest = [[0.0] * len(ceilings)]
    for options in reversed(costs):
        rest.append([rest[-1][kind] + min(c[kind] for c in options) for kind in kinds])
    rest.reverse()
    states = [_State((0.0,) * len(ceilings), 0.0, ())]
    for place, (own_values, own_costs) in enumerate(zip(values, costs, strict=True)):
        limits = [ceilings[kind] - rest[place + 1][kind] for kind in kinds]
        longer = [
            _State(
                tuple(a + b for a, b in zip(state.cost, cost, strict=True)),
                state.value + value,
                (*state.choices, option),
            )
            for state in states
            for option, (value, cost) in enumerate(zip(own_values, own_costs, strict=True))
        ]
        # Costs are sums of floats, whose last bits depend on their order.
        fitting = [
            s for s in longer if all(s.cost[k] <= limits[k] + 1e-9 * abs(limits[k]) for k in kinds)
        ]
        states = _thinned(_unbeaten(fitting), ceilings[0], most_states)
        if not states:
            return None
    return list(min(states, key=lambda state: (state.value, state.choices)).choices)


def _unbeaten(states: list[_State]) -> list[_State]:
    """Return the states that no other one beats in value and all costs, by their first cost."""
    kept: list[_State] = []
    least = inf
    for state in sorted(states, key=lambda s: (s.cost, s.value, s.choices)):
        if len(state.cost) == 1:
            if state.value < least:
                kept.append(state)
                least = state.value
        elif not any(
            o.value <= state.value and all(a <= b for a, b in zip(o.cost, state.cost, strict=True))
            for o in kept
        ):
            kept.append(state)
    return kept


def _thinned(states: list[_State], ceiling: float, most: int) -> list[_State]:
    if len(states) <= most:
        return states
    best: dict[int, _State] = {}
    for state in states:
        place = int(most * state.cost[0] / ceiling) if ceiling > 0 else 0
        if place not in best or state.value < best[place].value:
            best[place] = state
    return list(best.values())


def minimax(
    drops: Sequence[Sequence[float]], is_enough: Callable[[list[int]], bool]
) -> list[int] | None:
    """Choose the options of least cost under the smallest common limit of the drop.

    It is what FastNAS of NVIDIA ModelOpt searches for: the largest drop of a single layer is least.

    Args:
        drops: For each class the drop of each option, ascending; later options cost less.
        is_enough: Whether a choice is under all ceilings.

    Returns:
        The place of the chosen option of each class; None if even the last ones are not enough.
    """
    limits = sorted({drop for own in drops for drop in own})

    def choice(limit: float) -> list[int]:
        return [max(k for k, drop in enumerate(own) if k == 0 or drop <= limit) for own in drops]

    place = bisect_left(limits, True, key=lambda limit: is_enough(choice(limit)))
    return choice(limits[place]) if place < len(limits) else None
