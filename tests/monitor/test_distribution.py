"""Distributions are the same however their values were split, and close to the values."""

import math
import random
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrow.errors import BadInput
from regrow.monitor.distribution import MAX_CELLS, Distribution

SHAPES = {
    "even": lambda r: r.random(9000),
    "near": lambda r: 0.44 + 1e-4 * r.standard_normal(9000),
    "heavy": lambda r: r.standard_cauchy(9000),
    "wide": lambda r: 10.0 ** r.uniform(-300, 300, 9000) * r.choice([-1, 1], 9000),
    "few": lambda r: r.integers(0, 3, 9000).astype(float),
    "ends": lambda r: r.choice([0.0, -0.0, 1.7e308, -1.7e308, 5e-324, 1.0], 9000),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_any_split_and_order_gives_the_same(shape: str, seed: int) -> None:
    values = SHAPES[shape](np.random.default_rng(7)).tolist()
    whole = Distribution()
    whole.add(values)
    draw = random.Random(seed)
    draw.shuffle(values)
    parts = [Distribution() for _ in range(draw.randrange(2, 9))]
    for value in values:
        draw.choice(parts).add([value])
    while len(parts) > 1:
        draw.shuffle(parts)
        parts[0].merge(parts.pop())
    assert parts[0].to_dict() == whole.to_dict()
    assert len(whole.counts) <= MAX_CELLS
    assert whole.total == 9000


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)), st.integers(0, 50))
def test_a_split_anywhere_gives_the_same(values: list[float], place: int) -> None:
    whole, first, second = Distribution(), Distribution(), Distribution()
    whole.add(values)
    first.add(values[:place])
    second.add(values[place:])
    second.merge(first)
    assert second.to_dict() == whole.to_dict()
    assert Distribution.from_dict(whole.to_dict()).to_dict() == whole.to_dict()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1),
    st.integers(-1100, 40),
)
def test_a_value_lies_in_its_cell(values: list[float], level: int) -> None:
    found = Distribution(level)
    found.add(values)
    width = Fraction(2) ** -level
    assert found.counts == Counter(math.floor(Fraction(value) / width) for value in values)


def test_merging_leaves_the_other_as_it_is() -> None:
    fine, coarse = Distribution(), Distribution()
    fine.add([0.1, 0.2])
    coarse.add(np.random.default_rng(0).random(5000).tolist())
    coarse.merge(fine)
    assert fine.weighted(0.1, 0.2) == [(0.1, 1), (0.2, 1)]


@pytest.mark.parametrize("shape", ["even", "near", "heavy"])
def test_quantiles_are_those_of_the_values(shape: str) -> None:
    values = np.sort(SHAPES[shape](np.random.default_rng(1)))
    made = Distribution()
    made.add(values.tolist())
    pairs = made.weighted(values[0], values[-1])
    found = np.repeat([value for value, _ in pairs], [count for _, count in pairs])
    ranks = np.searchsorted(values, np.quantile(found, np.linspace(0.01, 0.99, 99))) / len(values)
    np.testing.assert_allclose(ranks, np.linspace(0.01, 0.99, 99), atol=0.01)


def test_buckets_are_numpys_histogram() -> None:
    values = np.random.default_rng(2).standard_normal(1500)
    made = Distribution()
    made.add(values.tolist())
    counts, edges = np.histogram(values, bins=10)
    buckets = made.buckets(values.min(), values.max())
    assert [bucket["count"] for bucket in buckets] == counts.tolist()
    np.testing.assert_allclose([bucket["lower_bound"] for bucket in buckets], edges[:-1])
    assert buckets[-1]["upper_bound"] == values.max()


def test_the_levels_of_the_sketch_weigh_what_was_counted() -> None:
    made = Distribution()
    made.add([0.5] * 1000 + [0.25] * 5)
    assert made.sketch(0.25, 0.5) == [[0.25] * 5 + [0.5] * 1000]
    made.add([0.5] * 2000)
    levels = made.sketch(0.25, 0.5)
    assert sum(len(values) << level for level, values in enumerate(levels)) == 3005
    assert sum(values.count(0.25) << level for level, values in enumerate(levels)) == 5


def test_one_value_has_ten_buckets_without_a_width() -> None:
    made = Distribution()
    made.add([3.0, 3.0])
    buckets = made.buckets(3, 3)
    assert len(buckets) == 10
    assert sum(bucket["count"] for bucket in buckets) == 2


@pytest.mark.parametrize(
    "content",
    [
        None,
        {},
        {"level": 99, "keys": [], "counts": []},
        {"level": None, "keys": ["x"], "counts": [1]},
        {"level": None, "keys": [1], "counts": []},
        {"level": None, "keys": [1], "counts": [0]},
        {"level": 0, "keys": [*range(3000)], "counts": [1] * 3000},
    ],
)
def test_other_data_is_refused(content: object) -> None:
    with pytest.raises(BadInput, match="holds no distribution"):
        Distribution.from_dict(content)
