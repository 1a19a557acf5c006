"""Per-image evidence: what a score is made of, so that two networks can be compared in pairs."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import box_iou

from regrow.data.labels import VOID
from regrow.metrics.ignored import falls_on_ignored
from regrow.metrics.scores import RECALLS, iou

MAX_DETECTIONS = 100


class Evidence(ABC):
    """What each image contributes to the headline score, collected on the CPU."""

    @abstractmethod
    def update(self, predictions: Any, targets: Any) -> None:
        """Add one batch, as a metric takes it."""

    @property
    @abstractmethod
    def num_images(self) -> int:
        """Count the images."""

    @property
    def shown(self) -> Tensor:
        """Whether each image shows each class, (n, c); (n, 0) where classes do not count."""
        return torch.zeros(self.num_images, 0, dtype=torch.bool)

    @property
    def images_by_class(self) -> Tensor:
        """Count the images that show each class, (c,); empty where classes do not count."""
        return self.shown.sum(0)

    @abstractmethod
    def only(self, classes: Sequence[int]) -> "Evidence":
        """Give what was collected as far as it speaks of some classes.

        Accuracy is then that of the images of these classes; other scores are means over them.

        Args:
            classes: Their numbers.
        """

    @abstractmethod
    def scores(self, counts: Tensor) -> Tensor:
        """Give the score of sets of images.

        Args:
            counts: How often each image is in each set, (r, n).

        Returns:
            One score a set, (r,).
        """

    def score(self, counts: Tensor | None = None) -> float:
        """Give the score of all images, or of one set of them, counts (n,)."""
        if counts is None:
            counts = torch.ones(self.num_images, dtype=torch.float64)
        return float(self.scores(counts[None])[0])


class CorrectEvidence(Evidence):
    """Whether the most probable class is the true one, for each image."""

    def __init__(self) -> None:
        self._batches: list[Tensor] = []
        self._labels: list[Tensor] = []

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add probabilities (b, c) and labels (b,)."""
        self._batches.append((predictions.argmax(1) == targets).cpu())
        self._labels.append(targets.cpu())

    def only(self, classes: Sequence[int]) -> "CorrectEvidence":
        """Give what the images of some classes have shown."""
        part = CorrectEvidence()
        for correct, labels in zip(self._batches, self._labels, strict=True):
            mine = torch.isin(labels, torch.tensor([*classes], dtype=labels.dtype))
            part._batches.append(correct[mine])
            part._labels.append(labels[mine])
        return part

    def images(self, is_part: Tensor) -> "CorrectEvidence":
        """Return what some of the images have shown, by a flag an image, (n,)."""
        part = CorrectEvidence()
        if self._batches:
            part._batches = [self.correct[is_part]]
            part._labels = [torch.cat(self._labels)[is_part]]
        return part

    @property
    def correct(self) -> Tensor:
        """Give a flag an image, (n,)."""
        return torch.cat(self._batches) if self._batches else torch.zeros(0, dtype=torch.bool)

    @property
    def num_images(self) -> int:
        """Count the images."""
        return sum(len(batch) for batch in self._batches)

    def scores(self, counts: Tensor) -> Tensor:
        """Give the accuracy of sets of images."""
        counts = counts.double()
        return counts @ self.correct.double() / counts.sum(1)


class ConfusionEvidence(Evidence):
    """How many pixels of each class were taken for which, for each image.

    Args:
        num_classes: Number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._images: list[Tensor] = []
        self._classes = list(range(num_classes))

    def only(self, classes: Sequence[int]) -> "ConfusionEvidence":
        """Give the same images, of which some classes count."""
        part = copy.copy(self)
        part._classes = list(classes)
        return part

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add masks of class indices, (b, h, w) each."""
        size = self.num_classes
        for predicted, truth in zip(predictions.cpu().long(), targets.cpu().long(), strict=True):
            known = truth != VOID
            pairs = truth[known] * size + predicted[known]
            self._images.append(torch.bincount(pairs, minlength=size**2).double())

    @property
    def num_images(self) -> int:
        """Count the images."""
        return len(self._images)

    @property
    def shown(self) -> Tensor:
        """Whether each image has pixels of each class, (n, c)."""
        size = self.num_classes
        shown = torch.stack([image.view(size, size).sum(1) > 0 for image in self._images])
        return shown[:, self._classes]

    def scores(self, counts: Tensor) -> Tensor:
        """Give the mean IoU of sets of images."""
        total = counts.double() @ torch.stack(self._images)
        counts = total.view(-1, self.num_classes, self.num_classes)
        return iou(counts)[:, self._classes].nanmean(1)


