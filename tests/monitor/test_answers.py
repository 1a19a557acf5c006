"""Features of answers: of the three tasks, and of what is no answer."""

import math
from typing import Any

import pytest

from regrow.errors import BadInput
from regrow.monitor.answers import entropy, prediction_features, predictions_of

CLASSES = ["car", "dog"]


def test_a_classification() -> None:
    given = {"label": "car", "score": 0.75, "scores": {"car": 0.75, "dog": 0.25}}
    expected = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert prediction_features(given, CLASSES, None) == {
        "predicted_class": "car",
        "confidence": 0.75,
        "entropy": pytest.approx(expected, abs=1e-4),
        "probability of car": 0.75,
        "probability of dog": 0.25,
    }
    listed = {"label": "car", "score": 0.75, "scores": [0.75, 0.25], "classes": CLASSES}
    assert prediction_features(listed, CLASSES, None) == prediction_features(given, CLASSES, None)


@pytest.mark.parametrize("label", [1, 1.0, "1", "1\n"])
def test_a_class_that_is_a_number_is_one_class_however_it_is_written(label: Any) -> None:
    found = prediction_features({"label": label, "score": label}, ["1"], None)
    assert found == {"predicted_class": "1", "confidence": 1.0}
    boxes = [{"label": label, "score": 0.5, "box": [0, 0, 1, 1]}]
    assert prediction_features({"objects": boxes}, ["1"], None)["boxes of 1"] == 1


def test_an_answer_that_was_rounded_has_the_same_features() -> None:
    exact = {"label": "car", "score": 0.99998, "scores": {"car": 0.99998, "dog": 0.00002}}
    rounded = {"label": "car", "score": 1.0, "scores": {"car": 1.0, "dog": 0.0}}
    assert prediction_features(exact, CLASSES, None) == prediction_features(rounded, CLASSES, None)


def test_a_detection() -> None:
    objects = [
        {"label": "dog", "score": 0.5, "box": [0, 0, 10, 20]},
        {"label": "dog", "score": 0.9, "box": [10, 10, 30, 20]},
    ]
    assert prediction_features({"objects": objects}, CLASSES, (100, 50)) == {
        "predicted_class": "dog",
        "boxes": 2,
        "box_score": 0.7,
        "box_aspect": (0.5 + 2) / 2,
        "box_area": 200 / 5000,
        "boxes of car": 0,
        "boxes of dog": 2,
    }


def test_a_picture_without_objects_has_no_box_to_measure() -> None:
    found = prediction_features({"objects": []}, CLASSES, (10, 10))
    assert found["boxes"] == 0
    assert found["predicted_class"] == "none"
    assert found["box_score"] is found["box_aspect"] is found["box_area"] is None


def test_a_mask() -> None:
    given = {"mask": "", "classes": CLASSES, "shares": {"car": 0.5, "dog": 0.5}}
    assert prediction_features(given, CLASSES, None) == {
        "predicted_class": "car",
        "mask_entropy": 1,
        "share of car": 0.5,
        "share of dog": 0.5,
    }


def test_entropy_lies_between_one_class_and_all_alike() -> None:
    assert entropy([1, 0, 0]) == entropy([]) == 0
    assert entropy([0.2] * 5) == 1


@pytest.mark.parametrize("answer", [None, [], "x", {}, {"predictions": 1}, {"predictions": ["x"]}])
def test_what_is_no_answer_is_refused(answer: Any) -> None:
    with pytest.raises(BadInput, match="without a list of predictions"):
        predictions_of(answer)
    assert predictions_of({"predictions": [{}]}) == [{}]


@pytest.mark.parametrize(
    "prediction",
    [
        {"label": "a", "score": "high"},
        {"label": "a"},
        {"label": "a", "score": math.nan},
        {"label": "a", "score": 2},
        {"label": "a", "score": 0.5, "scores": [0.5]},
        {"objects": [{"label": "a", "score": 1, "box": [0, 1, 2]}]},
        {"objects": [{"label": "a", "score": 1, "box": [0, 0, math.inf, 2]}]},
        {"objects": [3]},
        {"objects": 3},
        {"shares": {"a": None}},
    ],
)
def test_values_of_another_kind_are_refused(prediction: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="values of another kind"):
        prediction_features(prediction, CLASSES, (10, 10))


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(BadInput, match="neither a label, objects, nor shares"):
        prediction_features({"text": "hello"}, CLASSES, None)
