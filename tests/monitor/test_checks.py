"""Checks find what was planted, and distances are those of other libraries."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2_contingency, ks_2samp

from regrow.monitor.answers import CLASS, prediction_features
from regrow.monitor.checks import (
    categorical_distance,
    check,
    chi_squared,
    numeric_distance,
)
from regrow.monitor.features import PICTURE
from regrow.monitor.files.constraints import Comparison, Constraints
from regrow.monitor.summary import Summary

REQUIRED = frozenset({"width", "height", "brightness", "class"})


def _rows(count: int = 200, seed: int = 0, **changes: Any) -> list[dict[str, Any]]:
    draw = np.random.default_rng(seed)
    return [
        {
            "width": 32.0,
            "height": 24.0,
            "blank": 0.0,
            "brightness": float(draw.random()),
            "class": ["car", "dog"][number % 2],
        }
        | changes
        for number in range(count)
    ]


REFERENCE = Summary.of(_rows())
ASKED = Constraints.suggested(REFERENCE, REQUIRED, {})


def _found(rows: list[dict[str, Any]], asked: Constraints = ASKED, corrupt: int = 0) -> list[Any]:
    violations, _ = check(Summary.of(rows), REFERENCE, asked, corrupt)
    return [(own.feature, own.check, own.is_descriptive) for own in violations]


def test_the_reference_and_its_like_meet_all() -> None:
    assert _found(_rows()) == []
    assert _found(_rows(seed=1)) == []
    assert _found([]) == []


def test_each_hard_check_finds_its_fault_at_once() -> None:
    assert _found(_rows(), corrupt=1) == [("image", "completeness_check", False)]
    assert ("blank", "categorical_values_check", False) in _found([*_rows(), *_rows(1, blank=1.0)])
    assert ("width", "categorical_values_check", False) in _found([*_rows(), *_rows(1, width=65.0)])
    assert ("height", "categorical_values_check", False) in _found(
        [*_rows(), *_rows(1, height=1.0)]
    )
    assert _found([*_rows(), *_rows(1, brightness=None)]) == [
        ("brightness", "completeness_check", False)
    ]
    assert _found([*_rows(), *_rows(1, brightness="dark")]) == [
        ("brightness", "data_type_check", False)
    ]
    assert _found([*_rows(), *_rows(1, brightness=-1.0)]) == [
        ("brightness", "data_type_check", False)
    ]
    assert _found([*_rows(), *_rows(1, **{"class": "cat"})]) == [
        ("class", "categorical_values_check", False)
    ]


def test_missing_and_further_features_are_told() -> None:
    rows = [{**row, "extra": 1.0} for row in _rows()]
    for row in rows:
        del row["brightness"]
    assert _found(rows) == [
        ("brightness", "missing_column_check", False),
        ("extra", "extra_column_check", True),
    ]
    violations, _ = check(Summary.of(rows), REFERENCE, ASKED, 0, frozenset({"brightness"}))
    assert [own.check for own in violations] == ["extra_column_check"]


def test_a_feature_of_ours_that_the_baseline_is_too_old_for_is_no_violation() -> None:
    assert "blockiness" in PICTURE
    assert _found([{**row, "blockiness": 0.5, "roughness": 0.3} for row in _rows()]) == []


def test_a_shift_is_told_as_a_description_of_the_feature_that_moved() -> None:
    rows = [{**row, "brightness": row["brightness"] / 2} for row in _rows()]
    assert _found(rows) == [("brightness", "baseline_drift_check", True)]
    assert _found([{**row, "class": "car"} for row in _rows()]) == [
        ("class", "baseline_drift_check", True)
    ]


def test_numbers_that_look_whole_have_one_type() -> None:
    """A column whose reference is whole may hold other numbers: the type is a number."""
    assert _found(_rows(width=32.5)) == [("width", "baseline_drift_check", True)]


def test_numbers_in_every_spelling_are_one_type_and_a_shifted_column_is_named() -> None:
    """A check of types must not alarm about a column that looks whole, while another one shifts."""
    draw = np.random.default_rng(0)

    def rows(low: float, spellings: Sequence[Any]) -> list[dict[str, Any]]:
        answers = [
            {"label": spellings[n % len(spellings)], "score": spellings[n % len(spellings)]}
            for n in range(200)
        ]
        light = draw.uniform(low, 1, 200).tolist()
        return [
            {**prediction_features(answer, ["1"], None), "brightness": value}
            for answer, value in zip(answers, light, strict=True)
        ]

    reference = Summary.of(rows(0, ["1"]))
    assert reference.features["predicted_class"].kind == "String"
    assert reference.features["confidence"].kind == "Integral"
    asked = Constraints.suggested(reference, frozenset(reference.features), {CLASS: ["1"]})
    mixed = [1, 1.0, "1", "1\n"]
    assert check(Summary.of(rows(0, mixed)), reference, asked, 0)[0] == []
    found, _ = check(Summary.of(rows(0.5, mixed)), reference, asked, 0)
    assert [(own.feature, own.check) for own in found] == [("brightness", "baseline_drift_check")]


def test_edited_constraints_are_what_counts() -> None:
    assert _found(_rows(), replace(ASKED, is_on=False), corrupt=5) == []
    assert _found(_rows(), replace(ASKED, max_corrupt=0.5), corrupt=5) == []
    off = replace(ASKED, comparison=Comparison(is_on=False))
    assert _found(_rows(width=32.5), off) == []
    tested = replace(ASKED, comparison=Comparison(categorical_method="ChiSquared"))
    assert _found(_rows(), tested) == []
    (found,) = _found([{**row, "class": "car"} for row in _rows()], tested)
    assert found == ("class", "baseline_drift_check", True)


@pytest.mark.parametrize("seed", range(5))
def test_the_simple_distance_is_that_of_kolmogorov_and_smirnov(seed: int) -> None:
    draw = np.random.default_rng(seed)
    one, other = draw.integers(0, 30, 80) / 10, draw.normal(1, 1, 130).round(1)
    pairs = [
        [(float(v), int(c)) for v, c in zip(*np.unique(x, return_counts=True), strict=True)]
        for x in (one, other)
    ]
    expected = ks_2samp(one, other).statistic
    assert numeric_distance(*pairs, is_robust=False) == pytest.approx(expected)
    robust = max(0, expected - 1.8 * np.sqrt((80 + 130) / (80 * 130)))
    assert numeric_distance(*pairs, is_robust=True) == pytest.approx(robust)


def test_categorical_distances_are_worked_out_by_hand() -> None:
    before, now = {"a": 500, "b": 500}, {"a": 900, "c": 100}
    assert categorical_distance(before, now) == pytest.approx(0.5 - 1.8 * np.sqrt(2000 / 1e6))
    expected = chi2_contingency([[500, 900], [500, 0], [0, 100]], correction=False).pvalue
    assert chi_squared(before, now) == pytest.approx(expected)
    assert chi_squared({"a": 5}, {"a": 7}) is None


def test_rare_categories_count_as_one() -> None:
    before = {"a": 500, "b": 500, **{f"r{n}": 1 for n in range(9)}}
    now = {"a": 480, "b": 520, "x": 9}
    expected = chi2_contingency([[500, 480], [500, 520], [9, 9]], correction=False).pvalue
    assert chi_squared(before, now) == pytest.approx(expected)
