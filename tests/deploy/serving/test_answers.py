"""Answers are plain data in the pixels of the picture that was sent, as worked by hand."""

import base64
import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from faster_coco_eval.core import mask as coco_mask
from PIL import Image

from regrow.deploy.serving import answers
from regrow.deploy.serving.answers import mask_form, numbers, predictions
from regrow.errors import BadInput


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


def test_masks_are_run_lengths_of_the_classes_that_they_show() -> None:
    """Of the same pixels as the PNG, by a decoder of COCO's own format."""
    classes = ["sky", "road", "car", "dog"]
    mask = np.random.default_rng(0).integers(0, 3, (2, 10, 20))
    mask[1] = 1
    for form in ("png", "rle"):
        found = predictions(model("masks", classes), {"mask": mask}, [(21, 60), (10, 20)], form)
        assert [one["classes"] for one in found] == [classes] * 2
        if form == "png":
            shares = [one["shares"] for one in found]
            texts = [base64.b64decode(one["mask"]) for one in found]
            wanted = [np.asarray(Image.open(io.BytesIO(text))) for text in texts]
    assert [[*one["masks"]] for one in found] == [["sky", "road", "car"], ["road"]]
    assert [one["shares"] for one in found] == shares
    assert found[1]["masks"] == {"road": {"size": [10, 20], "counts": [0, 200]}}
    for one, pixels in zip(found, wanted, strict=True):
        assert "mask" not in one
        for name, runs in one["masks"].items():
            decoded = coco_mask.decode(coco_mask.frPyObjects(runs, *runs["size"]))
            assert np.array_equal(decoded, pixels == classes.index(name))


def test_run_lengths_of_too_many_runs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.tile([[0, 1]] * 3, (2, 1, 1))  # of one image [0, 3, 3] and [3, 3]
    made, sizes = model("masks", ["a", "b"]), [(3, 2)] * 2
    monkeypatch.setattr(answers, "NUM_RUNS", 10)
    assert len(predictions(made, {"mask": mask}, sizes, "rle")) == 2
    monkeypatch.setattr(answers, "NUM_RUNS", 9)
    with pytest.raises(BadInput, match="the masks have more than 9 runs; accept masks=png"):
        predictions(made, {"mask": mask}, sizes, "rle")
    assert len(predictions(made, {"mask": mask}, sizes)) == 2


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", "png"),
        ("*/*", "png"),
        ("application/json", "png"),
        ("application/json; masks=png", "png"),
        ("application/json;masks=rle", "rle"),
        ("text/html, application/json;q=0.9; Masks = RLE , */*", "rle"),
    ],
)
def test_the_form_of_masks_is_what_the_client_accepts(accept: str, form: str) -> None:
    assert mask_form(accept) == form


@pytest.mark.parametrize("accept", ["masks=", "application/json; masks=polygons"])
def test_another_form_of_masks_is_refused(accept: str) -> None:
    with pytest.raises(BadInput, match="is accepted; they are png or rle"):
        mask_form(accept)


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
