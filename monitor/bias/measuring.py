"""Measuring: the bias metrics of pictures, in the form of SageMaker's `analysis.json`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from regrow.monitor.alarms.risk import CONFIDENCE, DELTA
from regrow.monitor.bias.constraints import EDGES, POST, PRE, WATCHED, BiasConstraints, Key
from regrow.monitor.bias.gaps import GAP, gap_bounds
from regrow.monitor.bias.intervals import Share, difference_interval, ratio_interval
from regrow.monitor.bias.metrics import POST_TRAINING, PRE_TRAINING, Metric, distance, rate
from regrow.monitor.bias.observations import Observations, Side

SMALLEST = 30  # pictures on either side, below which there is no metric
AP = "APD"
AP_WORDS = "Average Precision Difference at an IoU of 0.5 (APD), regrow's"
NUM_RESAMPLES, MOST_RESAMPLED = 100, 20_000  # pictures above which AP has no interval
Pair = tuple[Side, Side] | None  # the rest, and the pictures with a value
Interval = tuple[float, float] | None


@dataclass(slots=True)
class Measured:
    """The metrics of some pictures.

    Args:
        parts: The parts of `analysis.json`.
        facets: For the report, by facet and value: the numbers of pictures and of labels, and the
            shares predicted as the label and answered wrongly, of both sides.
    """

    parts: dict[str, Any] = field(default_factory=dict)
    facets: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)


def measure(
    pictures: Observations,
    labelled: Observations | None,
    facets: Sequence[str],
    constraints: BiasConstraints,
    smallest: int = SMALLEST,
) -> Measured:
    """Compute the bias metrics of pictures, and of those whose truth is known.

    Args:
        pictures: All pictures.
        labelled: Those whose truth is known, perhaps the same.
        facets: The facets.
        constraints: The metrics of the reference, which each metric is compared with.
        smallest: The pictures on either side, below which there is no metric.
    """
    made, kind = Measured(), pictures.subject.kind
    stages: dict[str, dict[str, list[dict[str, Any]]]] = {PRE: {}, POST: {}}
    for facet in facets:
        seen = pictures.sides(facet) if facet in pictures.facets else {}
        known, aps = seen if labelled is pictures else {}, {}
        if labelled is not None and facet in labelled.facets:
            known = known or labelled.sides(facet)
            aps = _average_precisions(labelled, facet)
        made.facets[facet] = {}
        for value in sorted({*seen, *known}):
            pair = (seen.get(value), known.get(value))
            made.facets[facet][value] = _row(*pair, smallest)
            for stage, metrics in ((PRE, PRE_TRAINING), (POST, POST_TRAINING)):
                found = _entries(metrics, *pair, kind, smallest)
                if stage == POST and value in aps and _is_enough(pair[1], smallest):
                    found.append({"name": AP, "description": AP_WORDS} | aps[value])
                told = [_compared(own, (facet, value, own["name"]), constraints) for own in found]
                if told:
                    row = {"value_or_threshold": value, "metrics": told}
                    stages[stage].setdefault(facet, []).append(row)
    about = {"label": "class", "label_value_or_threshold": pictures.subject.label}
    made.parts = {name: {**about, "facets": own} for name, own in stages.items() if own}
    return made


def _is_enough(pair: Pair, smallest: int) -> bool:
    return pair is not None and min(side.num_pictures for side in pair) >= smallest


def _entries(
    metrics: Mapping[str, Metric], seen: Pair, known: Pair, kind: str, smallest: int
) -> list[dict[str, Any]]:
    found = []
    for name, metric in metrics.items():
        pair = known if metric.of_labels else seen
        if pair is None or kind not in metric.kinds or not _is_enough(pair, smallest):
            continue
        value = metric.compute(*(side.counts for side in pair))
        if value is None:
            continue
        own: dict[str, Any] = {"name": name, "description": metric.description, "value": value}
        interval = _interval(name, metric, *pair)
        found.append(own if interval is None else own | {"interval": [*map(_plain, interval)]})
    return found


def _interval(name: str, metric: Metric, rest: Side, facet: Side) -> Interval:
    """Return the interval of a metric that compares one share of both sides."""
    if metric.rate is None:
        return None
    sides = (rest, facet) if metric.of_rest else (facet, rest)
    first, second = (_share(metric.rate, side) for side in sides)
    return ratio_interval(second, first) if name == "DI" else difference_interval(first, second)


def _share(name: str, side: Side) -> Share:
    return Share.of(rate(name, side.counts), side.sizes[name])


def _row(seen: Pair, known: Pair, smallest: int) -> dict[str, Any]:
    """Return for the report the shares of both sides, and the interval of their difference."""
    row: dict[str, Any] = {
        "pictures": 0 if seen is None else seen[1].num_pictures,
        "labelled": 0 if known is None else known[1].num_pictures,
        "predicted": None,
        "wrong": None,
    }
    if _is_enough(seen, smallest):
        rest, facet = (_share("predicted", side) for side in seen or ())
        row["predicted"] = _told(facet.value, rest.value, difference_interval(facet, rest))
    if _is_enough(known, smallest):
        rest, facet = (_share("accuracy", side) for side in known or ())
        row["wrong"] = _told(1 - facet.value, 1 - rest.value, difference_interval(rest, facet))
    return row


def _told(value: float, rest: float, interval: tuple[float, float]) -> dict[str, Any]:
    return {"value": value, "rest": rest, "interval": [*interval]}


def _plain(value: float) -> float | str:
    """Return a number, or how SageMaker writes one that is infinite."""
    return value if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"


def _compared(own: dict[str, Any], key: Key, constraints: BiasConstraints) -> dict[str, Any]:
    """Return a metric beside its value of the reference, by SageMaker's rule; DI by |log|."""
    before, value = constraints.values.get(key), own["value"]
    more: dict[str, Any] = {}
    if before is not None:
        is_farther = distance(key[2], value) > distance(key[2], before)
        more = {"baseline": _plain(before), "is_farther": is_farther}
    return own | {"value": _plain(value)} | more


