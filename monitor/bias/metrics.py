"""Bias metrics of SageMaker Clarify, on counts: one value of a facet, d, against the rest, a.

Source: Amazon SageMaker Developer Guide, "Measure Pre-training Bias" and "Measure Post-training
Data and Model Bias"; names, formulas and 0/0 = 0 as in the package smclarify. One class is the
label, all others are against it. Two are wider here. AD counts an answer as right only if it is
right among all classes, which is the same of two. And counts may be shares: of a mask each picture
counts 1, split by its pixels.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True, slots=True)
class Counts:
    """What the pictures of one side show.

    Args:
        pictures: The number of pictures.
        positives: The sum over pictures of the true share of the label: 0 or 1 of classes and of
            boxes (whether there is one), the share of the pixels of masks.
        predicted: Likewise of the predicted one.
        right: The sum of one less the loss.
        tp: True positives: pictures of classes, objects found of boxes, shares of pixels of masks.
        fp: False positives.
        fn: False negatives.
        tn: True negatives; 0 of boxes, which have none.
    """

    pictures: float = 0.0
    positives: float = 0.0
    predicted: float = 0.0
    right: float = 0.0
    tp: float = 0.0
    fp: float = 0.0
    fn: float = 0.0
    tn: float = 0.0

    @classmethod
    def of(cls, tp: float, fp: float, fn: float, tn: float) -> "Counts":
        """Return the counts of a classification with two classes."""
        return cls(tp + fp + fn + tn, tp + fn, tp + fp, tp + tn, tp, fp, fn, tn)


COLUMNS = tuple(field.name for field in fields(Counts))
# Shares of a side: the sums of counts above and below the line.
RATES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "positives": (("positives",), ("pictures",)),
    "predicted": (("predicted",), ("pictures",)),
    "accuracy": (("right",), ("pictures",)),
    "recall": (("tp",), ("tp", "fn")),
    "specificity": (("tn",), ("tn", "fp")),
    "precision": (("tp",), ("tp", "fp")),
    "rejection": (("tn",), ("tn", "fn")),
    "iou": (("tp",), ("tp", "fp", "fn")),
}


def rate(name: str, side: Counts) -> float:
    """Return a share of a side, in [0, 1]; 0 where there is nothing to share."""
    above, below = (sum(getattr(side, own) for own in names) for names in RATES[name])
    return divide(above, below)


def divide(above: float, below: float) -> float:
    """Return a quotient as smclarify defines it: 0 of 0/0, else infinite where the divisor is 0."""
    if below == 0:
        return 0.0 if above == 0 else math.copysign(math.inf, above)
    return above / below


def _less(first: float, second: float) -> float:
    return 0.0 if first == second else first - second  # two infinite ones are equal


Compute = Callable[[Counts, Counts], float | None]
WITH_NEGATIVES = ("labels", "masks")
ALL = ("labels", "boxes", "masks")


@dataclass(frozen=True, slots=True)
class Metric:
    """A bias metric.

    Args:
        description: What smclarify calls it, or we.
        compute: Returns its value of the rest and of the facet's value; None where it has none.
        rate: Where it compares one share of both sides, which one.
        of_rest: Whether it is that of the rest less that of the facet's value, or the other way.
        of_labels: Whether it needs to know the truth.
        kinds: What a model must predict for it.
    """

    description: str
    compute: Compute
    rate: str | None = None
    of_rest: bool = True
    of_labels: bool = True
    kinds: tuple[str, ...] = ALL


def _difference(
    description: str,
    name: str,
    *,
    of_rest: bool = True,
    of_labels: bool = True,
    kinds: tuple[str, ...] = ALL,
) -> Metric:
    """Return the metric that is the difference of a share of both sides."""

    def compute(rest: Counts, facet: Counts) -> float:
        difference = rate(name, rest) - rate(name, facet)
        return difference if of_rest else -difference

    return Metric(description, compute, name, of_rest, of_labels, kinds)


def _imbalance(rest: Counts, facet: Counts) -> float | None:
    total = rest.pictures + facet.pictures
    return (rest.pictures - facet.pictures) / total if total else None


def _disparate_impact(rest: Counts, facet: Counts) -> float:
    return divide(rate("predicted", facet), rate("predicted", rest))


def _acceptance(rest: Counts, facet: Counts) -> float:
    """Compute the difference of labels over predictions: positives."""
    return _less(*(divide(own.tp + own.fn, own.tp + own.fp) for own in (rest, facet)))


def _rejection(rest: Counts, facet: Counts) -> float:
    return _less(*(divide(own.tn + own.fp, own.tn + own.fn) for own in (facet, rest)))


def _treatment(rest: Counts, facet: Counts) -> float:
    return _less(*(divide(own.fn, own.fp) for own in (facet, rest)))


def _entropy(rest: Counts, facet: Counts) -> float | None:
    """Compute the generalised entropy of benefits 1 + prediction - label, with alpha 2."""
    alone = sum(own.tp + own.tn for own in (rest, facet))
    twice = rest.fp + facet.fp
    total = alone + twice + rest.fn + facet.fn
    benefit = alone + 2 * twice
    if not benefit:
        return None
    mean = benefit / total
    return (alone / mean**2 + twice * (2 / mean) ** 2 - total) / (2 * total)


def _distributions(rest: Counts, facet: Counts) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the shares of both labels on both sides; labels that one side lacks are left out."""
    pairs = [(own.pictures - own.positives, own.positives) for own in (rest, facet)]
    pictures = np.array([[rest.pictures], [facet.pictures]])
    shares = np.array(pairs) / np.maximum(pictures, 1)
    shares = shares[:, (shares > 0).all(axis=0)]
    return (shares[0], shares[1]) if shares.size else None


