"""The paired test keeps its level for every rate of disagreement, and is no weaker than it must."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binom, binomtest, multinomial

from regrow.metrics.exact_test import images_to_decide, is_at_least, low_end, score_statistic

Table = tuple[int, int]


def _tables(num_images: int) -> list[Table]:
    pairs = itertools.product(range(num_images + 1), repeat=2)
    return [(lost, gained) for lost, gained in pairs if lost + gained <= num_images]


@pytest.fixture(scope="module", params=[(5, 0.95), (8, 0.95), (6, 0.8)])
def bounds(request) -> tuple[int, float, dict[Table, float]]:
    """Every lower bound of some number of images, with that number and the level."""
    count, confidence = request.param
    ends = {table: low_end(*table, count, confidence) for table in _tables(count)}
    return count, 1 - confidence, ends


def test_the_score_is_that_of_tango_worked_by_hand() -> None:
    # His example: of 44 patients one is lost and none gained; the margin is 0.1. B = 1 + 89 * 0.1
    # = 9.9; p = (9.9 + (9.9^2 - 8 * 44 * 0.1 * 1.1)^0.5) / 176 = (9.9 + 7.7) / 176 = 0.1;
    # variance = 44 (0.2 - 0.1 - 0.01) = 3.96; (-1 + 4.4) / 3.96^0.5 = 1.7086.
    assert score_statistic(1, 0, 44, -0.1) == pytest.approx(1.70856, abs=1e-5)
    # Corrected: 1 / 44 less of a gain.
    assert score_statistic(1, 0, 44, -0.1, correction=1) == pytest.approx(
        (3.4 - 1 / 44) / 3.96**0.5
    )


def test_the_score_of_no_difference_is_that_of_mcnemar() -> None:
    assert score_statistic(7, 1, 21, 0) == pytest.approx(-6 / 8**0.5)
    assert score_statistic(0, 0, 21, 0) == 0


@pytest.mark.parametrize(
    ("lost", "gained", "num_images", "difference"),
    [(3, 5, 20, -0.3), (3, 5, 20, 0.4), (0, 4, 9, -0.2), (6, 0, 9, 0.15), (1, 1, 2, -0.5)],
)
def test_the_score_has_the_variance_of_the_likeliest_rates(
    lost: int, gained: int, num_images: int, difference: float
) -> None:
    def surprise(p_lost: float) -> float:
        rates = [p_lost, p_lost + difference, 1 - 2 * p_lost - difference]
        return -float(
            multinomial.logpmf([lost, gained, num_images - lost - gained], n=num_images, p=rates)
        )

    ends = max(0, -difference) + 1e-9, (1 - difference) / 2 - 1e-9
    p_lost = minimize_scalar(surprise, bounds=ends, method="bounded", options={"xatol": 1e-9}).x
    variance = num_images * (2 * p_lost + difference - difference**2)
    expected = (gained - lost - num_images * difference) / variance**0.5
    assert score_statistic(lost, gained, num_images, difference) == pytest.approx(
        expected, rel=1e-3
    )


def test_no_rate_of_disagreement_breaks_the_level_and_one_reaches_it(bounds) -> None:
    count, level, ends = bounds
    assert len(set(ends.values())) > 10
    for end in set(ends.values()):
        claims = np.array([table for table, other in ends.items() if other >= end - 1e-9])
        cells = np.column_stack([claims, count - claims.sum(1)])
        # What both networks gain and lose alike, from nothing to all that is left.
        alike = np.linspace(0, (1 - abs(end)) / 2, 501)
        rates = np.column_stack(
            [alike + max(-end, 0), alike + max(end, 0), 1 - abs(end) - 2 * alike]
        )
        rates = np.clip(rates, 0, 1)
        wrong = [multinomial.pmf(cells, n=count, p=p / p.sum()).sum() for p in rates]
        assert max(wrong) <= level + 1e-6 or end == -1
        assert max(wrong) >= level - 1e-3


def test_a_lost_image_makes_no_bound_better_nor_a_gained_one_worse(bounds) -> None:
    count, _, ends = bounds
    for (lost, gained), end in ends.items():
        if lost + gained < count:
            assert ends[lost + 1, gained] <= end + 1e-9
            assert ends[lost, gained + 1] >= end - 1e-9
        if lost:
            assert ends[lost - 1, gained + 1] > end


def test_the_decision_is_that_of_the_bound(bounds) -> None:
    count, level, ends = bounds
    for table, limit in itertools.product(list(ends)[::4], (-0.6, -0.3, -0.05, 0, 0.2)):
        assert is_at_least(*table, count, limit, 1 - level) == (ends[table] >= limit)


@pytest.mark.parametrize("num_images", [2, 30, 299, 300, 3000])
def test_a_loss_that_is_never_seen_is_bounded_by_the_rule_of_three(num_images: int) -> None:
    # (1 - p)^n = 0.05.
    exact = 1 - 0.05 ** (1 / num_images)
    assert low_end(0, 0, num_images, 0.95) == pytest.approx(-exact, rel=1e-6)


def test_bounds_of_nothing_but_losses_and_gains_are_those_worked_by_hand() -> None:
    assert low_end(7, 0, 7, 0.95) == -1
    # p_gained^7 = 0.05, all others lost.
    assert low_end(0, 7, 7, 0.95) == pytest.approx(2 * 0.05 ** (1 / 7) - 1, abs=1e-6)
    # One image: lost or not.
    assert low_end(0, 0, 1, 0.95) == pytest.approx(-0.95, abs=1e-6)


def test_a_bound_of_many_images_is_that_of_the_normal_distribution() -> None:
    # x = 1.644854 (600 / 50,000^2 + ...)^0.5, the rest being below one percent.
    assert low_end(300, 300, 50_000, 0.95) == pytest.approx(-1.644854 * 600**0.5 / 50_000, rel=0.01)
    assert low_end(1000, 900, 10_000, 0.95) == pytest.approx(-0.01 - 1.644854 * 0.0043474, rel=0.01)


@pytest.mark.parametrize("num_images", [8, 20])
def test_what_the_exact_test_of_mcnemar_claims_is_claimed(num_images: int) -> None:
    claimed = 0
    for lost, gained in _tables(num_images):
        if lost < gained and binomtest(lost, lost + gained, alternative="less").pvalue <= 0.05:
            claimed += 1
            assert is_at_least(lost, gained, num_images, 0, 0.95)
    assert claimed >= 5
    assert not is_at_least(3, 3, num_images, 0, 0.95)


def test_a_thousand_networks_at_the_edge_are_accepted_no_more_often_than_promised() -> None:
    # The 99 % bound of a binomial of 1,000 and 5 %.
    bound = int(binom.ppf(0.99, 1000, 0.05))
    assert bound == 67
    random = np.random.default_rng(0)
    for num_images, drop, rate in [(100, 0.05, 0.0), (100, 0.02, 0.03), (400, 0.02, 0.01)]:
        drawn = random.multinomial(num_images, [rate + drop, rate, 1 - drop - 2 * rate], size=1000)
        tables, times = np.unique(drawn[:, :2], axis=0, return_counts=True)
        accepted = [is_at_least(*table, num_images, -drop, 0.95) for table in tables]
        assert times @ accepted <= bound


def test_as_many_images_are_asked_for_as_the_rule_of_three_needs() -> None:
    # 0.99^299 is the first power below 0.05, 0.999^2995 the first of the other.
    assert images_to_decide(0, 0, 100, -0.01, 0.95) == 299 == math.ceil(math.log(0.05, 0.99))
    assert images_to_decide(0, 0, 2000, -0.001, 0.95) == 2995


@pytest.mark.parametrize(
    ("lost", "gained", "num_images", "limit"),
    [(3, 0, 30, -0.2), (2, 2, 40, -0.07), (1, 4, 30, 0.02)],
)
def test_the_images_asked_for_decide_and_one_less_does_not(
    lost: int, gained: int, num_images: int, limit: float
) -> None:
    def decides(count: int) -> bool:
        return is_at_least(
            lost * count / num_images, gained * count / num_images, count, limit, 0.95
        )

    needed = images_to_decide(lost, gained, num_images, limit, 0.95)
    assert needed is not None
    assert needed > num_images + 1
    assert decides(needed)
    assert not decides(needed - 1)
    # A smaller number may decide by the luck of whole images, but none much smaller.
    assert not any(decides(count) for count in range(num_images, int(0.9 * needed)))
    # To be broken is to be met with lost and gained in each other's place.
    assert images_to_decide(gained, lost, num_images, -limit, 0.95) == needed


def test_more_images_are_asked_for_than_there_are() -> None:
    assert images_to_decide(0, 0, 500, -0.01, 0.95) == 501


def test_many_images_are_asked_for_by_the_normal_distribution() -> None:
    # 1.644854^2 (0.2 + ...) / 0.001^2.
    assert images_to_decide(100, 100, 1000, -0.001, 0.95) == pytest.approx(541_000, rel=0.01)


def test_a_difference_on_the_limit_is_decided_by_no_number_of_images() -> None:
    assert images_to_decide(2, 1, 100, -0.01, 0.95) is None
    assert images_to_decide(0, 0, 100, 0, 0.95) is None
