"""Draws are uniform, independent between purposes, and functions of names."""

import numpy as np
from scipy.stats import kstest, pearsonr

from regrow.monitor.draws import draws, key_of


def test_draws_are_uniform_and_independent() -> None:
    keys = np.array([key_of(f"event {n}") for n in range(5000)], dtype=np.uint64)
    one, other = draws(keys, "brightness"), draws(keys, "contrast")
    for found in (one, other, draws(np.arange(5000, dtype=np.uint64), "x")):
        assert kstest(found, "uniform").pvalue > 0.001
        assert 0 <= found.min() <= found.max() < 1
    assert abs(pearsonr(one, other).statistic) < 0.05
    np.testing.assert_array_equal(draws(keys[:7], "brightness"), one[:7])
