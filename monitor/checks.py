"""Checks of one hour against the constraints, of the kinds that SageMaker Model Monitor has.

Whether pictures can be decoded, are blank or of odd sizes, and whether features are complete, is
known for certain: a violation at once. Distances of distributions only describe an hour; what
says that something has changed are the alarms.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import chdtrc

from regrow.monitor.features import PICTURE
from regrow.monitor.files.constraints import Comparison, Constraint, Constraints
from regrow.monitor.files.violations import Violation
from regrow.monitor.rows import METADATA
from regrow.monitor.summary import Feature, Summary
from regrow.text import plural

NUM_NAMES = 5  # texts that a line names
FEWEST = 5  # pictures expected of a category, below which chi-squared says nothing


def check(
    summary: Summary,
    reference: Summary,
    constraints: Constraints,
    num_corrupt: int,
    not_captured: frozenset[str] = frozenset(),
) -> tuple[list[Violation], dict[str, float]]:
    """Return the constraints that an hour does not meet, and each feature's distance.

    Args:
        summary: The features of the hour.
        reference: Those of the reference.
        constraints: What is asked.
        num_corrupt: How many pictures could not be decoded.
        not_captured: Features that cannot be there, as inputs or outputs are not captured.
    """
    if not constraints.is_on or not summary.num_items:
        return [], {}
    found = _of_pictures(summary, constraints, num_corrupt)
    distances: dict[str, float] = {}
    known = {own.name for own in constraints.features}
    for own in constraints.features:
        feature = summary.features.get(own.name)
        if feature is None:
            if own.completeness > 0 and own.name not in not_captured:
                words = "no picture has this feature"
                found.append(Violation(own.name, "missing_column_check", words))
            continue
        found += _of_feature(own, feature, constraints)
        before = reference.features.get(own.name)
        comparison = own.comparison or constraints.comparison
        if before is not None and comparison.is_on:
            distance = _distance(before, feature, comparison)
            if distance is not None:
                distances[own.name] = distance
                found += _drift(own.name, before, distance, comparison)
    for name in sorted(summary.features.keys() - known):
        # A baseline of before a feature of ours was there does not watch it.
        if name in PICTURE or name.startswith(METADATA):
            continue
        words = "the reference has no such feature; make the baseline again to watch it"
        found.append(Violation(name, "extra_column_check", words, is_descriptive=True))
    return found, distances


def _of_pictures(summary: Summary, asked: Constraints, num_corrupt: int) -> list[Violation]:
    found, count = [], summary.num_items
    if num_corrupt > asked.max_corrupt * count:
        words = f"{plural(num_corrupt, 'picture')} of {count:,} cannot be decoded"
        found.append(Violation("image", "completeness_check", words))
    blank = summary.features.get("blank")
    share = blank.numbers.mean if blank is not None and blank.numbers.count else 0.0
    if share > asked.max_blank:
        words = f"{share:.2%} of the pictures are blank, more than {asked.max_blank:.2%}"
        found.append(Violation("blank", "categorical_values_check", words))
    for name in ("width", "height"):
        own = summary.features.get(name)
        if asked.sides is None or own is None or not own.numbers.count:
            continue
        low, high = own.numbers.low, own.numbers.high
        if low < asked.sides[0] or high > asked.sides[1]:
            words = f"from {low:g} to {high:g} pixels, outside {asked.sides[0]} to {asked.sides[1]}"
            found.append(Violation(name, "categorical_values_check", words))
    return found


def _of_feature(own: Constraint, feature: Feature, asked: Constraints) -> list[Violation]:
    found = []
    present = feature.num_present
    total = present + feature.num_missing
    if present < own.completeness * total:
        words = f"{present / total:.2%} of the pictures have it, less than {own.completeness:.2%}"
        found.append(Violation(own.name, "completeness_check", words))
    if not present:
        return found
    is_text = own.kind == "String"
    right = feature.texts.count if is_text else feature.numbers.count
    if own.kind != "Unknown" and right < asked.type_share * present:
        words = f"{right / present:.2%} of the values are {own.kind}, less than "
        found.append(Violation(own.name, "data_type_check", f"{words}{asked.type_share:.2%}"))
    if own.is_non_negative and feature.numbers.low < 0:
        words = f"the least value is {feature.numbers.low:g}, below 0"
        found.append(Violation(own.name, "data_type_check", words))
    if is_text and own.domain is not None:
        found += _outside(own, feature, asked)
    return found


def _outside(own: Constraint, feature: Feature, asked: Constraints) -> list[Violation]:
    domain = set(own.domain or ())
    known = sum(count for text, count in feature.texts.counts.items() if text in domain)
    share = own.domain_share if own.domain_share is not None else asked.domain_share
    if known >= share * feature.texts.count:
        return []
    names = sorted(text for text in feature.texts.counts if text not in domain)
    more = ", ..." if len(names) > NUM_NAMES else ""
    part = known / feature.texts.count
    words = (
        f"{part:.2%} of the values are in the domain, less than {share:.2%}: "
        f"{', '.join(names[:NUM_NAMES])}{more}"
    )
    return [Violation(own.name, "categorical_values_check", words)]


def _drift(name: str, before: Feature, distance: float, comparison: Comparison) -> list[Violation]:
    is_text = before.kind == "String"
    limit = comparison.categorical_threshold if is_text else comparison.threshold
    if is_text and comparison.categorical_method == "ChiSquared":
        if distance >= limit:
            return []
        words = f"Baseline drift p-value: {distance:.4g} is below threshold: {limit:g}"
    elif distance <= limit:
        return []
    else:
        words = f"Baseline drift distance: {distance:.4g} exceeds threshold: {limit:g}"
    return [Violation(name, "baseline_drift_check", words, is_descriptive=True)]


def _distance(before: Feature, now: Feature, comparison: Comparison) -> float | None:
    if before.kind == "String":
        counts = before.texts.counts, now.texts.counts
        if not now.texts.count or not before.texts.count:
            return None
        if comparison.categorical_method == "ChiSquared":
            return chi_squared(*counts)
        return categorical_distance(*counts)
    if not before.numbers.count or not now.numbers.count:
        return None
    ends = [(own.numbers.low, own.numbers.high) for own in (before, now)]
    pairs = [
        own.numbers.distribution.weighted(*pair)
        for own, pair in zip((before, now), ends, strict=True)
    ]
    return numeric_distance(pairs[0], pairs[1], is_robust=comparison.method == "Robust")


def numeric_distance(
    before: Sequence[tuple[float, int]], now: Sequence[tuple[float, int]], *, is_robust: bool
) -> float:
    """Compute the largest difference of two distribution functions.

    Source: Deequ, `Distance.numericalDistance`: the robust one takes off what samples of these
    sizes differ by from chance, 1.8 ((n + m) / (n m))^0.5, and is at least 0.

    Args:
        before: Values and their counts, ascending.
        now: Likewise.
        is_robust: Whether to allow for chance.
    """
    functions, sizes = [], []
    places = np.unique([value for value, _ in (*before, *now)])
    for pairs in (before, now):
        values, counts = np.array([v for v, _ in pairs]), np.array([c for _, c in pairs])
        sums = np.concatenate([[0], np.cumsum(counts)])
        functions.append(sums[np.searchsorted(values, places, side="right")] / sums[-1])
        sizes.append(float(sums[-1]))
    distance = float(np.abs(functions[0] - functions[1]).max())
    if not is_robust:
        return distance
    return max(0.0, distance - chance(*sizes))


def categorical_distance(before: Mapping[str, int], now: Mapping[str, int]) -> float:
    """Compute the largest difference of the shares of a category, less what chance explains.

    Source: Deequ, `Distance.categoricalDistance` with its robust L-infinity norm.
    """
    n, m = sum(before.values()), sum(now.values())
    shares = [abs(before.get(k, 0) / n - now.get(k, 0) / m) for k in {*before, *now}]
    return max(0.0, max(shares) - chance(n, m))


def chance(n: float, m: float) -> float:
    """Return by how much samples of two sizes differ from chance, as Deequ allows for it."""
    return 1.8 * math.sqrt((n + m) / (n * m))


def chi_squared(before: Mapping[str, int], now: Mapping[str, int]) -> float | None:
    """Compute the p-value of the chi-squared test that two samples have the same shares.

    Categories of which fewer than five pictures are expected count as one.

    Returns:
        The p-value; None where there is nothing to compare.
    """
    n, m = sum(before.values()), sum(now.values())
    table: list[tuple[int, int]] = []
    rare = (0, 0)
    for key in {*before, *now}:
        pair = (before.get(key, 0), now.get(key, 0))
        if sum(pair) * min(n, m) / (n + m) < FEWEST:
            rare = (rare[0] + pair[0], rare[1] + pair[1])
        else:
            table.append(pair)
    if sum(rare):
        table.append(rare)
    if len(table) < 2:
        return None
    observed = np.array(table, dtype=np.float64)
    expected = observed.sum(1, keepdims=True) * observed.sum(0) / observed.sum()
    statistic = float(((observed - expected) ** 2 / expected).sum())
    return float(chdtrc(len(table) - 1, statistic))
