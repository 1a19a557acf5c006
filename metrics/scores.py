"""Metrics of the three tasks on torchmetrics: accuracy, mean IoU, mean average precision."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassConfusionMatrix
from torchmetrics.detection import MeanAveragePrecision

from regrow.data.targets.labels import VOID
from regrow.metrics.ignored import as_coco

# COCO's thresholds to the last bit: torchmetrics rounds its own to float32, which moves a recall of
# 7 / 100 to the other side of its threshold.
OVERLAPS: list[float] = np.linspace(0.5, 0.95, 10).tolist()
RECALLS: list[float] = np.linspace(0, 1, 101).tolist()


class ByClass(Metric):
    """A metric whose `per_class` is a vector, (c,), even with a single class.

    torchmetrics turns every result of one element into a scalar.
    """

    full_state_update = False

    def _wrap_compute(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        wrapped = super()._wrap_compute(compute)

        @functools.wraps(wrapped)
        def with_vector(*args: Any, **kwargs: Any) -> dict[str, Tensor]:
            values = wrapped(*args, **kwargs)
            return {**values, "per_class": values["per_class"].reshape(-1)}

        return with_vector


class Accuracy(ByClass):
    """Accuracy: the share of images whose most probable class is the true one.

    Args:
        num_classes: Number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.counts = MulticlassConfusionMatrix(num_classes)

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add probabilities (b, c) and labels (b,)."""
        self.counts.update(predictions.argmax(1), targets)

    def compute(self) -> dict[str, Tensor]:
        """Compute `accuracy`, `macro_accuracy` and `per_class`; NaN for classes without images."""
        counts = self.counts.compute().double()
        right, total = counts.diag(), counts.sum(1)
        per_class = right / total
        return {
            "accuracy": right.sum() / total.sum(),
            "macro_accuracy": per_class.nanmean(),
            "per_class": per_class,
        }

    def reset(self) -> None:
        """Clear the state."""
        super().reset()
        self.counts.reset()


class MeanIoU(ByClass):
    """Mean IoU: intersection over union of each class over the whole set, averaged over classes.

    Void pixels are ignored; a class that occurs neither in the truth nor in the prediction is left
    out of the mean.

    Args:
        num_classes: Number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.counts = MulticlassConfusionMatrix(num_classes, ignore_index=VOID)

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add masks of class indices, (b, h, w) each."""
        self.counts.update(predictions.long(), targets.long())

    def compute(self) -> dict[str, Tensor]:
        """Compute `miou`, `pixel_accuracy` and `per_class`; NaN for classes without pixels."""
        counts = self.counts.compute().double()
        return {
            "miou": mean_iou(counts),
            "pixel_accuracy": counts.diag().sum() / counts.sum(),
            "per_class": iou(counts),
        }

    def reset(self) -> None:
        """Clear the state."""
        super().reset()
        self.counts.reset()


def iou(counts: Tensor) -> Tensor:
    """Compute IoU by class from confusion matrices (..., truth, prediction); NaN for 0/0."""
    right = counts.diagonal(dim1=-2, dim2=-1)
    return right / (counts.sum(-1) + counts.sum(-2) - right)


def mean_iou(counts: Tensor) -> Tensor:
    """Compute the mean IoU of the classes that occur, from matrices (..., truth, prediction)."""
    return iou(counts).nanmean(-1)


class MeanAP(ByClass):
    """COCO's mean average precision, by faster-coco-eval.

    Args:
        num_classes: Number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.coco = MeanAveragePrecision(
            iou_thresholds=OVERLAPS,
            rec_thresholds=RECALLS,
            backend="faster_coco_eval",
            extended_summary=True,
        )

    def update(self, predictions: Any, targets: Any) -> None:
        """Add detections and objects, one mapping per image, boxes xyxy in pixels.

        Targets may have ignored boxes, see `regrow.data.targets.ignored`.
        """
        self.coco.update(
            [{n: p[n].detach().float() if n != "labels" else p[n] for n in p} for p in predictions],
            [as_coco(p, t, OVERLAPS[0]) for p, t in zip(predictions, targets, strict=True)],
        )

    def compute(self) -> dict[str, Tensor]:
        """Compute `map50`, `map` (over IoUs of 0.5 to 0.95), `mar` and `per_class` (of map50)."""
        values = self.coco.compute()
        per_class = torch.full((self.num_classes,), float("nan"))
        # Axes: overlap threshold, recall, class, area, number of detections.
        curves = values["precision"][0, :, :, 0, -1]
        for place, index in enumerate(values["classes"].reshape(-1).tolist()):
            if (curves[:, place] >= 0).all():
                per_class[index] = curves[:, place].mean()
        return {
            "map50": values["map_50"].clamp(min=0),
            "map": values["map"].clamp(min=0),
            "mar": values["mar_100"].clamp(min=0),
            "per_class": per_class,
        }

    def reset(self) -> None:
        """Clear the state."""
        super().reset()
        self.coco.reset()


def alone(metric: Metric) -> Metric:
    """Make a metric compute in this process alone, which sees all images; returns the metric."""
    for part in metric.modules():
        if isinstance(part, Metric):
            # Not `sync_on_compute`, which torchmetrics reads once, when the metric is made.
            part.distributed_available_fn = _never
    return metric


def _never() -> bool:
    return False
