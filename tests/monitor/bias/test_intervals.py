"""Intervals hold at 95 %, by all outcomes of two samples weighed by their probability."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from regrow.monitor.bias.intervals import (
    Share,
    difference_interval,
    effective_size,
    num_independent,
    ratio_interval,
)

Interval = Callable[[Share, Share], tuple[float, float]]


def _coverage(interval: Interval, p: float, q: float, n: int, m: int, truth: float) -> float:
    firsts = [Share.of(count / n, n) for count in range(n + 1)]
    seconds = [Share.of(count / m, m) for count in range(m + 1)]
    weights = np.outer(binom.pmf(range(n + 1), n, p), binom.pmf(range(m + 1), m, q))
    ends = [[interval(one, other) for other in seconds] for one in firsts]
    holds = np.array([[low <= truth <= high for low, high in row] for row in ends])
    return float((weights * holds).sum())


@pytest.mark.parametrize(("p", "q"), [(0.05, 0.05), (0.1, 0.3), (0.5, 0.4), (0.98, 0.9)])
def test_they_hold_at_95_percent(p: float, q: float) -> None:
    assert _coverage(difference_interval, p, q, 30, 60, p - q) >= 0.95
    assert _coverage(ratio_interval, p, q, 30, 60, p / q) >= 0.95


def test_a_share_has_the_exact_interval() -> None:
    exact = binomtest(7, 40).proportion_ci(method="exact")
    own = Share.of(7 / 40, 40)
    assert (own.low, own.high) == pytest.approx((exact.low, exact.high))
    assert Share.of(0.5, 0) == Share(0.5, 0.0, 1.0)


def test_no_error_on_either_side_is_no_certainty() -> None:
    low, high = difference_interval(Share.of(0, 30), Share.of(0, 3000))
    assert low < 0 < high
    assert 0.05 < high < 0.15


def test_ratios_of_nothing_end_at_0_or_nowhere() -> None:
    none, some = Share.of(0, 30), Share.of(0.5, 30)
    assert ratio_interval(none, some)[0] == 0
    assert ratio_interval(some, none)[1] == math.inf


def test_blocks_of_one_size_count_once_and_of_different_sizes_less() -> None:
    assert effective_size(12, 4 * 3**2) == pytest.approx(4)
    assert effective_size(12, 10**2 + 2 * 1**2) == pytest.approx(144 / 102)
    assert effective_size(0, 0) == 0


def test_groups_of_unequal_sizes_are_worth_fewer_pictures() -> None:
    assert num_independent([*"aabbcc"]) == 3
    assert num_independent([*"aaaab"]) == 1  # 25 / 17
    assert num_independent([]) == 0
    # The variance of the mean over all pictures is that of so many independent ones.
    sizes, draw = np.array([30, 10, 10, 5, 5]), np.random.default_rng(0)
    means = draw.standard_normal((20_000, 5)) @ sizes / sizes.sum()
    groups = np.repeat(np.arange(5), sizes).astype(str).tolist()
    assert num_independent(groups) == int(1 / means.var()) == 3
