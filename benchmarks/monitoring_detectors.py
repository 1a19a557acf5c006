"""First alarms in streams of scores: the monitor's detectors, and a KS test per window beside them.

Streams are arrays (pictures, scores). An alarm is told as the number of pictures until it, infinite
if there is none. A set of scores shares one level of false alarms.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import binom, ks_2samp

from regrow.monitor.alarms.risk import RiskDetector, level, promise, proportion_interval
from regrow.monitor.alarms.shift import ShiftDetector, ranks

RUN_LENGTH = 1e6  # pictures to a false alarm, in the mean
WINDOW, SIGNIFICANCE = 200, 0.05  # of the KS test
Sets = Mapping[str, Sequence[int]]  # columns of scores by the name of the set


def warnings(
    reference: np.ndarray, stream: np.ndarray, random: np.random.Generator, sets: Sets
) -> dict[str, float]:
    """Return when each set of scores first warns.

    Args:
        reference: The scores of the reference, (n, scores).
        stream: Those of a stream, (m, scores).
        random: Breaks ties.
        sets: The sets.
    """
    found = dict.fromkeys(sets, math.inf)
    for column in range(stream.shape[1]):
        own = [name for name, columns in sets.items() if column in columns]
        if not own:
            continue
        u = ranks(np.sort(reference[:, column]), stream[:, column], random.random(len(stream)))
        logs = ShiftDetector(len(reference)).add_(u, np.arange(len(u), dtype=np.float64))
        for name in own:
            over = logs >= level(RUN_LENGTH, len(sets[name]))
            found[name] = min(found[name], _first(over))
    return found


def warning(reference: np.ndarray, stream: np.ndarray, random: np.random.Generator) -> float:
    """Return when one score, (n,) and (m,), first warns."""
    return warnings(reference[:, None], stream[:, None], random, {"": [0]})[""]


def windows(
    reference: np.ndarray, stream: np.ndarray, columns: Sequence[int]
) -> tuple[float, float]:
    """Return when a window first differs by the KS test, with Bonferroni's correction and without.

    Args:
        reference: The scores of the reference, (n, scores).
        stream: Those of a stream, (m, scores).
        columns: The scores that are tested.
    """
    found = [math.inf, math.inf]
    for stop in range(WINDOW, len(stream) + 1, WINDOW):
        part = stream[stop - WINDOW : stop]
        least = min(
            ks_2samp(reference[:, column], part[:, column], method="asymp").pvalue
            for column in columns
        )
        for place, limit in enumerate((SIGNIFICANCE / len(columns), SIGNIFICANCE)):
            if least < limit:
                found[place] = min(found[place], float(stop))
        if math.isfinite(found[0]):
            break
    return found[0], found[1]


def act(
    losses_before: np.ndarray, losses: np.ndarray, random: np.random.Generator
) -> tuple[float, float]:
    """Return after how many labels the alarm on labelled loss comes, and the promised limit."""
    limit = promise(losses_before, random.random(len(losses_before))).limit
    logs = RiskDetector(limit).add_(losses, np.arange(len(losses), dtype=np.float64))
    return _first(logs >= level(RUN_LENGTH)), limit


def _first(over: np.ndarray) -> float:
    places = np.flatnonzero(over)
    return float(places[0] + 1) if len(places) else math.inf


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Compute the 95 % interval of a median, by the order of the values."""
    ordered = sorted(values)
    low = max(int(binom.ppf(0.025, len(ordered), 0.5)) - 1, 0)
    return ordered[low], ordered[len(ordered) - 1 - low]


def shown(values: Sequence[float]) -> str:
    """Format the median of delays with its interval; those below 0 are alarms before the change."""
    false = sum(value < 0 for value in values)
    if false == len(values):
        return f"{false} of {len(values)} before"
    kept = [value for value in values if value >= 0]
    missed = sum(math.isinf(value) for value in kept)
    if missed == len(kept):
        return "never"
    middle, (low, high) = float(np.median(kept)), median_interval(kept)
    ends = " to ".join(f"{end:,.0f}" if math.isfinite(end) else "never" for end in (low, high))
    text = f"{middle:,.0f}" if math.isfinite(middle) else "never"
    more = f", {missed} missed" if missed else ""
    return f"{text} ({ends}{more}{f', {false} before' if false else ''})"


def share(count: int, total: int) -> str:
    """Format how many streams alarm, with the exact 95 % interval."""
    low, high = proportion_interval(count, total)
    return f"{count} of {total} ({low:.0%} to {high:.0%})"
