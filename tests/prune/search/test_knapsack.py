import itertools
import random

import pytest

from regrow.prune.search.knapsack import knapsack, minimax


def instance(seed: int, kinds: int, classes: int = 5, is_whole: bool = False):
    rng = random.Random(seed)
    draw = (lambda: float(rng.randint(0, 9))) if is_whole else rng.random
    sizes = [rng.randint(1, 4) for _ in range(classes)]
    values = [[draw() for _ in range(size)] for size in sizes]
    costs = [[[draw() for _ in range(kinds)] for _ in range(size)] for size in sizes]
    # From what nobody can reach to what everything is under.
    most = [sum(max(c[k] for c in own) for own in costs) for k in range(kinds)]
    share = rng.uniform(0, 1)
    return values, costs, [share * total for total in most]


def brute_force(values, costs, ceilings) -> float | None:
    """Return the least value of all choices that are under the ceilings."""
    found = []
    for choice in itertools.product(*(range(len(own)) for own in values)):
        picked = [own[k] for own, k in zip(costs, choice, strict=True)]
        if all(sum(c[i] for c in picked) <= ceiling for i, ceiling in enumerate(ceilings)):
            found.append(sum(own[k] for own, k in zip(values, choice, strict=True)))
    return min(found, default=None)


@pytest.mark.parametrize("kinds", [1, 2, 3])
@pytest.mark.parametrize("is_whole", [False, True])
def test_the_knapsack_by_brute_force(kinds, is_whole):
    answers = []
    for seed in range(60):
        values, costs, ceilings = instance(seed, kinds, is_whole=is_whole)
        best = brute_force(values, costs, ceilings)
        answers.append(best)
        choice = knapsack(values, costs, ceilings)
        if best is None:
            assert choice is None
            continue
        assert choice is not None
        picked = [own[k] for own, k in zip(costs, choice, strict=True)]
        for kind, ceiling in enumerate(ceilings):
            assert sum(cost[kind] for cost in picked) <= ceiling + 1e-9
        value = sum(own[k] for own, k in zip(values, choice, strict=True))
        assert value == pytest.approx(best)
    assert None in answers
    assert len(set(answers)) > 10


def test_a_knapsack_of_few_states_stays_under_the_ceiling_and_near_the_best():
    for seed in range(20):
        values, costs, ceilings = instance(seed, 1, classes=7)
        best = brute_force(values, costs, ceilings)
        choice = knapsack(values, costs, ceilings, most_states=40)
        if choice is None:
            continue
        spent = sum(own[k][0] for own, k in zip(costs, choice, strict=True))
        assert spent <= ceilings[0] + 1e-9
        value = sum(own[k] for own, k in zip(values, choice, strict=True))
        assert best <= value + 1e-9
        assert value <= best + 0.25


@pytest.mark.parametrize("seed", range(20))
def test_the_minimax_by_brute_force(seed):
    rng = random.Random(seed)
    sizes = [rng.randint(1, 5) for _ in range(4)]
    drops = [[0.0, *sorted(rng.random() for _ in range(size - 1))] for size in sizes]
    costs = [sorted((rng.random() for _ in range(size)), reverse=True) for size in sizes]
    ceiling = rng.uniform(0.2, 1) * sum(own[0] for own in costs)

    def is_enough(choice) -> bool:
        return sum(own[k] for own, k in zip(costs, choice, strict=True)) <= ceiling

    choices = [c for c in itertools.product(*(range(s) for s in sizes)) if is_enough(c)]
    found = minimax(drops, is_enough)
    if not choices:
        assert found is None
        return
    worst = [max(own[k] for own, k in zip(drops, c, strict=True)) for c in choices]
    assert is_enough(found)
    assert max(own[k] for own, k in zip(drops, found, strict=True)) == min(worst)
