"""Truths in all their spellings, and losses worked out by hand."""

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regrow.errors import BadInput
from regrow.monitor.files.ground_truth import Label
from regrow.monitor.truths import confusion, loss_of, mask_of, parse_truth

CLASSES = ["car", "dog", "7"]


def _png(mask: Any) -> str:
    file = io.BytesIO()
    Image.fromarray(np.asarray(mask, dtype=np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _runs(counts: list[int], *size: int) -> dict[str, Any]:
    return {"size": size or (2, 2), "counts": counts}


def _label(content: Any) -> Label:
    return Label("e", content if isinstance(content, str) else json.dumps(content), "JSON")


@pytest.mark.parametrize(
    ("text", "name"), [("1", "dog"), ("dog\n", "dog"), ('"dog"', "dog"), ("1.0", "dog"), ("7", "7")]
)
def test_a_class_is_a_name_or_a_number(text: str, name: str) -> None:
    assert parse_truth(_label(text), "labels", CLASSES) == name


@pytest.mark.parametrize("label", [7, 7.0, "7", "7\n"])
def test_a_class_whose_name_is_a_number_is_no_place(label: Any) -> None:
    classes = [str(number) for number in range(1, 9)]
    assert parse_truth(_label(str(label)), "labels", classes) == "7"
    boxes = _label({"objects": [{"label": label, "box": [0, 0, 1, 1]}]})
    assert parse_truth(boxes, "boxes", classes) == [("7", (0, 0, 1, 1))]


def test_boxes_are_corners_or_coco_s() -> None:
    expected = [("dog", (1, 2, 4, 6)), ("car", (0, 0, 1, 1))]
    objects = [{"label": "dog", "box": [1, 2, 4, 6]}, {"label": 0, "box": [0, 0, 1, 1]}]
    assert parse_truth(_label({"objects": objects}), "boxes", CLASSES) == expected
    annotations = [
        {"category_name": "dog", "bbox": [1, 2, 3, 4]},
        {"category_id": 0, "bbox": [0, 0, 1, 1]},
        {"category_id": 0, "bbox": [0, 0, 9, 9], "iscrowd": 1},
    ]
    assert parse_truth(_label({"annotations": annotations}), "boxes", CLASSES) == expected


def test_a_mask_is_a_png_or_coco_s_run_lengths() -> None:
    mask = np.array([[0, 1], [255, 2]])
    np.testing.assert_array_equal(parse_truth(_label({"mask": _png(mask)}), "masks", CLASSES), mask)
    # By columns car, unknown, dog, and class 2 of its number.
    masks = {
        "car": {"size": [2, 2], "counts": [0, 1, 3]},
        "dog": {"size": [2, 2], "counts": "211"},  # compressed
        2: {"size": [2, 2], "counts": [3, 1]},
    }
    found = parse_truth(_label({"masks": masks}), "masks", CLASSES)
    np.testing.assert_array_equal(found, mask)


@pytest.mark.parametrize(
    ("content", "kind", "match"),
    [
        ("cat", "labels", "the class 'cat' is none"),
        ("99", "labels", "none of the model's"),
        ("{", "boxes", "not JSON"),
        ("[]", "boxes", "no object of JSON"),
        ({}, "boxes", "no boxes as regrow reads them"),
        ({"objects": [{"label": "dog", "box": [4, 0, 1, 1]}]}, "boxes", "no boxes"),
        ({"objects": [{"label": "dog", "box": [0, 0, 1]}]}, "boxes", "no boxes"),
        ({"objects": 3}, "boxes", "no boxes"),
        ({"mask": "!"}, "masks", "no masks"),
        ({"mask": _png(np.zeros((2, 2, 3)))}, "masks", "no masks"),
        ({"mask": "QUJD"}, "masks", "corrupt"),
        ({"masks": []}, "masks", "no masks"),
        ({"masks": {}}, "masks", "no masks"),
        ({"masks": {"car": []}}, "masks", "no masks"),
        ({"masks": {"cat": _runs([0, 4])}}, "masks", "the class 'cat' is none of the model's"),
        ({"masks": {"car": _runs([0, 3])}}, "masks", "no masks"),
        ({"masks": {"car": _runs([0, 4]), "dog": _runs([3, 1])}}, "masks", "no masks"),
        ({"masks": {"car": _runs([4]), "dog": _runs([0, 4], 4, 1)}}, "masks", "no masks"),
        ({"masks": {"car": _runs([0], 0, 4)}}, "masks", "no masks"),
        ({"masks": {"car": _runs([0, 4], -2, -2)}}, "masks", "no masks"),
        ({"masks": {"car": _runs([10**10], 10**5, 10**5)}}, "masks", "no masks"),
    ],
)
def test_other_truths_are_refused(content: Any, kind: str, match: str) -> None:
    with pytest.raises(BadInput, match=match):
        parse_truth(_label(content), kind, CLASSES)


def test_the_loss_of_a_class_is_0_or_1() -> None:
    assert loss_of({"label": "dog"}, "dog", CLASSES) == 0
    assert loss_of({"label": "car"}, "dog", CLASSES) == 1
    for label in (7, 7.0, "7", "7\n"):
        assert loss_of({"label": label}, "7", CLASSES) == 0


def test_the_loss_of_boxes_is_1_less_f1() -> None:
    def found(*objects: tuple[str, float, list[float]]) -> dict[str, Any]:
        return {"objects": [{"label": n, "score": s, "box": b} for n, s, b in objects]}

    truth: Any = [("dog", (0, 0, 10, 10)), ("car", (20, 20, 30, 30))]
    assert loss_of(found(), [], CLASSES) == 0
    assert loss_of(found(), truth, CLASSES) == 1
    assert loss_of(found(("dog", 0.9, [0, 0, 10, 10])), [], CLASSES) == 1
    right = [("dog", 0.9, [0, 0, 10, 10]), ("car", 0.8, [20, 20, 30, 30])]
    assert loss_of(found(*right), truth, CLASSES) == 0
    # One hit of the two, a second box on the same object, one of the wrong class, one unsure.
    more = [
        ("dog", 0.9, [0.0, 0, 10, 10]),
        ("dog", 0.8, [0.0, 0, 10, 9]),
        ("dog", 0.7, [20.0, 20, 30, 30]),
        ("car", 0.1, [20.0, 20, 30, 30]),
    ]
    assert loss_of(found(*more), truth, CLASSES) == pytest.approx(1 - 2 * 1 / (3 + 2))


def test_the_loss_of_a_mask_is_1_less_its_mean_iou() -> None:
    truth = np.array([[0, 0, 1, 255]])
    prediction = {"mask": _png([[0, 1, 1, 2]])}
    # car: 1 of 2; dog: 1 of 2; the pixel of unknown truth does not count.
    assert loss_of(prediction, truth, CLASSES) == pytest.approx(0.5)
    assert loss_of(prediction, np.full((1, 4), 255), CLASSES) == 0
    assert confusion(np.array([[0, 1]]), np.array([[1, 1]]), 2).tolist() == [[0, 0], [1, 1]]
    masks = {"dog": _runs([1, 2, 1], 1, 4), "car": _runs([0, 1, 3], 1, 4), "7": _runs([3, 1], 1, 4)}
    in_runs = {"masks": masks, "classes": CLASSES}
    np.testing.assert_array_equal(mask_of(in_runs), mask_of(prediction))
    assert loss_of(in_runs, truth, CLASSES) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("prediction", "truth"),
    [
        ({"label": "dog"}, []),
        ({"objects": [{"label": "a", "score": 0.5}]}, [("dog", (0, 0, 1, 1))]),
        ({"mask": _png([[0, 0]])}, np.zeros((1, 3))),
        ({"mask": _png([[9, 0]])}, np.zeros((1, 2))),
        ({"objects": []}, "dog"),
        ({"masks": {"car": _runs([0, 2], 1, 2)}}, np.zeros((1, 3))),
        ({"masks": {"car": _runs([0, 1, 1], 1, 2)}, "classes": ["car"]}, np.zeros((1, 2))),
        ({"masks": {"car": _runs([0, 2], 1, 2)}, "classes": 3}, np.zeros((1, 2))),
    ],
)
def test_a_prediction_of_another_kind_is_refused(prediction: Any, truth: Any) -> None:
    with pytest.raises(BadInput, match="another kind or size than its truth"):
        loss_of(prediction, truth, CLASSES)
