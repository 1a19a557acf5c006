"""Per-image statistics behind a score, from which the scores of any set of images follow.

Two networks that were scored on the same images are compared in pairs by these.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regrow.data.targets.labels import VOID
from regrow.metrics.ignored import falls_on_ignored
from regrow.metrics.matching import match
from regrow.metrics.scores import RECALLS, iou

MAX_DETECTIONS = 100


class Evidence(ABC):
    """The contribution of each image to the headline score, read only."""

    @property
    @abstractmethod
    def num_images(self) -> int:
        """Number of images."""

    @property
    def shown(self) -> Tensor:
        """Whether each image shows each class, (n, c); (n, 0) where classes do not count."""
        return torch.zeros(self.num_images, 0, dtype=torch.bool)

    @property
    def images_by_class(self) -> Tensor:
        """Number of images that show each class, (c,); empty where classes do not count."""
        return self.shown.sum(0)

    @abstractmethod
    def only(self, classes: Sequence[int]) -> "Evidence":
        """Return the evidence restricted to some classes.

        Accuracy is then that of the images of these classes; other scores are means over them.

        Args:
            classes: Indices of the classes.
        """

    @abstractmethod
    def scores(self, counts: Tensor) -> Tensor:
        """Compute the score of several sets of images.

        Args:
            counts: How often each image is in each set, (r, n).

        Returns:
            One score per set, (r,).
        """

    def scores_of_sets(self, counts: np.ndarray) -> np.ndarray:
        """Compute the score of several sets of images, as arrays, (r, n) to (r,)."""
        found: np.ndarray = self.scores(torch.from_numpy(counts)).numpy()
        return found

    def score(self, counts: Tensor | None = None) -> float:
        """Compute the score of all images, or of one set of them, counts (n,)."""
        if counts is None:
            counts = torch.ones(self.num_images, dtype=torch.float64)
        return float(self.scores(counts[None])[0])


class Collector(Evidence):
    """Evidence that grows batch by batch, on the CPU."""

    @abstractmethod
    def update(self, predictions: Any, targets: Any) -> None:
        """Add one batch, in the form that a metric takes it; arrays may stand for tensors."""


class CorrectEvidence(Collector):
    """Whether the most probable class is the true one, for each image: evidence of accuracy."""

    def __init__(self) -> None:
        self._batches: list[Tensor] = []
        self._labels: list[Tensor] = []

    @classmethod
    def of(cls, correct: Tensor, labels: Tensor) -> "CorrectEvidence":
        """Make evidence of flags that are known.

        Args:
            correct: Whether each image is classified correctly, (n,).
            labels: The true class of each image, (n,).
        """
        made = cls()
        made._batches, made._labels = [correct], [labels]
        return made

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add probabilities (b, c) and labels (b,)."""
        self._batches.append((predictions.argmax(1) == targets).cpu())
        self._labels.append(targets.cpu())

    def only(self, classes: Sequence[int]) -> "CorrectEvidence":
        """Return the evidence of the images whose true class is one of some."""
        wanted = torch.tensor([*classes], dtype=self.labels.dtype)
        return self.images(torch.isin(self.labels, wanted))

    def images(self, is_part: Tensor) -> "CorrectEvidence":
        """Return the evidence of some of the images, by a flag per image, (n,)."""
        return CorrectEvidence.of(self.correct[is_part], self.labels[is_part])

    @property
    def correct(self) -> Tensor:
        """Whether each image is classified correctly, (n,)."""
        return torch.cat(self._batches) if self._batches else torch.zeros(0, dtype=torch.bool)

    @property
    def labels(self) -> Tensor:
        """The true class of each image, (n,)."""
        return torch.cat(self._labels) if self._labels else torch.zeros(0, dtype=torch.int64)

    @property
    def num_images(self) -> int:
        """Number of images."""
        return sum(len(batch) for batch in self._batches)

    def scores(self, counts: Tensor) -> Tensor:
        """Compute the accuracy of several sets of images."""
        counts = counts.double()
        return counts @ self.correct.double() / counts.sum(1)