def _average_precisions(labelled: Observations, facet: str) -> dict[str, dict[str, Any]]:
    """Return the differences of AP of the label, of the rest less that of each value.

    The interval is of the bootstrap by blocks.
    """
    if labelled.subject.kind != "boxes":
        return {}
    evidence, codes, blocks, weights = labelled.ranked(facet)
    if evidence.num_images < len(codes):
        return {}
    sets = np.ones((1, len(codes)))
    if len(codes) <= MOST_RESAMPLED:
        count = int(blocks.max(initial=-1)) + 1
        draw = np.random.default_rng(0)
        drawn = draw.multinomial(count, np.full(count, 1 / count), NUM_RESAMPLES)
        sets = np.vstack([sets, drawn[:, blocks]])
    shown, found = evidence.shown[:, 0].numpy(), {}
    for value, code in labelled.values(facet).items():
        sides = [sets * weights * own for own in ((codes >= 0) & (codes != code), codes == code)]
        # Where a side shows no object of the class, there is no AP.
        both = np.logical_and.reduce([own @ shown > 0 for own in sides])
        if not both[0]:
            continue
        scores = [evidence.scores_of_sets(own[both]) for own in sides]
        differences = scores[0] - scores[1]
        found[value] = {"value": float(differences[0])}
        if len(differences) > 1:
            ends = np.quantile(differences[1:], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
            found[value]["interval"] = ends.tolist()
    return found


def reference_parts(
    pictures: Observations, edges: Mapping[str, tuple[float, float]]
) -> dict[str, Any]:
    """Return the parts of `analysis.json` of a reference, with the limits that alarms hold to.

    Args:
        pictures: The pictures of the reference, with their truth.
        edges: The edges of its terciles.
    """
    label, facets = pictures.subject.label, pictures.facets
    parts = measure(pictures, pictures, facets, BiasConstraints(label)).parts
    rows = [
        (facet, row["value_or_threshold"], metric)
        for facet, found in parts.get(POST, {}).get("facets", {}).items()
        for row in found
        for metric in row["metrics"]
        if metric["name"] in WATCHED
    ]
    for facet, value, metric in rows:
        column = "right" if metric["name"] == "AD" else "predicted"
        stream, code = pictures.stream(facet, column), pictures.values(facet)[value]
        purpose = f"{metric['name']} {facet} {value}"
        low, high = gap_bounds(stream, code, purpose, DELTA / len(rows))
        # AD is the share of right answers of the rest less that of the kind, so minus this gap.
        most = max(-low, 0.0) if metric["name"] == "AD" else max(abs(low), abs(high))
        metric["limit"] = min(most + GAP, 1.0)
    # The label and what is accepted stand there even where nothing could be measured.
    about = {"label": "class", "label_value_or_threshold": label, "gap": GAP, "facets": {}}
    parts[POST] = about | parts.get(POST, {})
    return parts | ({EDGES: {name: [*own] for name, own in edges.items()}} if edges else {})
