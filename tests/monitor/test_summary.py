"""Summaries of parts add up to that of the whole, bit for bit, and are numpy's."""

import json
import math
import random
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrow.errors import BadInput
from regrow.monitor import summary
from regrow.monitor.summary import Categories, Feature, Numbers, Summary


def _rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    draw = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        row: dict[str, Any] = {
            "brightness": float(draw.random()),
            "width": float(draw.integers(30, 33)),
            "bytes": float(10.0 ** draw.uniform(-5, 9)),
            "class": f"c{draw.integers(0, 5)}",
            "broken": [math.nan, math.inf, None, 1.0, "x"][draw.integers(0, 5)],
        }
        if number % 7 == 0:
            row["late"] = float(draw.random())
        rows.append(row)
    return rows


@pytest.mark.parametrize("seed", range(4))
def test_any_split_gives_the_same_summary(seed: int) -> None:
    rows = _rows(5000)
    whole = json.dumps(Summary.of(rows).to_dict())
    draw = random.Random(seed)
    draw.shuffle(rows)
    cuts = sorted(draw.sample(range(len(rows)), draw.randrange(1, 12)))
    parts = [Summary.of(rows[a:b]) for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    draw.shuffle(parts)
    merged = Summary()
    for part in parts:
        merged.merge(Summary.from_dict(json.loads(json.dumps(part.to_dict())), "part"))
    assert json.dumps(merged.to_dict()) == whole
    assert merged.num_items == 5000
    for name, feature in merged.features.items():
        asked = sum(name in row for row in rows)
        assert feature.num_present + feature.num_missing == asked
        assert asked == (715 if name == "late" else 5000)


def test_numbers_are_numpys() -> None:
    values = np.random.default_rng(0).standard_normal(3000) * 1e3 + 1e8
    numbers = Numbers()
    numbers.add(values.tolist())
    assert numbers.sum == math.fsum(values)
    assert numbers.mean == pytest.approx(values.mean(), rel=1e-15)
    assert numbers.std == pytest.approx(values.std(), rel=1e-9)
    assert (numbers.low, numbers.high, numbers.count) == (values.min(), values.max(), 3000)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_sums_are_exact(values: list[float]) -> None:
    numbers = Numbers()
    numbers.add(values)
    exact = [*map(Fraction, values)]
    assert Fraction(numbers.total, 1 << summary.SCALE) == sum(exact)
    assert Fraction(numbers.squares, 1 << 2 * summary.SCALE) == sum(own * own for own in exact)
    assert (numbers.low, numbers.high) == (min([math.inf, *values]), max([-math.inf, *values]))


@pytest.mark.parametrize("value", [1 - 2**-53, -1 + 2**-53, -1.0, 2**53 - 1.0, 5e-324, 1.7e308])
def test_sums_of_many_of_the_largest_fractions_are_exact(value: float) -> None:
    numbers = Numbers()
    numbers.add([value] * 3000)
    assert Fraction(numbers.total, 1 << summary.SCALE) == 3000 * Fraction(value)
    assert Fraction(numbers.squares, 1 << 2 * summary.SCALE) == 3000 * Fraction(value) ** 2


def test_sums_that_floats_cannot_hold_are_infinite() -> None:
    numbers = Numbers()
    numbers.add([1.7e308, 1.7e308])
    assert numbers.sum == math.inf
    assert numbers.mean == 1.7e308
    assert numbers.std == 0
    assert math.isnan(Numbers().mean)
    assert math.isnan(Numbers().std)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 1.0, 2.0], "Integral"),
        ([1, 1.5], "Fractional"),
        (["a", "b", 1.0], "String"),
        (["a", 1.0], "Integral"),
        ([None, math.nan], "Unknown"),
        ([], "Unknown"),
    ],
)
def test_the_kind_of_a_feature_is_that_of_most_values(values: list[Any], kind: str) -> None:
    feature = Feature()
    feature.add(values)
    assert feature.kind == kind


@pytest.mark.parametrize("seed", range(3))
def test_too_many_categories_are_counted_together(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "MAX_CATEGORIES", 20)
    texts = [f"t{number % 97}" for number in range(1000)]
    whole = Categories()
    whole.add(texts)
    random.Random(seed).shuffle(texts)
    parts = [Categories(), Categories()]
    parts[0].add(texts[:300])
    parts[1].add(texts[300:])
    parts[1].merge(parts[0])
    assert parts[1].to_dict() == whole.to_dict()
    assert len(whole.counts) == 20
    assert whole.count == 1000
    assert all(count == texts.count(text) for text, count in whole.counts.items())


@pytest.mark.parametrize(
    "content", [None, [], {"num_items": 1}, {"num_items": 1, "features": {"a": {"numbers": 3}}}]
)
def test_other_data_is_refused(content: object) -> None:
    with pytest.raises(BadInput, match=r"x\.json: holds no summary"):
        Summary.from_dict(content, "x.json")
