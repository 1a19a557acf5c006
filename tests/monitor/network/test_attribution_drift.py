"""Drift of attributions: SageMaker's nDCG passes unrelated rankings, the scores bet on do not."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from regrow.monitor.alarms.risk import level
from regrow.monitor.alarms.shift import ShiftDetector, ranks
from regrow.monitor.network.attribution_drift import (
    EXPLAINED,
    LEAST_NDCG,
    AttributionReference,
    attribution_scores,
    distance,
    distance_by_chance,
    explanations,
    ndcg,
)
from regrow.monitor.network.attributions import CELLS, Attribution
from regrow.monitor.network.shapley import design

COALITIONS = design(16, 32, seed=0)
# Objects in the middle, and the same ones anywhere.
MIDDLE = np.array([1, 2, 2, 1, 2, 6, 5, 2, 2, 5, 6, 2, 1, 2, 2, 1]) / 20


def test_the_example_of_sagemaker() -> None:
    """SAT score, grades, class rank: their page says 0.69."""
    found = ndcg(np.array([0.70, 0.50, 0.05]), np.array([0.10, 0.20, 0.70]))
    logs = [1 / math.log2(place + 1) for place in (1, 2, 3)]
    by_hand = (0.05 * logs[0] + 0.50 * logs[1] + 0.70 * logs[2]) / (
        0.70 * logs[0] + 0.50 * logs[1] + 0.05 * logs[2]
    )
    assert found == pytest.approx(by_hand)
    assert round(found, 4) == 0.6876


def test_it_is_that_of_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        before, now = draw.uniform(0, 1, (2, 16))
        assert ndcg(before, now) == pytest.approx(ndcg_score([before], [now]))
    assert ndcg(np.zeros(16), draw.uniform(0, 1, 16)) == 1


@pytest.mark.parametrize(
    ("low", "wanted"), [(0.0, (0.0, 0.35)), (0.5, (0.7, 1.0)), (0.8, (1.0, 1.0))]
)
def test_unrelated_rankings_pass_it_the_more_the_flatter_attributions_are(
    low: float, wanted: tuple[float, float]
) -> None:
    draw = np.random.default_rng(1)
    pairs = draw.uniform(low, 1, (500, 2, len(CELLS)))
    share = np.mean([ndcg(*pair) >= LEAST_NDCG for pair in pairs])
    assert wanted[0] <= share <= wanted[1]


def _pictures(profile: np.ndarray, count: int, draw: np.random.Generator) -> list[Attribution]:
    """Return attributions around a profile, different from picture to picture."""
    sizes = profile * draw.gamma(2, 0.5, (count, len(CELLS)))
    signs = draw.choice([-1, 1], sizes.shape, p=[0.2, 0.8])
    return [Attribution(0, own, 0.1) for own in sizes * signs]


def _scores(found: Sequence[Attribution]) -> np.ndarray:
    return np.array([list(attribution_scores(own.values).values()) for own in found])


def _alarms(profile: np.ndarray, now: np.ndarray, num_now: int, seed: int) -> tuple[bool, float]:
    """Return whether one of the scores warns, and SageMaker's nDCG."""
    draw = np.random.default_rng(seed)
    before, later = _pictures(profile, 200, draw), _pictures(now, num_now, draw)
    reference, seen = _scores(before), _scores(later)
    top, is_found = level(1e5, len(EXPLAINED)), False
    for score in range(len(EXPLAINED)):
        u = ranks(np.sort(reference[:, score]), seen[:, score], draw.random(num_now))
        logs = ShiftDetector(len(reference)).add_(u, np.arange(num_now, dtype=float))
        is_found |= bool(logs.max() >= top)
    compared = AttributionReference.of(before, COALITIONS).compare(later)
    return is_found, float(compared["ndcg"])


def test_clean_halves_never_warn_and_attributions_that_wander_do_though_ndcg_passes() -> None:
    clean = [_alarms(MIDDLE, MIDDLE, 1000, seed) for seed in range(10)]
    assert [is_found for is_found, _ in clean] == [False] * 10
    # Two thirds of what the middle had more is everywhere now: the order of cells hardly changes.
    flatter = MIDDLE / 3 + MIDDLE.mean() * 2 / 3
    moved = [_alarms(MIDDLE, flatter, 1000, seed) for seed in range(5)]
    assert all(is_found for is_found, _ in moved)
    assert all(found >= LEAST_NDCG for _, found in moved)


