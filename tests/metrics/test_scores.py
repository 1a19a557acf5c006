"""The three metrics against numbers worked by hand and brute force."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from regrow.metrics.scores import Accuracy, MeanAP, MeanIoU, iou, mean_iou


def _found(boxes: Any, scores: Any, labels: Any) -> dict[str, Tensor]:
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "scores": torch.tensor(scores, dtype=torch.float32),
        "labels": torch.tensor(labels, dtype=torch.long),
    }


def _truth(boxes: Any, labels: Any) -> dict[str, Tensor]:
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.long),
    }


def _probabilities(labels: list[int], num_classes: int) -> Tensor:
    return torch.eye(num_classes)[labels] * 0.5 + 0.1


def test_accuracy_worked_by_hand_over_two_batches() -> None:
    metric = Accuracy(3)
    # Class 0: 3 images, 2 right. Class 1: 1 image, wrong. Class 2: none.
    metric.update(_probabilities([0, 0], 3), torch.tensor([0, 0]))
    metric.update(_probabilities([1, 2], 3), torch.tensor([0, 1]))
    values = metric.compute()
    assert float(values["accuracy"]) == pytest.approx(2 / 4)
    assert float(values["macro_accuracy"]) == pytest.approx((2 / 3 + 0) / 2)
    assert values["per_class"].tolist()[:2] == pytest.approx([2 / 3, 0])
    assert math.isnan(values["per_class"][2])


def test_accuracy_per_class_counts_by_truth_and_not_by_prediction() -> None:
    metric = Accuracy(2)
    metric.update(_probabilities([0, 0, 0, 1], 2), torch.tensor([0, 1, 1, 1]))
    assert metric.compute()["per_class"].tolist() == pytest.approx([1, 1 / 3])


@pytest.mark.parametrize("metric", [Accuracy(2), MeanIoU(2)])
def test_reset_forgets(metric: Accuracy | MeanIoU) -> None:
    def add(predicted: list[int], truth: list[int]) -> None:
        if isinstance(metric, Accuracy):
            metric.update(_probabilities(predicted, 2), torch.tensor(truth))
        else:
            metric.update(torch.tensor([[predicted]]), torch.tensor([[truth]]))

    add([1, 1], [0, 0])
    metric.compute()
    metric.reset()
    add([1, 0], [1, 0])
    assert metric.compute()["per_class"].tolist() == [1, 1]


def _brute_force_iou(predicted: np.ndarray, truth: np.ndarray, num_classes: int) -> list[float]:
    known = truth != 255
    scores = []
    for index in range(num_classes):
        mine, theirs = (predicted == index) & known, (truth == index) & known
        union = int((mine | theirs).sum())
        scores.append(int((mine & theirs).sum()) / union if union else math.nan)
    return scores


@pytest.mark.parametrize("seed", range(5))
def test_mean_iou_equals_brute_force(seed: int) -> None:
    generator = np.random.default_rng(seed)
    # Class 4 of 5 occurs nowhere, class 3 is only ever predicted.
    truth = generator.choice([0, 1, 2, 255], (6, 7, 5)).astype(np.uint8)
    predicted = generator.integers(0, 4, truth.shape).astype(np.uint8)
    metric = MeanIoU(5)
    for part in (slice(0, 2), slice(2, 6)):
        metric.update(torch.from_numpy(predicted[part]), torch.from_numpy(truth[part]))
    values = metric.compute()
    expected = _brute_force_iou(predicted, truth, 5)
    known = truth != 255
    assert values["per_class"].tolist() == pytest.approx(expected, nan_ok=True)
    assert expected[3] == 0
    assert math.isnan(expected[4])
    assert float(values["miou"]) == pytest.approx(np.nanmean(expected))
    assert float(values["pixel_accuracy"]) == pytest.approx((predicted == truth)[known].mean())


def test_mean_iou_ignores_what_is_predicted_on_void_pixels() -> None:
    metric = MeanIoU(2)
    truth = torch.tensor([[[0, 0, 255, 255]]], dtype=torch.uint8)
    metric.update(torch.tensor([[[0, 0, 1, 0]]], dtype=torch.uint8), truth)
    values = metric.compute()
    assert float(values["miou"]) == 1
    assert float(values["pixel_accuracy"]) == 1
    assert math.isnan(values["per_class"][1])


def test_iou_of_a_confusion_matrix_worked_by_hand_and_batched() -> None:
    # Rows truth, columns prediction. Class 0: 3 / (4 + 5 - 3); class 1: 4 / (6 + 5 - 4).
    counts = torch.tensor([[3.0, 1.0], [2.0, 4.0]])
    assert iou(counts).tolist() == pytest.approx([3 / 6, 4 / 7])
    assert float(mean_iou(counts)) == pytest.approx((3 / 6 + 4 / 7) / 2)
    only_first = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    assert mean_iou(torch.stack([counts, only_first])).tolist() == pytest.approx(
        [(3 / 6 + 4 / 7) / 2, 1]
    )


def test_average_precision_worked_by_hand() -> None:
    metric = MeanAP(1)
    # By falling score: right (overlap 1), wrong, right with an overlap of 0.62.
    found = _found(
        [[20, 20, 30, 30], [60, 60, 70, 70], [0, 0, 10, 6.2]], [0.9, 0.8, 0.7], [0, 0, 0]
    )
    metric.update([found], [_truth([[0, 0, 10, 10], [20, 20, 30, 30]], [0, 0])])
    # 101 recalls: up to .50 the precision is 1, after that 2/3, at overlaps .5, .55 and .6;
    # at the seven stricter ones the third is wrong too, and recall ends at .5.
    loose, strict = (51 + 50 * 2 / 3) / 101, 51 / 101
    values = metric.compute()
    assert float(values["map50"]) == pytest.approx(loose)
    assert float(values["map"]) == pytest.approx((3 * loose + 7 * strict) / 10)
    assert float(values["mar"]) == pytest.approx((3 * 1 + 7 * 0.5) / 10)
    assert values["per_class"].tolist() == pytest.approx([loose])


def test_one_class_still_has_a_vector_of_scores_after_a_copy_too() -> None:
    # torchmetrics makes scalars of results with one element.
    metric = copy.deepcopy(MeanAP(1))
    metric.update([_found([[0, 0, 8, 8]], [0.9], [0])], [_truth([[0, 0, 8, 8]], [0])])
    for _ in range(2):
        assert metric.compute()["per_class"].shape == (1,)


def test_average_precision_reads_the_curve_at_exact_recalls() -> None:
    # 7 of 100 objects are found: recalls .00 to .07 are reached, eight of 101.
    boxes = [[10.0 * n, 0, 10.0 * n + 8, 8] for n in range(100)]
    metric = MeanAP(1)
    metric.update([_found(boxes[:7], [0.5] * 7, [0] * 7)], [_truth(boxes, [0] * 100)])
    values = metric.compute()
    assert float(values["map50"]) == pytest.approx(8 / 101, abs=1e-6)
    assert float(values["map"]) == pytest.approx(8 / 101, abs=1e-6)


def test_average_precision_by_class_keeps_the_numbering_with_absent_classes() -> None:
    metric = MeanAP(5)
    # Class 1: one of two objects found. Class 3: only predicted. Class 4: missed. 0 and 2: nothing.
    metric.update(
        [
            _found([[0, 0, 10, 10], [5, 5, 9, 9]], [0.9, 0.8], [1, 3]),
            _found([], [], []),
        ],
        [
            _truth([[0, 0, 10, 10], [30, 30, 40, 40]], [1, 4]),
            _truth([[50, 50, 60, 60]], [1]),
        ],
    )
    values = metric.compute()
    nan = math.nan
    expected = [nan, 51 / 101, nan, nan, 0]
    assert values["per_class"].tolist() == pytest.approx(expected, nan_ok=True)
    assert float(values["map50"]) == pytest.approx((51 / 101 + 0) / 2)


def test_average_precision_by_class_is_that_at_an_overlap_of_one_half() -> None:
    metric = MeanAP(2)
    # Class 0 is found with an overlap of .62, which counts at .5 but not at .75.
    found = _found([[0, 0, 10, 6.2], [0, 0, 10, 10]], [0.9, 0.9], [0, 1])
    metric.update([found], [_truth([[0, 0, 10, 10], [0, 0, 10, 10]], [0, 1])])
    values = metric.compute()
    assert values["per_class"].tolist() == pytest.approx([1, 1])
    assert float(values["map"]) == pytest.approx((0.3 + 1) / 2)


def test_no_detections_at_all_score_zero() -> None:
    metric = MeanAP(2)
    metric.update([_found([], [], [])], [_truth([[0, 0, 10, 10]], [1])])
    values = metric.compute()
    assert [float(values[name]) for name in ("map50", "map", "mar")] == [0, 0, 0]
    assert values["per_class"].tolist() == pytest.approx([math.nan, 0], nan_ok=True)


@pytest.mark.parametrize(
    "found", [_found([], [], []), _found([[0, 0, 10, 10]], [0.9], [1])], ids=["none", "one"]
)
def test_no_objects_score_zero_and_no_class(found: dict[str, Tensor]) -> None:
    metric = MeanAP(2)
    metric.update([found], [_truth([], [])])
    values = metric.compute()
    assert [float(values[name]) for name in ("map50", "map", "mar")] == [0, 0, 0]
    assert all(math.isnan(value) for value in values["per_class"].tolist())


def test_average_precision_takes_half_precision_and_gradients_and_resets() -> None:
    metric = MeanAP(1)
    found = _found([[0, 0, 8, 8]], [0.5], [0])
    found["scores"].requires_grad_()
    halves = {"boxes": found["boxes"].half(), "scores": found["scores"].half()}
    truth = _truth([[0, 0, 8, 8]], [0])
    metric.update([_found([[50, 50, 60, 60]], [0.9], [0])], [truth])
    assert float(metric.compute()["map50"]) == 0
    metric.reset()
    metric.update([found | halves], [truth])
    assert float(metric.compute()["map50"]) == pytest.approx(1)