def _kullback_leibler(first: np.ndarray, second: np.ndarray) -> float:
    return float((first * np.log(first / second)).sum())


def _jensen_shannon(first: np.ndarray, second: np.ndarray) -> float:
    middle = (first + second) / 2
    return (_kullback_leibler(first, middle) + _kullback_leibler(second, middle)) / 2


def _norm(order: float, scale: float = 1.0) -> Callable[[np.ndarray, np.ndarray], float]:
    return lambda first, second: scale * float(np.linalg.norm(first - second, order))


def _of_labels(distance: Callable[[np.ndarray, np.ndarray], float]) -> Compute:
    def compute(rest: Counts, facet: Counts) -> float | None:
        shares = _distributions(rest, facet)
        return None if shares is None else distance(*shares)

    return compute


PRE_TRAINING: Mapping[str, Metric] = {
    "CI": Metric("Class Imbalance (CI)", _imbalance, of_labels=False),
    "DPL": _difference("Difference in Positive Proportions in Labels (DPL)", "positives"),
    "JS": Metric("Jensen-Shannon Divergence (JS)", _of_labels(_jensen_shannon)),
    "KL": Metric("Kullback-Liebler Divergence (KL)", _of_labels(_kullback_leibler)),
    "KS": Metric("Kolmogorov-Smirnov Distance (KS)", _of_labels(_norm(math.inf))),
    "LP": Metric("L-p Norm (LP)", _of_labels(_norm(2))),
    "TVD": Metric("Total Variation Distance (TVD)", _of_labels(_norm(1, 0.5))),
}
POST_TRAINING: Mapping[str, Metric] = {
    "AD": _difference("Accuracy Difference (AD)", "accuracy"),
    "DAR": _difference("Difference in Acceptance Rates (DAR)", "precision"),
    "DCA": Metric("Difference in Conditional Acceptance (DCA)", _acceptance),
    "DCR": Metric("Difference in Conditional Rejection (DCR)", _rejection, kinds=WITH_NEGATIVES),
    "DI": Metric("Disparate Impact (DI)", _disparate_impact, "predicted", of_labels=False),
    "DPPL": _difference(
        "Difference in Positive Proportions in Predicted Labels (DPPL)",
        "predicted",
        of_labels=False,
    ),
    "DRR": _difference(
        "Difference in Rejection Rates (DRR)", "rejection", of_rest=False, kinds=WITH_NEGATIVES
    ),
    "GE": Metric("Generalized Entropy (GE)", _entropy, kinds=WITH_NEGATIVES),
    "RD": _difference("Recall Difference (RD)", "recall"),
    "SD": _difference(
        "Specificity Difference (SD)", "specificity", of_rest=False, kinds=WITH_NEGATIVES
    ),
    "TE": Metric("Treatment Equality (TE)", _treatment),
    "IoUD": _difference("IoU Difference (IoUD), regrow's", "iou", kinds=("masks",)),
}


def distance(name: str, value: float) -> float:
    """Return how far a value is from no bias: from 0, but of DI, whose neutral value is 1, |log|.

    Args:
        name: The metric.
        value: Its value; of DI at least 0.
    """
    if name != "DI":
        return abs(value)
    return abs(math.log(value)) if value > 0 else math.inf
