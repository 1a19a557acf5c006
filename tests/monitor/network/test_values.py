"""The value of a prediction is 1 where all of it is still there, and falls with what is lost."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from regrow.monitor.network.served import Outputs
from regrow.monitor.network.values import predicted_class, similarity, value_of

Object = tuple[list[float], list[float], int]  # box, scores by class, label


def _detected(*images: Sequence[Object]) -> Outputs:
    """Return the outputs of a detector of two classes, each object at a place of its own."""
    places = max(max(map(len, images)), 1)
    boxes, scores = np.zeros((len(images), places, 4)), np.zeros((len(images), 2, places))
    selected = []
    for image, objects in enumerate(images):
        for place, (box, own, label) in enumerate(objects):
            boxes[image, place], scores[image, :, place] = box, own
            selected.append((image, label, place))
    rows = np.array(selected, dtype=np.int64).reshape(-1, 3)
    return {"boxes": boxes, "scores": scores, "selected": rows}


def test_that_of_a_class_is_its_probability() -> None:
    found = value_of("labels", {"probabilities": np.array([[0.2, 0.7, 0.1]], np.float32)})
    assert found is not None
    label, value = found
    assert label == 1
    changed = {"probabilities": np.array([[0.5, 0.3, 0.2], [0.0, 1.0, 0.0]])}
    np.testing.assert_allclose(value(changed), [0.3, 1.0])


def test_that_of_boxes_is_worked_by_hand() -> None:
    """D-RISE: the best IoU times the cosine of the scores times the largest score."""
    kept: Object = ([0, 0, 10, 10], [0.8, 0.0], 0)
    found = value_of("boxes", _detected([kept]))
    assert found is not None
    label, value = found
    assert label == 0
    moved: Object = ([5, 0, 15, 10], [0.6, 0.0], 0)  # IoU 50 / 150
    mixed: Object = ([0, 0, 10, 10], [0.3, 0.4], 1)  # cosine 0.6
    far: Object = ([20, 20, 30, 30], [0.9, 0.0], 0)
    changed = _detected([kept], [moved], [mixed], [far], [], [moved, mixed])
    np.testing.assert_allclose(
        value(changed), [0.8, 0.6 / 3, 0.6 * 0.4, 0, 0, max(0.6 / 3, 0.6 * 0.4)]
    )


def test_at_most_three_sure_boxes_are_explained_and_each_counts_the_same() -> None:
    sure: list[Object] = [([20.0 * n, 0, 20 * n + 10, 10], [0.9 - n / 10, 0], 0) for n in range(4)]
    doubtful: Object = ([0, 50, 10, 60], [0.2, 0], 0)
    found = value_of("boxes", _detected([doubtful, *sure]))
    assert found is not None
    _, value = found
    np.testing.assert_allclose(value(_detected(sure[:1], sure[3:])), [0.9 / 3, 0])
    assert value_of("boxes", _detected([doubtful])) is None
    assert value_of("boxes", _detected([])) is None


def test_similarity_has_the_iou_of_torchvision() -> None:
    draw = np.random.default_rng(0)
    boxes = [np.sort(draw.uniform(0, 50, (n, 2, 2)), axis=1).reshape(n, 4) for n in (7, 3)]
    scores = np.ones((7, 1))
    found = similarity(boxes[1], np.ones((3, 1)), boxes[0], scores)
    wanted = box_iou(*(torch.from_numpy(own) for own in boxes)).numpy()
    np.testing.assert_allclose(found, wanted)


def test_boxes_without_area_or_scores_are_alike_to_nothing() -> None:
    flat = np.array([[1.0, 1, 1, 1]])
    assert similarity(flat, np.ones((1, 2)), flat, np.ones((1, 2))) == 0
    square = np.array([[0.0, 0, 1, 1]])
    assert similarity(square, np.zeros((1, 2)), square, np.zeros((1, 2))) == 0


def test_that_of_a_mask_is_the_mean_probability_of_its_classes() -> None:
    """Class 1 fills one pixel of four, and counts as much as class 0."""
    mask = np.array([[[0, 0], [0, 1]]])
    shares = np.full((2, 2, 2, 2), 0.5)
    shares[0, 0], shares[0, 1] = [[0.9, 0.6], [0.3, 0.2]], [[0.1, 0.4], [0.7, 0.8]]
    outputs = {"mask": mask, "logits": np.log(shares[:1])}
    found = value_of("masks", outputs)
    assert found is not None
    label, value = found
    assert label == 0
    wanted = [((0.9 + 0.6 + 0.3) / 3 + 0.8) / 2, 0.5]
    np.testing.assert_allclose(value({"logits": np.log(shares) + 7}), wanted)


@pytest.mark.parametrize(
    ("kind", "outputs", "wanted"),
    [
        ("labels", {"probabilities": np.array([[0.1, 0.9, 0.0]])}, 1),
        ("masks", {"mask": np.array([[[2, 2], [0, 1]]], np.uint8)}, 2),
        ("boxes", _detected([([0, 0, 1, 1], [0.4, 0], 0), ([0, 0, 1, 1], [0, 0.5], 1)]), 1),
        ("boxes", _detected([([0, 0, 1, 1], [0.1, 0], 0)]), 3),  # 3 classes: none
    ],
)
def test_the_predicted_class(kind: str, outputs: Outputs, wanted: int) -> None:
    assert predicted_class(kind, outputs, 3) == wanted
