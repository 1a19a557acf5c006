"""Model quality: the scores of answers whose truth has come, with intervals."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from regrow.errors import BadInput
from regrow.monitor.alarms.risk import proportion_interval
from regrow.monitor.answers import class_name
from regrow.monitor.truths import Box, Objects, Truth, confusion, found_objects, mask_of
from regrow.plain import MISSHAPEN

NUM_RESAMPLES = 400
MAX_DRAWN = 2**21  # numbers that sets of the bootstrap have at a time
FEWEST = 200  # labels from which SageMaker gives a standard deviation
SCORES = {"labels": "accuracy", "boxes": "map50", "masks": "miou"}


class Quality:
    """The score of predictions against truths, as regrow evaluates networks.

    Args:
        kind: What the model predicts: `labels`, `boxes` or `masks`.
        classes: Its classes.
    """

    def __init__(self, kind: str, classes: Sequence[str]) -> None:
        self.kind, self.classes = kind, list(classes)
        self.counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
        self._collector: Any = None if kind == "labels" else _collector(kind, len(classes))
        self._keys: list[int] = []
        self._spread: np.ndarray | None = None  # scores of sets, until a picture is added

    def add(self, prediction: Mapping[str, Any], truth: Truth, key: int = 0) -> None:
        """Add a picture; the order in which they are added makes no difference.

        Args:
            prediction: The prediction, as the server answers it.
            truth: The truth.
            key: What tells it from all others.

        Raises:
            BadInput: If prediction and truth are of different kinds or sizes.
        """
        try:
            if isinstance(truth, str):
                self._add_label(class_name(prediction["label"]), truth)
            elif isinstance(truth, list):
                self._add_boxes(prediction["objects"], truth)
            else:
                mask = mask_of(prediction)
                confusion(mask, truth, len(self.classes))  # refuses what does not fit
                self._collector.update(*(own.astype(np.int64)[None] for own in (mask, truth)))
            self._keys.append(key)
            self._spread = None
        except MISSHAPEN as error:
            raise BadInput("a prediction of another kind or size than its truth") from error

    def _add_label(self, label: str, truth: str) -> None:
        self.counts[self.classes.index(truth), self.classes.index(label)] += 1

    def _add_boxes(self, objects: Any, truth: Objects) -> None:
        predicted = found_objects(objects)
        found = {
            "boxes": _corners([box for _, _, box in predicted]),
            "scores": np.array([score for _, score, _ in predicted], dtype=np.float32),
            "labels": self._labels([label for label, _, _ in predicted]),
        }
        wanted = {
            "boxes": _corners([box for _, box in truth]),
            "labels": self._labels([name for name, _ in truth]),
        }
        self._collector.update([found], [wanted])

    def _labels(self, names: Sequence[str]) -> np.ndarray:
        return np.array([self.classes.index(name) for name in names], dtype=np.int64)

    @property
    def num_labels(self) -> int:
        """Return how many pictures were added."""
        return len(self._keys)

    @property
    def _evidence(self) -> Any:
        """Return the evidence of the score, its pictures in the order of their keys; else None."""
        if self._collector is None:
            return None
        return self._collector.in_order(np.argsort(self._keys, kind="stable").tolist())

    @property
    def score(self) -> float:
        """Return the score of all pictures, at least one."""
        if self._collector is None:
            return float(self.counts.trace() / self.counts.sum())
        return float(self._evidence.score())

    def to_dict(self, num_pictures: int) -> dict[str, Any]:
        """Return the score, its 95 % interval and the coverage of labels; no score of no label.

        The interval is exact for accuracy, and of the bootstrap by pictures for the others.

        Args:
            num_pictures: How many pictures could have a label.
        """
        count = self.num_labels
        made: dict[str, Any] = {
            "name": SCORES[self.kind],
            "num_labels": count,
            "coverage": count / num_pictures if num_pictures else None,
        }
        if not count:
            return made | {"value": None, "interval": None}
        value = self.score
        if self._collector is None:
            interval = proportion_interval(int(self.counts.trace()), count)
        else:
            scores = self._resampled()
            low, high = np.quantile(scores, [0.025, 0.975]) if len(scores) else (0.0, 1.0)
            interval = (float(low), float(high))
        return made | {"value": value if np.isfinite(value) else None, "interval": interval}

    def _resampled(self) -> np.ndarray:
        if self._spread is None:
            self._spread = self._drawn_scores()
        return self._spread

    def _drawn_scores(self) -> np.ndarray:
        count, evidence = self.num_labels, self._evidence
        parts = _drawn(count, np.full(count, 1 / count))
        scores = np.concatenate([evidence.scores_of_sets(own) for own in parts])
        found: np.ndarray = scores[np.isfinite(scores)]
        return found

    def statistics(self) -> dict[str, Any]:
        """Return SageMaker's block of model quality metrics, each a value and its deviation.

        Source: Amazon SageMaker Developer Guide, "Model Quality Metrics". It has none for boxes and
        masks; ours have the same shape.
        """
        if not self.num_labels:
            return {}
        if self.kind != "labels":
            key = {"boxes": "object_detection_metrics", "masks": "segmentation_metrics"}[self.kind]
            spread = self._resampled()
            name = {"boxes": "map_50", "masks": "miou"}[self.kind]
            return {key: {name: self._metric(self.score, spread)}}
        counts = self.counts
        shares, total = counts.ravel() / counts.sum(), int(counts.sum())
        parts = [weighted_scores(own.reshape(-1, *counts.shape)) for own in _drawn(total, shares)]
        metrics = {
            name: self._metric(float(value[0]), np.concatenate([own[name] for own in parts]))
            for name, value in weighted_scores(counts[None]).items()
        }
        shown = [int(n) for n in np.flatnonzero(counts.sum(0) + counts.sum(1))]
        table = {
            self.classes[row]: {self.classes[column]: int(counts[row, column]) for column in shown}
            for row in shown
        }
        return {"multiclass_classification_metrics": {"confusion_matrix": table, **metrics}}

    def _metric(self, value: float, spread: np.ndarray) -> dict[str, Any]:
        is_enough = self.num_labels >= FEWEST and len(spread) > 1
        deviation = float(spread.std(ddof=1)) if is_enough else "NaN"
        return {"value": value if np.isfinite(value) else "NaN", "standard_deviation": deviation}


def _drawn(count: int, shares: np.ndarray) -> Iterator[np.ndarray]:
    """Yield sets drawn for the bootstrap, a few at a time, so that memory is bounded.

    Args:
        count: How many are drawn into each set.
        shares: With which each of m is drawn, (m,).

    Yields:
        How often each is in each set, (r, m).
    """
    draw, most = np.random.default_rng(0), max(MAX_DRAWN // len(shares), 1)
    for start in range(0, NUM_RESAMPLES, most):
        size = min(most, NUM_RESAMPLES - start)
        yield draw.multinomial(count, shares, size).astype(np.float64)


def _collector(kind: str, num_classes: int) -> Any:
    # Here, since labels are scored without PyTorch.
    from regrow.metrics.evidence import BoxEvidence, ConfusionEvidence

    return BoxEvidence(num_classes) if kind == "boxes" else ConfusionEvidence(num_classes)


def _corners(boxes: Sequence[Box]) -> np.ndarray:
    return np.array(boxes, dtype=np.float32).reshape(-1, 4)


def weighted_scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Compute accuracy, and recall, precision and F scores weighted by the size of the true class.

    Args:
        counts: Confusion matrices, (r, truth, prediction).

    Returns:
        The scores by SageMaker's names, (r,) each; a class that was never predicted has the
        precision 0.
    """
    right = np.diagonal(counts, axis1=1, axis2=2).astype(np.float64)
    true, predicted = counts.sum(2), counts.sum(1)
    weights = true / counts.sum((1, 2))[:, None]

    def share(above: np.ndarray, below: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.divide(above, below, out=np.zeros_like(right), where=below > 0)
        return found

    found = {
        "accuracy": right.sum(1) / counts.sum((1, 2)),
        "weighted_recall": (weights * share(right, true)).sum(1),
        "weighted_precision": (weights * share(right, predicted)).sum(1),
    }
    for name, beta in (("weighted_f0_5", 0.5), ("weighted_f1", 1.0), ("weighted_f2", 2.0)):
        score = share((1 + beta**2) * right, beta**2 * true + predicted)
        found[name] = (weights * score).sum(1)
    return found