class ConfusionEvidence(Collector):
    """The confusion matrix of each image's pixels: evidence of mean IoU.

    Args:
        num_classes: Number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._counts: list[Tensor] = []  # by image, (c * c,)
        self._classes = list(range(num_classes))

    @classmethod
    def of(cls, counts: Tensor) -> "ConfusionEvidence":
        """Make evidence of confusion matrices that are known.

        Args:
            counts: The pixels of each image by true and by predicted class, (n, c, c).
        """
        made = cls(counts.shape[-1])
        made._counts = list(counts.double().flatten(1))
        return made

    def only(self, classes: Sequence[int]) -> "ConfusionEvidence":
        """Return the evidence of the same images with the score over some classes."""
        part = copy.copy(self)
        part._classes = list(classes)
        return part

    def in_order(self, order: Sequence[int]) -> "ConfusionEvidence":
        """Return the same evidence as if its images had been added in another order.

        Args:
            order: The number of each image, first to last, (n,).
        """
        part = copy.copy(self)
        part._counts = [self._counts[number] for number in order]
        return part

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add masks of class indices, (b, h, w) each."""
        size = self.num_classes
        masks = [torch.as_tensor(own).cpu().long() for own in (predictions, targets)]
        for predicted, truth in zip(*masks, strict=True):
            known = truth != VOID
            pairs = truth[known] * size + predicted[known]
            self._counts.append(torch.bincount(pairs, minlength=size**2).double())

    @property
    def num_images(self) -> int:
        """Number of images."""
        return len(self._counts)

    @property
    def shown(self) -> Tensor:
        """Whether each image has pixels of each class, (n, c)."""
        size = self.num_classes
        shown = torch.stack([image.view(size, size).sum(1) > 0 for image in self._counts])
        return shown[:, self._classes]

    def scores(self, counts: Tensor) -> Tensor:
        """Compute the mean IoU of several sets of images."""
        total = counts.double() @ torch.stack(self._counts)
        matrices = total.view(-1, self.num_classes, self.num_classes)
        return iou(matrices)[:, self._classes].nanmean(1)


class BoxEvidence(Collector):
    """The matches of each image's detections at an IoU of 0.5: evidence of mean AP.

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

    @classmethod
    def of(
        cls, num_objects: Tensor, found: Sequence[tuple[Tensor, Tensor, Tensor]]
    ) -> "BoxEvidence":
        """Make evidence of matches that are known.

        Args:
            num_objects: The number of objects of each class in each image, (n, c).
            found: For each class its detections, in any order: scores (m,), whether each matches
                an object (m,), and the number of its image (m,).
        """
        made = cls(num_objects.shape[1])
        made._num_objects = list(num_objects)
        made._found = [[detections] for detections in found]
        return made

    def only(self, classes: Sequence[int]) -> "BoxEvidence":
        """Return the evidence of the same images with the score over some classes."""
        part = copy.copy(self)
        part._classes = list(classes)
        return part

    def in_order(self, order: Sequence[int]) -> "BoxEvidence":
        """Return the same evidence as if its images had been added in another order.

        Args:
            order: The number of each image, first to last, (n,).
        """
        part = copy.copy(self)
        part._num_objects = [self._num_objects[number] for number in order]
        ranks = torch.empty(self.num_images, dtype=torch.int64)
        ranks[torch.tensor([*order], dtype=torch.int64)] = torch.arange(self.num_images)
        part._found = [[] for _ in self._found]
        for number, found in enumerate(self._found):
            if found:
                scores, matched, images = (torch.cat(own) for own in zip(*found, strict=True))
                images, best = ranks[images].sort(stable=True)
                part._found[number] = [(scores[best], matched[best], images)]
        return part

    def update(self, predictions: Any, targets: Any) -> None:
        """Add detections and objects, one mapping per image, boxes xyxy in pixels."""
        for predicted, truth in zip(predictions, targets, strict=True):
            predicted, truth = _on_cpu(predicted), _on_cpu(truth)
            best = predicted["scores"].argsort(descending=True, stable=True)
            boxes, scores = predicted["boxes"].double()[best], predicted["scores"].double()[best]
            labels = predicted["labels"][best]
            true_labels, true_boxes = truth["labels"], truth["boxes"].double()
            self._num_objects.append(torch.bincount(true_labels, minlength=self.num_classes))
            for index in labels.unique().tolist():
                mine = (labels == index).nonzero().flatten()[:MAX_DETECTIONS]
                matched = _matched(boxes[mine], true_boxes[true_labels == index])
                counts = matched | ~falls_on_ignored(boxes[mine], truth, index)
                number = torch.full((int(counts.sum()),), len(self._num_objects) - 1)
                self._found[index].append((scores[mine][counts], matched[counts], number))

    @property
    def num_images(self) -> int:
        """Number of images."""
        return len(self._num_objects)

    @property
    def shown(self) -> Tensor:
        """Whether each image has objects of each class, (n, c)."""
        return (torch.stack(self._num_objects) > 0)[:, self._classes]

    def scores(self, counts: Tensor) -> Tensor:
        """Compute the mean average precision at an IoU of 0.5 of several sets of images."""
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


def _on_cpu(values: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: torch.as_tensor(value).detach().cpu() for name, value in values.items()}


def _matched(boxes: Tensor, objects: Tensor) -> Tensor:
    return torch.from_numpy(match(boxes.numpy(), objects.numpy()))
