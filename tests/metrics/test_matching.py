"""Boxes are matched as COCO has it, by overlaps that are torchvision's to the bit."""

import numpy as np
import torch
from torchvision.ops import box_iou

from regrow.metrics.matching import match, overlaps


def _boxes(*rows: tuple[float, ...]) -> np.ndarray:
    return np.array(rows, dtype=np.float64)


def test_overlaps_are_those_of_torchvision_to_the_bit() -> None:
    draw = np.random.default_rng(0)
    first, second = (
        np.sort(draw.uniform(0, 50, (n, 2, 2)), axis=1).reshape(n, 4) for n in (400, 300)
    )
    second[:20] = first[:20]
    second[20:30, 2] = second[20:30, 0]
    wanted = box_iou(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    found = overlaps(first, second)
    assert found.tobytes() == wanted.tobytes()
    assert (found > 0.5).sum() > 20
    assert np.isnan(overlaps(second[20:21] * 0, second[20:21] * 0)).all()


def test_match_takes_the_best_free_object_once() -> None:
    objects = _boxes((0, 0, 10, 10), (0, 0, 10, 8))
    boxes = _boxes((0, 0, 10, 8), (0, 0, 10, 8), (0, 0, 10, 10), (40, 40, 50, 50))
    # The first takes the second object; the next still overlaps the first by .8; none is left.
    assert match(boxes, objects).tolist() == [True, True, False, False]
    assert match(boxes, objects, 0.9).tolist() == [True, False, True, False]
    assert match(boxes, objects[:0]).tolist() == [False] * 4
    assert match(boxes[:0], objects).tolist() == []


def test_match_counts_an_overlap_of_just_the_threshold() -> None:
    objects = _boxes((0, 0, 10, 10))
    assert match(_boxes((0, 0, 10, 5)), objects).tolist() == [True]
    assert match(_boxes((0, 0, 10, 4.9)), objects).tolist() == [False]


def test_boxes_whose_areas_overflow_are_as_torchvision_has_them() -> None:
    boxes = _boxes((0, 0, 1e200, 1e200), (0, 0, 5, 5), (1e308, 0, 5, 5), (-1e308, -1e308, 1e308, 9))
    wanted = box_iou(torch.from_numpy(boxes), torch.from_numpy(boxes)).numpy()
    np.testing.assert_array_equal(overlaps(boxes, boxes), wanted)
