"""Metrics stand in SageMaker's form with intervals; small groups are only counted."""

import json
from typing import Any

import numpy as np
import pytest

from regrow.metrics.evidence import BoxEvidence
from regrow.monitor.alarms.risk import DELTA
from regrow.monitor.bias.constraints import EDGES, POST, PRE, BiasConstraints
from regrow.monitor.bias.facets import Subject
from regrow.monitor.bias.gaps import GAP, gap_bounds
from regrow.monitor.bias.intervals import Share, difference_interval
from regrow.monitor.bias.measuring import Measured, measure, reference_parts
from regrow.monitor.bias.metrics import Counts
from regrow.monitor.bias.observations import Observation, Observations
from regrow.monitor.bias.outcomes import ranked_boxes

SUBJECT = Subject("labels", ("cat", "dog"), "dog")
UNKNOWN = BiasConstraints("dog")
# True and false positives, false and true negatives of two cameras.
CAMERAS = {"1": (30, 10, 10, 50), "2": (4, 1, 6, 29)}


def _observed(
    counts: dict[str, tuple[int, ...]] = CAMERAS, facet: str = "camera", **own: Any
) -> Observations:
    made = Observations(own.pop("subject", SUBJECT), has_truth=own.pop("has_truth", True))
    for value, parts in counts.items():
        for place, count in enumerate(parts):
            outcome = Counts.of(*(float(place == other) for other in range(4)))
            for _ in range(count):
                made.add(Observation({facet: value}, outcome, 0.0, len(made) + 1, **own))
    return made


def _metrics(made: Measured, stage: str = POST, value: int = 1) -> dict[str, dict[str, Any]]:
    return {own["name"]: own for own in made.parts[stage]["facets"]["camera"][value]["metrics"]}


def test_the_form_is_that_of_sagemakers_file() -> None:
    pictures = _observed()
    made = measure(pictures, pictures, ["camera"], UNKNOWN)
    assert {*made.parts} == {PRE, POST}
    for part in made.parts.values():
        assert (part["label"], part["label_value_or_threshold"]) == ("class", "dog")
        assert [row["value_or_threshold"] for row in part["facets"]["camera"]] == ["1", "2"]
    assert {*_metrics(made, PRE)} == {"CI", "DPL", "JS", "KL", "KS", "LP", "TVD"}
    names = {"AD", "DAR", "DCA", "DCR", "DI", "DPPL", "DRR", "GE", "RD", "SD", "TE"}
    assert {*_metrics(made)} == names
    own = _metrics(made)["AD"]
    assert (own["description"], own["value"]) == (
        "Accuracy Difference (AD)", pytest.approx(80 / 100 - 33 / 40)
    )  # fmt: skip
    json.dumps(made.parts, allow_nan=False)


def test_intervals_are_of_the_shares_that_are_compared() -> None:
    pictures = _observed()
    found = _metrics(measure(pictures, pictures, ["camera"], UNKNOWN))
    recall = difference_interval(Share.of(30 / 40, 40), Share.of(4 / 10, 10))
    assert found["RD"]["interval"] == pytest.approx([*recall])
    negatives = difference_interval(Share.of(29 / 30, 30), Share.of(50 / 60, 60))
    assert found["SD"]["interval"] == pytest.approx([*negatives])
    low, high = found["DI"]["interval"]
    assert low < found["DI"]["value"] < high
    assert "interval" not in found["TE"]


def test_groups_below_the_smallest_size_are_counted_and_have_no_metric() -> None:
    pictures = _observed({**CAMERAS, "3": (1, 1, 1, 9)})
    made = measure(pictures, pictures, ["camera"], UNKNOWN, smallest=30)
    assert [row["value_or_threshold"] for row in made.parts[POST]["facets"]["camera"]] == ["1", "2"]
    row = made.facets["camera"]["3"]
    assert row == {"pictures": 12, "labelled": 12, "predicted": None, "wrong": None}
    # A side with none of the rest has no metric either.
    alone = _observed({"1": (30, 10, 10, 50)})
    assert measure(alone, alone, ["camera"], UNKNOWN).parts == {}


def test_metrics_of_predictions_are_of_all_pictures_and_others_of_the_labelled_ones() -> None:
    pictures = _observed(has_truth=False)
    labelled = _observed({"1": (0, 30, 0, 0), "2": (30, 0, 0, 0)})
    made = measure(pictures, labelled, ["camera"], UNKNOWN)
    found = _metrics(made)
    assert found["DPPL"]["value"] == pytest.approx(40 / 100 - 5 / 40)
    assert found["AD"]["value"] == -1
    alone = measure(pictures, None, ["camera"], UNKNOWN)
    assert {*_metrics(alone)} == {"DI", "DPPL"}
    assert {*_metrics(alone, PRE)} == {"CI"}
    row = made.facets["camera"]["2"]
    assert (row["pictures"], row["labelled"]) == (40, 30)
    assert row["predicted"]["value"] == pytest.approx(5 / 40)
    assert row["wrong"] == {"value": 0.0, "rest": 1.0, "interval": row["wrong"]["interval"]}
    assert row["wrong"]["interval"][0] == -1


