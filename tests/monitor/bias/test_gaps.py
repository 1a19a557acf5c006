"""Gaps are found where they are, never where they are within their limit, and state is exact."""

import math
from itertools import groupby
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from regrow.monitor.alarms.evidence import Evidence
from regrow.monitor.alarms.risk import level
from regrow.monitor.bias.gaps import GAP, GapDetector, gap_bounds, pair_runs
from regrow.monitor.bias.observations import Stream

TOP = level(1e5)


def _stream(codes: Any, values: Any, blocks: Any = None, start: float = 0.0) -> Stream:
    codes, count = np.asarray(codes), len(codes)
    numbers = np.arange(count) if blocks is None else np.asarray(blocks)
    times = start + np.arange(count, dtype=np.float64)
    return Stream(codes, times, numbers, np.asarray(values, dtype=np.float64))


def _random(
    seed: int, count: int, share: float, of_kind: float, of_rest: float, start: float = 0.0
) -> Stream:
    random = np.random.default_rng(seed)
    codes = (random.random(count) < share).astype(int)
    chances = np.where(codes == 1, of_kind, of_rest)
    return _stream(codes, random.random(count) < chances, start=start)


def test_runs_are_paired_as_by_hand() -> None:
    stream = _stream([1, 0, 0, 1, 1, 1, 0, 1], [1, 0, 1, 1, 0, 0, 1, 1])
    steps, carry = pair_runs(stream, 1)
    assert steps.kind.tolist() == [1, pytest.approx(1 / 3)]
    assert steps.rest.tolist() == [0.5, 1]
    assert steps.times.tolist() == [2, 6]
    assert carry == (True, 1, 1)
    more, left = pair_runs(_stream([1, 0], [0, 0], start=10), 1, carry)
    assert (more.kind.tolist(), more.rest.tolist()) == ([0.5], [0])
    assert left is None


