import json

import pytest
import torch

from regrow.prune.search.pool import Candidate, Point, Pool, curve


def test_a_pool_goes_on_from_plain_data():
    pool = Pool({"seed": 3}, correction=1.25)
    pool.points = [Point(0, 4, 0.5), Point(1, 2, 0.1, latency=0.9)]
    pool.candidates = [
        Candidate((4, 0), 0.5, True, "minimax"),
        Candidate((2, 2), float("inf"), False, "mutation", 0.7),
        Candidate((3, 1), 0.25, True, "mutation", recovered=float("inf")),
    ]
    plain = json.loads(json.dumps(pool.to_plain(12.5)))
    again = Pool.going_on({"seed": 3}, plain)
    assert (again.points, again.candidates) == (pool.points, pool.candidates)
    assert (again.seconds, again.correction) == (12.5, 1.25)


@pytest.mark.parametrize("broken", [None, {}, {"key": {"seed": 4}}, {"key": {"seed": 3}}])
def test_what_was_found_for_another_search_is_of_no_use(broken):
    assert Pool.going_on({"seed": 3}, broken) == Pool({"seed": 3})


@pytest.mark.parametrize(
    "points",
    [
        [[float("inf"), 1, 0.5, None]],
        [[torch.zeros(2), 1, 0.5, None]],
        [[0, 1, 10**400, None]],
        [[0, 1, 0.5]],
        [7],
        7,
        "ab",
    ],
)
def test_what_was_found_and_is_damaged_is_of_no_use(points):
    found = {"key": {}, "points": points, "candidates": [], "correction": 1.0, "seconds": 2.0}
    assert Pool.going_on({}, {**found, "points": []}).seconds == 2.0
    assert Pool.going_on({}, found) == Pool({})


def test_the_best_is_under_the_ceilings():
    pool = Pool({})
    assert pool.best is None
    pool.candidates = [
        Candidate((1,), 0.1, False, "uniform"),
        Candidate((2,), 0.3, True, "ranking"),
        Candidate((3,), 0.2, True, "mutation"),
        Candidate((4,), float("inf"), True, "mutation"),
    ]
    assert [candidate.counts for candidate in pool.ranked()] == [(3,), (2,)]
    assert pool.best == pool.candidates[2]


def test_the_minimax_candidate_is_always_among_those_that_are_tried():
    pool = Pool({})
    distances = {"mutation": 0.1, "ranking": 0.2, "uniform": 0.3, "minimax": 0.4, "knapsack": 0.05}
    pool.candidates = [
        Candidate((place,), distance, origin != "knapsack", origin)
        for place, (origin, distance) in enumerate(distances.items())
    ]
    origins = [candidate.origin for candidate in pool.contenders(3)]
    assert origins == ["mutation", "minimax", "ranking"]
    # The others in their order; what is not legal is never tried.
    assert [c.origin for c in pool.contenders(9)] == [*origins, "uniform"]
    pool.candidates[3] = Candidate((3,), 0.01, True, "minimax")
    assert [c.origin for c in pool.contenders(2)] == ["minimax", "mutation"]
    pool.candidates[3] = Candidate((3,), 0.01, False, "minimax")
    assert [c.origin for c in pool.contenders(2)] == ["mutation", "ranking"]


def test_those_that_were_tried_come_in_the_order_of_what_they_came_to():
    pool = Pool({})
    pool.candidates = [
        Candidate((1,), 0.1, True, "minimax", recovered=0.09),
        Candidate((2,), 0.2, True, "mutation", recovered=float("inf")),
        Candidate((3,), 0.05, True, "mutation"),
        Candidate((4,), 0.4, True, "mutation", recovered=0.01),
        Candidate((5,), 0.3, True, "mutation", recovered=0.01),
    ]
    assert [candidate.counts for candidate in pool.tried()] == [(5,), (4,), (1,), (2,)]


def test_a_curve_is_straight_between_points_and_never_falls():
    ladder = [0, 2, 4, 6, 8, 10]
    found = curve([(0, 0.0), (4, 1.0), (8, 0.5)], ladder)
    assert found == {0: 0, 2: 0.5, 4: 1, 6: 1, 8: 1, 10: 1}
    assert curve([(0, 0.0), (4, 1.0)], ladder) == {0: 0, 2: 0.5, 4: 1, 6: 1.5, 8: 2, 10: 2.5}