def test_each_is_compared_with_the_reference_and_di_by_its_logarithm() -> None:
    values = {("camera", "2", "DI"): 1.5, ("camera", "2", "DPPL"): 0.1, ("camera", "2", "AD"): -0.5}
    pictures = _observed()
    found = _metrics(measure(pictures, pictures, ["camera"], BiasConstraints("dog", values=values)))
    # DI is .3125: nearer to 0 than 1.5, and yet farther from 1.
    assert (found["DI"]["baseline"], found["DI"]["is_farther"]) == (1.5, True)
    assert found["DPPL"]["is_farther"] is True
    assert found["AD"]["is_farther"] is False
    assert "baseline" not in found["RD"]


def test_infinite_values_are_written_as_sagemaker_writes_them() -> None:
    pictures = _observed({"1": (0, 0, 20, 20), "2": (20, 20, 0, 0)})
    found = _metrics(measure(pictures, pictures, ["camera"], UNKNOWN))
    assert found["DI"]["value"] == "Infinity"
    assert found["DI"]["interval"][1] == "Infinity"


def test_boxes_have_ap_and_no_true_negatives() -> None:
    subject = Subject("boxes", ("cat", "dog"), "dog")
    made, evidence = (
        Observations(subject, has_truth=True),
        {"1": BoxEvidence(1), "2": BoxEvidence(1)},
    )
    random = np.random.default_rng(0)
    for number in range(120):
        value, truth = str(number % 2 + 1), [("dog", (0.0, 0.0, 10.0, 10.0))]
        shift = float(random.choice([0, 9], p=[0.9, 0.1] if value == "1" else [0.5, 0.5]))
        box = {"label": "dog", "score": float(random.random()), "box": [shift, 0, 10 + shift, 10]}
        boxes = ranked_boxes({"objects": [box]}, truth, "dog")
        assert boxes is not None
        evidence[value].update([boxes[0]], [boxes[1]])
        counts = Counts(1, 1, 1, 1, tp=float(shift == 0), fp=float(shift > 0), fn=float(shift > 0))
        made.add(Observation({"camera": value}, counts, 0.0, number + 1, boxes=boxes))
    found = _metrics(measure(made, made, ["camera"], BiasConstraints("dog")))
    assert {"SD", "DRR", "DCR", "GE"}.isdisjoint(found)
    expected = evidence["1"].score() - evidence["2"].score()
    assert found["APD"]["value"] == pytest.approx(expected)
    low, high = found["APD"]["interval"]
    assert 0.1 < low < expected < high


def test_without_an_object_there_is_no_ap() -> None:
    made = Observations(Subject("boxes", ("cat", "dog"), "dog"), has_truth=True)
    for number in range(80):
        boxes = ranked_boxes({"objects": []}, [], "dog")
        made.add(Observation({"camera": str(number % 2)}, Counts(1), 0.0, number + 1, boxes=boxes))
    assert "APD" not in _metrics(measure(made, made, ["camera"], BiasConstraints("dog")))


def test_a_reference_promises_exact_bounds_and_what_is_accepted_above_them() -> None:
    pictures = _observed(facet="brightness")
    parts = reference_parts(pictures, {"brightness": (0.3, 0.6)})
    assert parts[EDGES] == {"brightness": [0.3, 0.6]}
    assert parts[POST]["gap"] == GAP
    rows = parts[POST]["facets"]["brightness"]
    metrics = {own["name"]: own for own in rows[1]["metrics"]}
    assert {name for name, own in metrics.items() if "limit" in own} == {"AD", "DPPL"}
    code = pictures.values("brightness")["2"]
    for name, column in (("AD", "right"), ("DPPL", "predicted")):
        stream = pictures.stream("brightness", column)
        low, high = gap_bounds(stream, code, f"{name} brightness 2", DELTA / 4)
        most = max(-low, 0) if name == "AD" else max(-low, high)
        assert metrics[name]["limit"] == pytest.approx(most + GAP)
        assert abs(metrics[name]["value"]) < metrics[name]["limit"]


def test_a_reference_of_few_pictures_promises_nothing_but_keeps_its_label() -> None:
    parts = reference_parts(_observed({"1": (3, 3, 3, 3), "2": (1, 1, 1, 1)}), {})
    about = {"label": "class", "label_value_or_threshold": "dog", "gap": GAP, "facets": {}}
    assert parts == {POST: about}