@pytest.mark.parametrize("seed", range(5))
def test_runs_are_those_of_a_loop(seed: int) -> None:
    stream = _random(seed, 101, 0.3, 0.5, 0.5)
    steps, carry = pair_runs(stream, 1)
    pairs = zip(stream.codes.tolist(), stream.values.tolist(), strict=True)
    runs = [(code, [v for _, v in own]) for code, own in groupby(pairs, key=lambda pair: pair[0])]
    means = [(code, sum(own) / len(own)) for code, own in runs]
    for number in range(len(runs) // 2):
        by_code = dict(means[2 * number : 2 * number + 2])
        assert (steps.kind[number], steps.rest[number]) == pytest.approx((by_code[1], by_code[0]))
    assert len(steps.kind) == len(runs) // 2
    assert (carry is not None) == bool(len(runs) % 2)


def test_nothing_new_changes_nothing() -> None:
    steps, carry = pair_runs(_stream([], []), 1, (True, 2.0, 1.0))
    assert len(steps.times) == 0
    assert carry == (True, 2.0, 1.0)
    assert GapDetector(GAP, is_two_sided=True).add_(_stream([], []), 1) == -math.inf


def test_a_block_counts_once_and_one_of_both_sides_is_a_pair_of_its_own() -> None:
    #                 block 0: kind; 1: both; 2: rest
    stream = _stream([1, 1, 1, 0, 0, 1, 0], [1, 0, 1, 0, 1, 1, 0], [0, 0, 0, 2, 1, 1, 2])
    steps, carry = pair_runs(stream, 1)
    assert steps.kind.tolist() == [1, pytest.approx(2 / 3)]  # in the order of their ends
    assert steps.rest.tolist() == [1, 0]
    assert steps.times.tolist() == [5, 6]
    assert carry is None


@pytest.mark.parametrize("is_two_sided", [False, True])
@pytest.mark.parametrize(("kind", "rest"), [(0.3, 0.1), (0.2, 0.0), (0.6, 0.4), (1.0, 0.8)])
def test_no_bet_gains_on_average_at_the_limit(kind: float, rest: float, is_two_sided: bool) -> None:
    """Over all four outcomes of a pair, weighed by their probability."""
    detector = GapDetector(0.2, is_two_sided=is_two_sided)
    means = np.zeros(len(detector.sums))
    for one, p in ((1, kind), (0, 1 - kind)):
        for other, q in ((1, rest), (0, 1 - rest)):
            fresh = GapDetector(0.2, is_two_sided=is_two_sided)
            fresh.add_(_stream([1, 0], [one, other]), 1)
            means += p * q * np.exp(fresh.evidence.log_wealth)
    assert (means <= 1 + 1e-12).all()


def test_40_clean_streams_raise_no_alarm_and_a_gap_is_found() -> None:
    clean, delays = 0, []
    for seed in range(40):
        peak = GapDetector(GAP, is_two_sided=False).add_(_random(seed, 10_000, 0.3, 0.1, 0.1), 1)
        clean += peak >= TOP
        detector, count = GapDetector(GAP, is_two_sided=False), 0
        while detector.add_(_random(1000 + seed + count, 50, 0.3, 0.3, 0.1, count), 1) < TOP:
            count += 50
        delays.append(count)
    assert clean == 0
    assert np.median(delays) < 1500


def test_a_gap_at_its_limit_alarms_no_oftener_than_is_accepted() -> None:
    """40 streams of 3,000 pictures, at one alarm in 100,000: 1.2 are accepted, rarely 5."""
    streams = [_random(seed, 3000, 0.5, 0.1 + GAP, 0.1) for seed in range(40)]
    peaks = [GapDetector(GAP, is_two_sided=False).add_(own, 1) for own in streams]
    assert sum(peak >= TOP for peak in peaks) <= 4


def test_a_detector_of_two_sides_finds_both_and_one_of_one_side_finds_harm_alone() -> None:
    for of_kind, found in ((0.6, (True, True)), (0.05, (False, True))):
        stream = _random(3, 4000, 0.4, of_kind, 0.3)
        peaks = [GapDetector(GAP, is_two_sided=two).add_(stream, 1) for two in (False, True)]
        assert tuple(peak >= TOP for peak in peaks) == found


def test_the_size_of_a_gap_is_that_since_it_came() -> None:
    detector = GapDetector(GAP, is_two_sided=False)
    detector.add_(_random(0, 4000, 0.3, 0.1, 0.1), 1)
    for part in range(8):
        detector.add_(_random(50 + part, 500, 0.3, 0.4, 0.1, 4000 + 500 * part), 1)
    effect = detector.effect()
    assert effect is not None
    assert effect.since == pytest.approx(4000, abs=60)
    assert (effect.kind, effect.rest) == pytest.approx((0.4, 0.1), abs=0.05)
    assert effect.interval[0] < effect.kind - effect.rest < effect.interval[1]
    assert effect.interval[1] - effect.interval[0] < 0.1
    assert detector.num_pictures == pytest.approx(8000 * 0.3, abs=150)
    assert GapDetector(GAP, is_two_sided=True).effect() is None


@pytest.mark.parametrize("is_two_sided", [False, True])
def test_a_state_that_is_written_goes_on_exactly(is_two_sided: bool) -> None:
    whole, parts = (GapDetector(0.1, is_two_sided=is_two_sided) for _ in range(2))
    for part in range(5):
        stream = _random(part, 101, 0.3, 0.4, 0.1, 101 * part)
        peaks = [whole.add_(stream, 1), parts.add_(stream, 1)]
        assert peaks[0] == peaks[1]
        parts = GapDetector.from_dict(parts.to_dict(), is_two_sided=is_two_sided)
    assert parts.to_dict() == whole.to_dict()


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"sums": [0.0]}, "no bets on a gap"),
        ({"limit": 2.0}, "no bets on a gap"),
        ({"carry": [True, 1.0, 5.0]}, "no open run"),
        ({"carry": [True, math.inf, 5.0]}, "no open run"),
        ({"bets": Evidence.empty(3).to_list()}, "no evidence of so many bets"),
    ],
)
def test_a_damaged_state_is_refused(change: dict[str, Any], error: str) -> None:
    content = GapDetector(0.1, is_two_sided=False).to_dict() | change
    with pytest.raises(ValueError, match=error):
        GapDetector.from_dict(content, is_two_sided=False)


def test_bounds_of_a_reference_are_exact() -> None:
    stream = _random(1, 300, 0.4, 0.2, 0.05)
    low, high = gap_bounds(stream, 1, "x", 0.02)
    ends = []
    for code in (1, 0):
        own = stream.values[stream.codes == code]
        exact = binomtest(int(own.sum()), len(own)).proportion_ci(0.99, method="exact")
        ends.append((exact.low, exact.high))
    assert (low, high) == pytest.approx((ends[0][0] - ends[1][1], ends[0][1] - ends[1][0]))
    assert gap_bounds(_stream([1, 1], [0, 1]), 1, "x", 0.02) == (-1, 1)


def test_frames_of_a_video_count_once_in_the_bounds() -> None:
    stream = _random(1, 60, 0.5, 0.5, 0.5)
    often = Stream(*(np.repeat(own, 9) for own in (stream.codes, stream.times)),
                   np.repeat(stream.blocks, 9), np.repeat(stream.values, 9))  # fmt: skip
    assert gap_bounds(often, 1, "x", 0.02) == gap_bounds(stream, 1, "x", 0.02)
    # A video with frames of both sides counts on both.
    mixed = _stream([1, 0, 1, 0], [1, 0, 1, 0], [0, 0, 1, 1])
    plain = _stream([1, 0, 1, 0], [1, 0, 1, 0])
    assert gap_bounds(mixed, 1, "x", 0.02) == gap_bounds(plain, 1, "x", 0.02)