def test_unrelated_profiles_that_pass_ndcg_warn() -> None:
    """Flat attributions, as grids have them, in another order: SageMaker's monitor passes most."""
    draw, passed = np.random.default_rng(5), 0
    before = draw.uniform(0.4, 1, len(CELLS))
    for seed in range(8):
        is_found, found = _alarms(before, draw.permutation(before), 1500, seed)
        assert is_found
        passed += found >= LEAST_NDCG
    assert passed >= 4


def test_distance_is_the_total_variation_of_shares() -> None:
    assert distance(np.array([1.0, 1, 2]), np.array([3.0, 3, 6])) == 0
    assert distance(np.array([1.0, 0]), np.array([0, 5.0])) == 1
    assert distance(np.array([0.5, 0.5]), np.array([3.0, 1])) == pytest.approx(0.25)
    assert distance(np.zeros(2), np.array([3.0, 1])) == pytest.approx(0.25)  # nothing is even


def test_by_chance_it_is_reached_about_once_in_twenty() -> None:
    draw = np.random.default_rng(3)
    sizes = np.abs([own.values for own in _pictures(MIDDLE, 150, draw)])
    limit = distance_by_chance(sizes, 40)
    fresh = np.abs([own.values for own in _pictures(MIDDLE, 300 * 40, draw)]).reshape(300, 40, 16)
    again = distance(sizes.mean(axis=0), fresh.mean(axis=1))
    assert 0.8 < np.mean(again < limit) < 1
    assert distance_by_chance(sizes, 10) > limit > distance_by_chance(sizes, 1000)


def test_scores_are_worked_by_hand() -> None:
    found = attribution_scores(np.array([-3.0, 1, 0, 0] * 4))
    assert [found[name] for name in CELLS[:4]] == [3 / 16, 1 / 16, 0, 0]
    wanted = -4 * (3 / 16 * math.log(3 / 16) + 1 / 16 * math.log(1 / 16)) / math.log(16)
    assert found["attribution_spread"] == pytest.approx(wanted)
    assert attribution_scores(np.ones(16))["attribution_spread"] == pytest.approx(1)
    assert attribution_scores(np.eye(16)[5])["attribution_spread"] == 0
    nothing = attribution_scores(np.zeros(16))
    assert list(nothing) == list(EXPLAINED)
    assert all(math.isnan(own) for own in nothing.values())


def test_an_hour_is_compared_by_the_means_of_its_cells() -> None:
    before = [Attribution(0, np.eye(16)[0], 0.25), Attribution(1, -3 * np.eye(16)[1], 0.75)]
    made = AttributionReference.of(before, COALITIONS)
    found = made.compare([Attribution(0, np.eye(16)[0] - np.eye(16)[1], 0.5)])
    assert made.expected == 0.5
    assert found["cells"]["cell_r1c1"] == {"before": 0.5, "now": 1}
    assert found["cells"]["cell_r1c2"] == {"before": 1.5, "now": 1}
    assert found["distance"] == pytest.approx(0.25)
    assert found["expected_value"] == 0.5
    assert found["ndcg"] < 1  # of equal cells the first one comes first


def _reference() -> AttributionReference:
    return AttributionReference.of(_pictures(MIDDLE, 60, np.random.default_rng(0)), COALITIONS)


def test_it_is_read_as_it_was_written() -> None:
    made = _reference()
    found = AttributionReference.from_arrays(made.arrays())
    np.testing.assert_array_equal(found.sizes, made.sizes)
    assert found.expected == made.expected
    np.testing.assert_array_equal(found.coalitions.coalitions, COALITIONS.coalitions)
    np.testing.assert_array_equal(found.coalitions.weights, COALITIONS.weights)
    with pytest.raises(KeyError, match="attribution_sizes"):
        AttributionReference.from_arrays({})


@pytest.mark.parametrize(
    ("name", "value"),
    [("coalitions", np.zeros((32, 3))), ("sizes", np.zeros((0, 16))), ("weights", np.zeros(2))],
)
def test_arrays_of_other_shapes_are_refused(name: str, value: np.ndarray) -> None:
    with pytest.raises(ValueError, match="arrays of other shapes"):
        AttributionReference.from_arrays(_reference().arrays() | {f"attribution_{name}": value})


def test_explanations_have_sagemakers_form() -> None:
    found = explanations(np.stack([MIDDLE, MIDDLE]), 0.25)
    values = found["kernel_shap"]["label0"]["global_shap_values"]
    assert list(values) == list(CELLS)
    assert values["cell_r2c2"] == 0.3
    assert found["kernel_shap"]["label0"]["expected_value"] == 0.25
