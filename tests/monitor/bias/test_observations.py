"""Sides are counted as a loop over the pictures counts them, whatever their order and blocks."""

from dataclasses import replace

import numpy as np
import pytest

from regrow.monitor.bias.facets import MOST_VALUES, Subject
from regrow.monitor.bias.intervals import effective_size
from regrow.monitor.bias.metrics import COLUMNS, RATES, Counts
from regrow.monitor.bias.observations import Observation, Observations

SUBJECT = Subject("labels", ("a", "b"), "b")
OUTCOMES = [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]


def _drawn(count: int = 200, seed: int = 0, blocks: int | None = None) -> list[Observation]:
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        values = {"camera": str(random.integers(3)), "site": str(random.integers(2))}
        if random.random() < 0.2:
            del values["camera"]
        counts = Counts.of(*OUTCOMES[random.integers(4)])
        block = None if blocks is None else int(random.integers(blocks))
        time = float(random.integers(50))
        made.append(Observation(values, counts, time, number + 1, block))
    return made


def _observed(rows: list[Observation], *, has_truth: bool = True) -> Observations:
    made = Observations(SUBJECT, has_truth=has_truth)
    for own in rows:
        made.add(own)
    return made


@pytest.mark.parametrize("blocks", [None, 7])
def test_sides_and_effective_sizes_are_those_of_a_loop(blocks: int | None) -> None:
    rows = [own for own in _drawn(blocks=blocks)]
    sides = _observed(rows).sides("camera")
    assert [*sides] == ["0", "1", "2"]
    known = [own for own in rows if "camera" in own.values]
    for value, pair in sides.items():
        for is_facet, side in enumerate(pair):
            mine = [own for own in known if (own.values["camera"] == value) == bool(is_facet)]
            assert side.num_pictures == len(mine)
            for name in COLUMNS:
                total = sum(getattr(own.counts, name) for own in mine)
                assert getattr(side.counts, name) == total
            for name, (_, below) in RATES.items():
                by_block: dict[int, float] = {}
                for own in mine:
                    block = own.key if own.block is None else own.block
                    size = sum(getattr(own.counts, part) for part in below)
                    by_block[block] = by_block.get(block, 0.0) + size
                squares = sum(size**2 for size in by_block.values())
                size = effective_size(sum(by_block.values()), squares)
                assert side.sizes[name] == pytest.approx(size), name


def test_the_order_of_pictures_does_not_matter() -> None:
    rows = _drawn()
    one, other = _observed(rows), _observed(rows[::-1])
    assert one.sides("site") == other.sides("site")
    for facet in ("camera", "site"):
        first, second = (own.stream(facet, "right") for own in (one, other))
        np.testing.assert_array_equal(first.times, second.times)
        np.testing.assert_array_equal(first.values, second.values)
        names = [{code: name for name, code in own.values(facet).items()} for own in (one, other)]
        assert [names[0][c] for c in first.codes] == [names[1][c] for c in second.codes]


def test_sampled_pictures_count_by_their_probability_and_are_not_bet_on() -> None:
    rows = _drawn(40)
    sampled = [replace(own, probability=0.25) for own in rows[:20]]
    made = _observed([*sampled, *rows[20:]])
    rest, facet = made.sides("site")["1"]
    of_value = [own.values["site"] == "1" for own in rows]
    assert facet.counts.pictures == sum(4 * own for own in of_value[:20]) + sum(of_value[20:])
    assert facet.num_pictures == sum(of_value)
    assert facet.sizes["accuracy"] < facet.num_pictures
    assert rest.counts.pictures + facet.counts.pictures == 4 * 20 + 20
    assert (made.num_sampled, made.num_bets) == (20, 20)
    assert len(made.stream("site", "right").codes) == 20


def test_what_was_bet_on_before_is_not_bet_on_again() -> None:
    rows = [replace(own, is_new=own.key % 2 == 0) for own in _drawn(30)]
    made = _observed(rows)
    assert made.num_bets == 15
    assert len(made.stream("site", "right").codes) == 15
    assert sum(side.num_pictures for side in made.sides("site")["0"]) == 30


def test_a_stream_is_in_the_order_of_time_with_blocks_numbered() -> None:
    stream = _observed(_drawn(blocks=7)).stream("camera", "predicted")
    assert (np.diff(stream.times) >= 0).all()
    assert {*stream.blocks.tolist()} == {*range(7)}
    assert (stream.codes >= 0).all()


def test_answers_without_truth_have_shares_of_predictions_only() -> None:
    made = _observed([Observation({"site": "1"}, Counts(1, predicted=1), 0, 1)], has_truth=False)
    side = made.sides("site")["1"][1]
    assert (side.counts.predicted, side.counts.tp) == (1, 0)
    assert "recall" not in side.sizes


def test_facets_with_too_many_values_are_forgotten() -> None:
    rows = [
        Observation({"id": str(n), "site": str(n % 2)}, Counts(1), 0.0, n + 1)
        for n in range(MOST_VALUES + 5)
    ]
    made = _observed(rows)
    assert made.facets == ["site"]
    assert made.values("id") == {}
    assert made.seen.crowded() == ["id"]
    assert len(made) == MOST_VALUES + 5


def test_the_order_in_which_pictures_come_makes_no_difference() -> None:
    random, rows = np.random.default_rng(3), []
    for own in _drawn(300, blocks=20):
        shares = random.dirichlet(np.ones(4))  # whose sums depend on their order in the last digits
        probability = float(random.uniform(0.2, 1)) if random.random() < 0.3 else None
        rows.append(replace(own, counts=Counts.of(*shares), probability=probability))
    one, other = _observed(rows), _observed(rows[:100])
    other.sides("camera")  # read in between
    for place in random.permutation(np.arange(100, 300)):
        other.add(rows[place])
    for facet in ("camera", "site"):
        assert one.values(facet) == other.values(facet)
        assert one.sides(facet) == other.sides(facet)
        for column in ("right", "predicted"):
            pair = [own.stream(facet, column) for own in (one, other)]
            for name in ("codes", "times", "blocks", "values"):
                np.testing.assert_array_equal(*(getattr(own, name) for own in pair))
        for mine, its in zip(one.ranked(facet)[1:], other.ranked(facet)[1:], strict=True):
            np.testing.assert_array_equal(mine, its)
