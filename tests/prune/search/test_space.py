import itertools
import random

import pytest

from regrow.prune.channels.surgery import clone, cut_
from regrow.prune.cost_model import costs_of


def everything(space):
    return [counts for counts in itertools.product(*space.ladders) if space.fits(counts)]


@pytest.mark.parametrize("name", ["residual", "plain", "concat", "depthwise"])
def test_costs_are_those_of_the_cut_network(make_space, name):
    space = make_space(name)
    rng = random.Random(1)
    for _ in range(5):
        counts = tuple(rng.choice(ladder) for ladder in space.ladders)
        cut = clone(space.chooser.task)
        cut_(cut, space.plan(counts))
        assert space.costs(counts) == {"macs": costs_of(cut)["macs"]}


def test_widths_stay_legal(make_space):
    space = make_space(round_to=2)
    # Two channels at least, a fifth of each layer at least, even widths.
    for group, ladder in zip(space.chooser.groups, space.ladders, strict=True):
        left = [group.width - count for count in ladder]
        assert left == sorted(left, reverse=True)
        assert all(width % 2 == 0 and width >= 0.2 * group.width for width in left)
        assert left[0] == group.width
        assert left[-1] < 0.2 * group.width + 2


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("name", ["residual", "plain", "concat"])
def test_the_minimax_choice_by_brute_force(make_space, name, share):
    space = make_space(name, share)
    rng = random.Random(2)
    drops = [
        dict(zip(ladder, sorted([0.0, *(rng.random() for _ in ladder[1:])]), strict=True))
        for ladder in space.ladders
    ]
    found = space.minimax(drops)
    worst = min(
        max(own[n] for own, n in zip(drops, counts, strict=True)) for counts in everything(space)
    )
    assert space.fits(found)
    assert max(own[n] for own, n in zip(drops, found, strict=True)) == worst


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("name", ["residual", "plain", "concat"])
def test_the_knapsack_is_near_the_best_where_widths_multiply(make_space, name, share):
    space = make_space(name, share)
    rng = random.Random(3)
    drops = [
        dict(zip(ladder, sorted([0.0, *(rng.random() for _ in ladder[1:])]), strict=True))
        for ladder in space.ladders
    ]

    def total(counts) -> float:
        return sum(own[n] for own, n in zip(drops, counts, strict=True))

    found = space.knapsack(drops)
    assert space.fits(found)
    values = sorted(total(counts) for counts in everything(space))
    # Among the best tenth of all choices, and nothing more can be given back.
    assert total(found) <= values[len(values) // 10]
    assert found == space.filled(found, range(len(found)))


def test_choices_use_up_what_the_ceilings_leave(make_space):
    space = make_space("deep")
    rng = random.Random(4)
    choices = [space.ranking(), space.uniform()]
    choices += [space.mutated(choices[0], rng) for _ in range(20)]
    assert len(set(choices)) > 5
    for counts in choices:
        assert space.fits(counts)
        for group, ladder in enumerate(space.ladders):
            place = ladder.index(counts[group])
            if place:
                fewer = [*counts]
                fewer[group] = ladder[place - 1]
                assert not space.fits(tuple(fewer))


def test_the_uniform_choice_takes_like_shares(make_space):
    space = make_space("plain", 0.4)
    counts = space.uniform()
    pairs = zip(counts, space.chooser.groups, strict=True)
    shares = [count / group.num_units for count, group in pairs]
    assert max(shares) - min(shares) <= 0.25


def test_ceilings_out_of_reach_have_no_choice(make_space):
    space = make_space(macs=1.0)
    drops = [{n: float(n) for n in ladder} for ladder in space.ladders]
    assert space.minimax(drops) is None
    assert space.knapsack(drops) is None
    assert space.uniform() is None
    assert space.ranking() is None
    assert space.mutated(space.whole, random.Random(0)) is None


def test_measured_times_add_up_and_are_corrected(make_space):
    space = make_space("plain", macs=1e12)
    space.ceilings["latency"] = 0.6
    space.chooser.times = {}
    space.times = [{n: 1 - 0.02 * n for n in ladder} for ladder in space.ladders]
    counts = tuple(ladder[1] for ladder in space.ladders)
    saved = 0.02 * sum(counts)
    assert space.costs(counts)["latency"] == pytest.approx(1 - saved)
    space.correction = 1.5
    assert space.costs(counts)["latency"] == pytest.approx(1.5 * (1 - saved))
