"""Answers are plain data in the pixels of the picture that was sent, as worked by hand."""

import base64
import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regrow.deploy.serving.answers import numbers, predictions


def model(kind: str, classes: list[str], **suppression: int) -> Any:
    """Return what answers ask of a model, whose images are of 10 by 20."""
    return SimpleNamespace(
        kind=kind, classes=classes, size=(10, 20), onnx=SimpleNamespace(suppression=suppression)
    )


def test_a_label_is_the_most_probable_class() -> None:
    rows = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    first, second = predictions(
        model("labels", ["a", "b"]), {"probabilities": rows}, [(1, 1), (9, 9)]
    )
    assert first == {"label": "b", "score": 0.75, "scores": {"a": 0.25, "b": 0.75}}
    assert second["label"] == "a"


def test_boxes_grow_with_each_side_of_their_own_picture() -> None:
    outputs = {
        "boxes": np.array([[[1, 2, 3, 4], [0, 0, 20, 10]]] * 2, np.float32),
        "scores": np.array([[[0.5, 0.25], [0.0, 0.75]]] * 2, np.float32),
        "selected": np.array([[0, 0, 0], [1, 1, 1], [0, 1, 1]]),
    }
    first, second = predictions(model("boxes", ["a", "b"]), outputs, [(30, 20), (10, 40)])
    assert first["objects"] == [
        {"label": "b", "score": 0.75, "box": [0, 0, 20, 30]},
        {"label": "a", "score": 0.5, "box": [1, 6, 3, 12]},
    ]
    assert second["objects"] == [{"label": "b", "score": 0.75, "box": [0, 0, 40, 10]}]
    (limited, _) = predictions(
        model("boxes", ["a", "b"], max_detections=1), outputs, [(30, 20), (10, 40)]
    )
    assert [one["label"] for one in limited["objects"]] == ["b"]


def test_a_picture_without_objects_has_an_empty_list() -> None:
    outputs = {
        "boxes": np.zeros((1, 2, 4), np.float32),
        "scores": np.zeros((1, 2, 2), np.float32),
        "selected": np.zeros((0, 3), np.int64),
    }
    assert predictions(model("boxes", ["a", "b"]), outputs, [(5, 5)]) == [{"objects": []}]


@pytest.mark.parametrize("num_classes", [3, 256, 257, 300])
def test_a_mask_is_a_png_of_indices_at_the_pictures_size(num_classes: int) -> None:
    classes = [f"class {n}" for n in range(num_classes)]
    mask = np.zeros((10, 20), np.int64)
    mask[:5, :10] = num_classes - 1
    (found,) = predictions(model("masks", classes), {"mask": mask[None]}, [(20, 60)])
    with Image.open(io.BytesIO(base64.b64decode(found["mask"]))) as opened:
        assert opened.format == "PNG"
        assert opened.mode == ("L" if num_classes <= 256 else "I;16")
        pixels = np.asarray(opened)
    assert np.array_equal(pixels, mask.repeat(2, axis=0).repeat(3, axis=1))
    assert found["classes"] == classes
    assert [*found["shares"]] == classes
    wanted = {classes[0]: 0.75, classes[-1]: 0.25}
    assert {name: share for name, share in found["shares"].items() if share} == wanted


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (np.array([[1, 2], [3, 4]], np.int64).T, [1, 3, 2, 4]),
        (np.array([0.5, np.nan, np.inf, -np.inf], np.float32), [0.5, None, None, None]),
        (np.array([True, False]), [True, False]),
        (np.array(0.25, np.float16), [0.25]),
        (np.zeros((0, 3)), []),
    ],
)
def test_numbers_are_in_row_major_order_and_finite(values: np.ndarray, wanted: list[Any]) -> None:
    found = numbers(values)
    assert found == wanted
    assert [type(value) for value in found] == [type(value) for value in wanted]
