"""What a picture adds to the counts: by hand for each of the three kinds."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regrow.errors import BadInput
from regrow.metrics.evidence import BoxEvidence
from regrow.monitor.answers import prediction_features
from regrow.monitor.bias.metrics import Counts
from regrow.monitor.bias.outcomes import outcome_of, predicted_share, ranked_boxes

CLASSES = ["a", "b"]


@pytest.mark.parametrize(
    ("predicted", "truth", "counts"),
    [
        ("b", "b", Counts(1, 1, 1, 1, tp=1)),
        ("b", "a", Counts(1, 0, 1, 0, fp=1)),
        ("a", "b", Counts(1, 1, 0, 0, fn=1)),
        ("a", "a", Counts(1, 0, 0, 1, tn=1)),
    ],
)
def test_a_class_is_one_of_four(predicted: str, truth: str, counts: Counts) -> None:
    loss = float(predicted != truth)
    assert outcome_of({"label": predicted}, truth, loss, "b", CLASSES) == counts


def _object(label: str, score: float, *box: float) -> dict[str, Any]:
    return {"label": label, "score": score, "box": [*box]}


OBJECTS = [
    _object("b", 0.9, 0, 0, 10, 10),  # finds the first
    _object("b", 0.8, 0, 0, 10, 9),  # the same again
    _object("b", 0.2, 20, 20, 30, 30),  # would find the second, but is not sure
    _object("a", 0.9, 20, 20, 30, 30),
]
TRUTH = [
    ("b", (0.0, 0.0, 10.0, 10.0)),
    ("b", (20.0, 20.0, 30.0, 30.0)),
    ("a", (0.0, 0.0, 5.0, 5.0)),
]


def test_objects_are_found_at_an_iou_of_one_half() -> None:
    found = outcome_of({"objects": OBJECTS}, TRUTH, 0.4, "b", CLASSES)
    assert found == Counts(1, 1, 1, 0.6, tp=1, fp=1, fn=1)
    empty = outcome_of({"objects": []}, [("a", (0.0, 0.0, 5.0, 5.0))], 1.0, "b", CLASSES)
    assert empty == Counts(1, 0, 0, 0)


def test_all_boxes_of_the_label_are_evidence_of_ap() -> None:
    boxes = ranked_boxes({"objects": OBJECTS}, TRUTH, "b")
    assert boxes is not None
    evidence = BoxEvidence(1)
    evidence.update([boxes[0]], [boxes[1]])
    # Right, wrong, right: precision 1 up to a recall of .5, then 2/3, at 51 and 50 recalls.
    assert evidence.score() == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert ranked_boxes({"label": "b"}, "b", "b") is None


def _mask(pixels: list[list[int]]) -> str:
    file = io.BytesIO()
    Image.fromarray(np.array(pixels, np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_a_mask_is_split_by_its_known_pixels() -> None:
    prediction = {"mask": _mask([[1, 1, 0], [0, 0, 1]]), "classes": CLASSES, "shares": [0.5, 0.5]}
    truth = np.array([[1, 0, 1], [0, 0, 255]])
    found = outcome_of(prediction, truth, 0.5, "b", CLASSES)
    assert (found.pictures, found.predicted, found.right) == (1, 0.5, 0.5)
    parts = (found.tp, found.fp, found.fn, found.tn)
    assert parts == pytest.approx((1 / 5, 1 / 5, 1 / 5, 2 / 5))
    assert found.positives == pytest.approx(2 / 5)
    void = outcome_of(prediction, np.full((2, 3), 255), 0.0, "b", CLASSES)
    assert (void.tp, void.fp, void.fn, void.tn) == (0, 0, 0, 0)


def test_what_is_predicted_needs_no_truth() -> None:
    assert predicted_share({"label": "b"}, "b") == 1
    assert predicted_share({"objects": OBJECTS[2:]}, "b") == 0
    assert predicted_share({"shares": {"a": 0.75, "b": 0.25}}, "b") == 0.25
    assert predicted_share({"shares": {"a": 1.0}}, "b") == 0


@pytest.mark.parametrize("label", [1, 1.0, "1", "1\n"])
def test_a_class_that_is_a_number_is_one_class_however_it_is_written(label: Any) -> None:
    own = {"label": label, "score": 0.9}
    assert predicted_share(own, "1") == 1
    assert outcome_of(own, "1", 0.0, "1", ["0", "1"]) == Counts(1, 1, 1, 1, tp=1)
    assert predicted_share({"objects": [_object(label, 0.9, 0, 0, 1, 1)]}, "1") == 1
    assert predicted_share({"shares": [0.75, 0.25], "classes": [0, label]}, "1") == 0.25
    assert predicted_share({"shares": {label: 0.25}}, "1") == 0.25


def test_a_share_is_that_of_the_features_of_the_answer() -> None:
    prediction = {"shares": {"a": 0.333349, "b": 1.00001}}
    features = prediction_features(prediction, CLASSES, None)
    for label in CLASSES:
        assert predicted_share(prediction, label) == features[f"share of {label}"]


@pytest.mark.parametrize(
    "prediction",
    [
        {},
        {"objects": 3},
        {"objects": [{"label": "b"}]},
        {"shares": [0.5], "classes": CLASSES},
        {"shares": {"b": 7}},
        {"shares": {"b": "x"}},
    ],
)
def test_strangers_predictions_are_refused(prediction: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="of another kind than the server's"):
        predicted_share(prediction, "b")
