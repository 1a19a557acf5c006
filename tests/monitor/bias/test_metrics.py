"""Bias metrics are Clarify's, by hand and by other people's functions."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from regrow.monitor.bias.metrics import (
    COLUMNS,
    POST_TRAINING,
    PRE_TRAINING,
    RATES,
    Counts,
    distance,
    divide,
    rate,
)

REST, FACET = Counts.of(30, 10, 10, 50), Counts.of(4, 1, 6, 9)
METRICS = {**PRE_TRAINING, **POST_TRAINING}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CI", 80 / 120),
        ("DPL", 0.4 - 0.5),
        ("KS", 0.1),
        ("TVD", 0.1),
        ("LP", math.sqrt(0.02)),
        ("DPPL", 0.4 - 0.25),
        ("DI", 0.25 / 0.4),
        ("AD", 0.80 - 0.65),
        ("RD", 0.75 - 0.40),
        ("SD", 9 / 10 - 50 / 60),
        ("DAR", 30 / 40 - 4 / 5),
        ("DRR", 9 / 15 - 50 / 60),
        ("DCA", 40 / 40 - 10 / 5),
        ("DCR", 10 / 15 - 60 / 60),
        ("TE", 6 / 1 - 10 / 10),
        ("IoUD", 30 / 50 - 4 / 11),
    ],
)
def test_each_is_its_formula(name: str, value: float) -> None:
    assert METRICS[name].compute(REST, FACET) == pytest.approx(value)


def test_divergences_are_those_of_scipy() -> None:
    pair = [0.6, 0.4], [0.5, 0.5]
    assert METRICS["KL"].compute(REST, FACET) == pytest.approx(entropy(*pair))
    assert METRICS["JS"].compute(REST, FACET) == pytest.approx(jensenshannon(*pair) ** 2)


def test_entropy_is_half_the_squared_coefficient_of_variation_of_benefits() -> None:
    benefits = np.repeat([1, 2, 0], [30 + 50 + 4 + 9, 10 + 1, 10 + 6])
    value = benefits.var() / benefits.mean() ** 2 / 2
    assert METRICS["GE"].compute(REST, FACET) == pytest.approx(value)
    misses = Counts.of(0, 0, 3, 0)
    assert METRICS["GE"].compute(misses, misses) is None


def test_published_numbers_of_german_credit() -> None:
    """smclarify's own test has CI -.92889 and DPL .17454: those of 32 and 868 of 900 rows."""
    rest, facet = Counts(pictures=32, positives=28), Counts(pictures=868, positives=608)
    imbalance, labels = (METRICS[name].compute(rest, facet) for name in ("CI", "DPL"))
    assert (round(imbalance or 0, 5), round(labels or 0, 5)) == (-0.92889, 0.17454)


def test_nothing_by_nothing_is_nothing_and_more_is_infinite() -> None:
    assert (divide(0, 0), divide(1, 0), divide(-1, 0)) == (0, math.inf, -math.inf)
    nobody = Counts.of(0, 0, 5, 5)
    assert METRICS["DI"].compute(nobody, nobody) == 0
    assert METRICS["DI"].compute(nobody, REST) == math.inf
    assert METRICS["TE"].compute(nobody, nobody) == 0  # both infinite
    assert METRICS["TE"].compute(REST, nobody) == math.inf
    assert METRICS["CI"].compute(Counts(), Counts()) is None


def test_labels_that_one_side_lacks_are_left_out_of_divergences() -> None:
    only = Counts.of(0, 0, 0, 10)
    assert METRICS["TVD"].compute(REST, only) == pytest.approx(0.5 * abs(0.6 - 1.0))
    assert METRICS["KL"].compute(Counts.of(5, 0, 0, 0), only) is None


@pytest.mark.parametrize("name", [n for n, own in METRICS.items() if own.rate is not None])
def test_metrics_of_one_share_change_sign_or_turn_over_with_the_sides(name: str) -> None:
    value, other = (METRICS[name].compute(*own) for own in ((REST, FACET), (FACET, REST)))
    assert value is not None
    assert other == pytest.approx(1 / value if name == "DI" else -value)


def test_shares_lie_between_0_and_1() -> None:
    assert {part for names in RATES.values() for own in names for part in own} <= {*COLUMNS}
    for name in RATES:
        assert 0 < rate(name, REST) < 1
        assert rate(name, Counts()) == 0


def test_the_distance_from_no_bias_is_that_from_0_but_of_di_that_of_logarithms() -> None:
    assert distance("DPPL", -0.3) == 0.3
    assert distance("DI", 0.5) == pytest.approx(distance("DI", 2.0))
    assert distance("DI", 1.0) == 0
    assert distance("DI", 0.0) == math.inf
