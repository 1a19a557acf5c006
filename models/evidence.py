"""Per-image evidence: what a score is made of, so that two networks can be compared in pairs."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from scipy.stats import t as student_t
from torch import Tensor
from torchvision.ops import box_iou

from regrow.data.labels import VOID
from regrow.models.ignored import falls_on_ignored
from regrow.models.metrics import RECALLS, iou
from regrow.models.paired_test import low_end
from regrow.models.unseen import Shown

MAX_DETECTIONS = 100
ROUNDING = 1e-9  # differences of scores that spread by less are equal


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

    Detections on ignored boxes are left out, see `regrow.models.ignored`.

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


def paired_interval(
    before: Evidence,
    after: Evidence,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Give the low and the high end of score(after) - score(before), each alone at a confidence.

    Each end is a one-sided bound: the true difference lies below the low end with a probability of
    at most 1 - confidence, and above the high end likewise. Both together hold at 2 confidence - 1.

    Accuracy: the exact paired test, `regrow.models.paired_test`. Other scores: random splits of the
    images into thirds, the same for both networks; see `_reaches`. What no image showed comes on
    top, see `unseen`: together the two reach as far as the root of the sum of their squares
    (Newcombe, Statistics in Medicine 17, 1998, for two proportions; Zou and Donner, Statistics in
    Medicine 27, 2008, for two parameters of any kind). Where no image shows one of the classes, the
    interval is everything.

    Args:
        before: Evidence of the first network.
        after: Evidence of the second, the same images in the same order.
        confidence: The confidence of each end, in [0.5, 1).
        num_resamples: Number of thirds that are scored, at least.
        seed: What the splits are made from.

    Returns:
        The low and the high end.

    Raises:
        ValueError: If the two hold different numbers of images.
    """
    count = before.num_images
    if count != after.num_images:
        raise ValueError(f"{count} images before and {after.num_images} after: not the same")
    if isinstance(before, CorrectEvidence) and isinstance(after, CorrectEvidence) and count > 1:
        lost, gained = lost_and_gained(before, after)
        bounds = [low_end(*pair, count, confidence) for pair in ((lost, gained), (gained, lost))]
        return bounds[0], -bounds[1]
    if count < 3 or _shows_nothing(before):
        return -1.0, 1.0
    thirds = _thirds(count, math.ceil(num_resamples / 3), seed)
    difference = (after.scores(thirds) - before.scores(thirds)).view(-1, 3)
    difference = difference[difference.isfinite().all(1)]  # all images of a third may be void
    centre = after.score() - before.score()
    if not len(difference) or not math.isfinite(centre):
        return -1.0, 1.0
    below, above = _reaches(difference, centre, count, confidence)
    least = unseen(before, confidence)
    below, above = math.hypot(below, least), math.hypot(above, least)
    return max(centre - below, -1.0), min(centre + above, 1.0)


def lost_and_gained(before: CorrectEvidence, after: CorrectEvidence) -> tuple[int, int]:
    """Count the images that only the first network has right, and that only the second has."""
    lost = before.correct & ~after.correct
    gained = ~before.correct & after.correct
    return int(lost.sum()), int(gained.sum())


def shown(evidence: Evidence) -> Shown:
    """Return how many images there are to see a change on, and how many show each class."""
    is_accuracy = isinstance(evidence, CorrectEvidence)
    return Shown(evidence.num_images, evidence.images_by_class.tolist(), is_accuracy)


def unseen(evidence: Evidence, confidence: float) -> float:
    """Return the change of a score that so many images may not show at all, see `Shown.unseen`.

    Args:
        evidence: Evidence of some images.
        confidence: The confidence, in (0, 1).

    Returns:
        A change of the score, in (0, 1].
    """
    return shown(evidence).unseen(confidence)


def _shows_nothing(evidence: Evidence) -> bool:
    classes = evidence.images_by_class
    return len(classes) > 0 and not classes.any()


def _thirds(count: int, num_splits: int, seed: int) -> Tensor:
    """Split images at random into thirds, as equal as may be; flags (3 num_splits, count)."""
    generator = torch.Generator().manual_seed(seed)
    ranks = torch.rand(num_splits, count, generator=generator).argsort(1).argsort(1)
    return torch.stack([ranks * 3 // count == third for third in range(3)], 1).view(-1, count)


def _reaches(
    difference: Tensor, centre: float, count: int, confidence: float
) -> tuple[float, float]:
    """Give how far a difference may lie below and above what was seen, from its thirds, (r, 3).

    Sets of n / 3 images that share none have three times the variance of all n, and three times the
    event size. The bootstrap shows an image more than once, and with each copy the place of a false
    detection, so that it hides how uneven the precision of few detections is: of mean AP it finds
    0.4 of the bias and 0.6 to 0.8 of the event size where objects are mistaken, thirds find both.
    Source: Shao and Wu, A general theory for jackknife variance estimation, Annals of Statistics
    17, 1989 (scores that are not smooth ask for sets that leave out a share of the images); there
    about the score of all images, here about the mean of three sets that share none.

    A loss larger than the one seen comes with more variance: of rare events of a size s, each more
    of them adds s to the loss and s^2 to the variance. The reach x solves x = s / 2 + k v^0.5 +
    b v / variance for v = variance + s x, k being Student's quantile. Without b it is the interval
    of Wilson (1927) for one proportion with its correction for continuity (Newcombe, Statistics in
    Medicine 17, 1998). The size is the third moment over the second, and 0 where they lean to the
    other side.

    The bias b is that of the score of n images, if it moves the end out. Mean AP takes the largest
    of uneven precisions, and its bias falls with n^-0.5, so that thirds have 3^0.5 times the bias
    of all images (Schucany, Gray and Owen, On bias reduction in estimation, JASA 66, 1971, take two
    sizes of set for a bias of a known order). The same events make the bias and the variance, so
    that it grows with it. Where it outgrows the loss, the reach has no end.
    """
    spread = difference - difference.mean(1, keepdim=True)
    second, third = float(spread.square().mean()), float(spread.pow(3).mean())
    if second < ROUNDING**2:
        return 0.0, 0.0
    quantile = float(student_t.ppf(confidence, count - 1))
    variance, size = second / 2, third / second
    bias = (float(difference.mean()) - centre) / (math.sqrt(3) - 1)
    reaches = []
    for side in (-1, 1):
        event, away = max(side * size, 0.0), max(-side * bias, 0.0) / variance
        left = 1 - event * away
        if left <= 0:
            reaches.append(math.inf)
            continue
        root = math.sqrt((quantile * event) ** 2 + 4 * left * (variance + event**2 / 2))
        deviation = (quantile * event + root) / (2 * left)
        reaches.append(event / 2 + quantile * deviation + away * deviation**2)
    return reaches[0], reaches[1]