class BoxEvidence(Evidence):
    """Which detections match an object at an overlap of one half, for each image and class.

    Detections on ignored boxes are left out, see `regrow.metrics.ignored`.

    Args:
        num_classes: Number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._num_objects: list[Tensor] = []
        # By class: scores, matches and image numbers of its detections.
        self._found: list[list[tuple[Tensor, Tensor, Tensor]]] = [[] for _ in range(num_classes)]
        self._classes = list(range(num_classes))

    def only(self, classes: Sequence[int]) -> "BoxEvidence":
        """Give the same images, of which some classes count."""
        part = copy.copy(self)
        part._classes = list(classes)
        return part

    def update(self, predictions: Any, targets: Any) -> None:
        """Add detections and objects, one mapping an image, boxes xyxy in pixels."""
        for predicted, truth in zip(predictions, targets, strict=True):
            best = predicted["scores"].cpu().argsort(descending=True, stable=True)
            boxes = predicted["boxes"].detach().cpu().double()[best]
            scores = predicted["scores"].detach().cpu().double()[best]
            labels = predicted["labels"].cpu()[best]
            truth = {name: value.cpu() for name, value in truth.items()}
            true_labels, true_boxes = truth["labels"], truth["boxes"].double()
            self._num_objects.append(torch.bincount(true_labels, minlength=self.num_classes))
            for index in labels.unique().tolist():
                mine = (labels == index).nonzero().flatten()[:MAX_DETECTIONS]
                matched = match(boxes[mine], true_boxes[true_labels == index])
                counts = matched | ~falls_on_ignored(boxes[mine], truth, index)
                number = torch.full((int(counts.sum()),), len(self._num_objects) - 1)
                self._found[index].append((scores[mine][counts], matched[counts], number))

    @property
    def num_images(self) -> int:
        """Count the images."""
        return len(self._num_objects)

    @property
    def shown(self) -> Tensor:
        """Whether each image has objects of each class, (n, c)."""
        return (torch.stack(self._num_objects) > 0)[:, self._classes]

    def scores(self, counts: Tensor) -> Tensor:
        """Give the mean average precision at an overlap of one half, of sets of images."""
        counts = counts.double()
        objects = counts @ torch.stack(self._num_objects).double()
        columns = [self._class_scores(i, counts, objects[:, i]) for i in self._classes]
        return torch.stack(columns, 1).nanmean(1).nan_to_num(0)

    def _class_scores(self, index: int, counts: Tensor, objects: Tensor) -> Tensor:
        missing = torch.full((len(counts),), float("nan"), dtype=torch.float64)
        if not self._found[index]:
            return torch.where(objects > 0, 0.0, missing)
        scores, matched, images = (
            torch.cat(parts) for parts in zip(*self._found[index], strict=True)
        )
        order = scores.argsort(descending=True, stable=True)
        matched, images = matched[order].double(), images[order]
        rows = []
        # A few sets at a time, so that memory stays small.
        for part, total in zip(counts.split(64), objects.split(64), strict=True):
            drawn = part[:, images]
            right = (drawn * matched).cumsum(1)
            precision = right / drawn.cumsum(1).clamp(min=1)
            precision = precision.flip(1).cummax(1).values.flip(1)
            recall = right / total[:, None].clamp(min=1)
            rows.append(_at_recalls(recall, precision))
        return torch.where(objects > 0, torch.cat(rows), missing)


def _at_recalls(recall: Tensor, precision: Tensor) -> Tensor:
    wanted = torch.tensor(RECALLS, dtype=torch.float64).expand(len(recall), -1).contiguous()
    places = torch.searchsorted(recall.contiguous(), wanted)
    padded = torch.cat([precision, precision.new_zeros(len(precision), 1)], 1)
    return padded.gather(1, places).mean(1)


def match(boxes: Tensor, objects: Tensor, threshold: float = 0.5) -> Tensor:
    """Match detections of one class in one image, best first, each to a free object.

    Source: COCO's evaluation, https://cocodataset.org/#detection-eval.

    Args:
        boxes: Detections by falling score, xyxy, (n, 4).
        objects: Objects, xyxy, (m, 4).
        threshold: The least overlap.

    Returns:
        Whether each detection has an object of its own, (n,).
    """
    matched = torch.zeros(len(boxes), dtype=torch.bool)
    if not len(boxes) or not len(objects):
        return matched
    overlaps = box_iou(boxes, objects)
    for row, overlap in enumerate(overlaps):
        best, place = overlap.max(0)
        if best >= threshold:
            matched[row] = True
            overlaps[:, place] = -1
    return matched
