"""Drift of attributions: SageMaker's nDCG, which describes, and scores that are bet on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regrow.monitor.network.attributions import CELLS, Attribution
from regrow.monitor.network.shapley import Design

SPREAD = "attribution_spread"
EXPLAINED = (*CELLS, SPREAD)  # the scores of a picture
LEAST_NDCG = 0.90  # SageMaker's threshold
LABEL = "label0"  # SageMaker's name where labels have none: here the class that is predicted
NUM_DRAWS = 1000


def attribution_scores(values: np.ndarray) -> dict[str, float]:
    """Compute the scores of a picture's attributions by name; NaN where no cell adds anything.

    They are the share of each cell in the sizes of all, and the entropy of these shares, 1 where
    they are all the same. Unlike the order of their means, they move with any change of a cell.

    Args:
        values: The attributions, (16,).
    """
    sizes = np.abs(values)
    total = float(sizes.sum())
    if not total > 0:
        return dict.fromkeys(EXPLAINED, np.nan)
    shares = sizes / total
    some = shares[shares > 0]
    entropy = float(-(some * np.log(some)).sum() / np.log(len(shares)))
    return dict(zip(EXPLAINED, (*shares.tolist(), entropy), strict=True))


def ndcg(before: np.ndarray, now: np.ndarray) -> float:
    """Compute how well the ranking of features by attribution is that of the baseline, in [0, 1].

    Source: Amazon SageMaker Developer Guide, "Monitor Feature Attribution Drift for Models in
    Production". It is large for unrelated rankings too, where attributions are much the same.

    Args:
        before: The attribution of each feature in the baseline, at least 0, (m,).
        now: Likewise now, (m,).
    """
    discounts = 1 / np.log2(np.arange(len(before)) + 2)
    order, ideal = (np.argsort(-own, kind="stable") for own in (now, before))
    best = float(before[ideal] @ discounts)
    return float(before[order] @ discounts) / best if best > 0 else 1.0


def distance(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Compute the total variation of attributions as shares of their sum, in [0, 1].

    Args:
        before: The sizes of the attributions by cell, (..., 16).
        now: Likewise.
    """
    found: np.ndarray = np.abs(_shares(before) - _shares(now)).sum(axis=-1) / 2
    return found


def _shares(sizes: np.ndarray) -> np.ndarray:
    totals = sizes.sum(axis=-1, keepdims=True)
    found = np.full(sizes.shape, 1 / sizes.shape[-1])  # of nothing each cell has the same share
    np.divide(sizes, totals, out=found, where=totals > 0)
    return found


def distance_by_chance(sizes: np.ndarray, count: int) -> float:
    """Return the distance that 95 % of samples of the reference do not reach.

    Args:
        sizes: The sizes of the attributions of each picture of the reference, (n, 16).
        count: How many pictures there are now.
    """
    random, even = np.random.default_rng(0), np.full(len(sizes), 1 / len(sizes))
    draws = [random.multinomial(own, even, NUM_DRAWS) @ sizes for own in (len(sizes), count)]
    return float(np.quantile(distance(*draws), 0.95))


def sizes_of(found: Sequence[Attribution]) -> tuple[np.ndarray, float]:
    """Return the sizes of attributions, (n, 16), and the mean value of the blurred pictures.

    Args:
        found: The attributions of n pictures; at least one.
    """
    sizes: np.ndarray = np.abs([own.values for own in found])
    return sizes, float(np.mean([own.expected for own in found]))


@dataclass(frozen=True, slots=True)
class AttributionReference:
    """Attributions of the reference.

    Args:
        sizes: The sizes of the attributions of each picture, (n, 16).
        expected: The mean value of its blurred pictures.
        coalitions: Of cells, by which all pictures are explained.
    """

    sizes: np.ndarray
    expected: float
    coalitions: Design

    @classmethod
    def of(cls, found: Sequence[Attribution], coalitions: Design) -> "AttributionReference":
        """Return the reference of pictures, at least one, explained by coalitions."""
        return cls(*sizes_of(found), coalitions)

    def compare(self, found: Sequence[Attribution]) -> dict[str, Any]:
        """Return for the report how the attributions of an hour differ from the reference.

        Args:
            found: The attributions of its pictures; at least one.
        """
        before, (sizes, expected) = self.sizes.mean(axis=0), sizes_of(found)
        now = sizes.mean(axis=0)
        pairs = zip(CELLS, before.tolist(), now.tolist(), strict=True)
        return {
            "cells": {name: {"before": old, "now": new} for name, old, new in pairs},
            "expected_value": expected,
            "ndcg": ndcg(before, now),
            "distance": float(distance(before, now)),
            "by_chance": distance_by_chance(self.sizes, len(found)),
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """Return it as arrays by name."""
        return {
            "attribution_sizes": self.sizes,
            "attribution_expected": np.array(self.expected),
            "attribution_coalitions": self.coalitions.coalitions,
            "attribution_weights": self.coalitions.weights,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "AttributionReference":
        """Return what arrays hold.

        Raises:
            KeyError: If one is missing.
            ValueError: If their shapes do not fit.
        """
        names = ("sizes", "expected", "coalitions", "weights")
        sizes, expected, rows, weights = (arrays[f"attribution_{name}"] for name in names)
        if not sizes.shape[1:] == rows.shape[1:] == (len(CELLS),) or not len(sizes):
            raise ValueError("arrays of other shapes")
        if weights.shape != rows.shape[:1]:
            raise ValueError("arrays of other shapes")
        return cls(sizes, float(expected), Design(rows, weights))


def explanations(sizes: np.ndarray, expected: float) -> dict[str, Any]:
    """Return `explanations` of SageMaker's `analysis.json`.

    Source: Amazon SageMaker Developer Guide, "Create a SHAP Baseline for Models in Production".

    Args:
        sizes: The sizes of the attributions of each picture, (n, 16).
        expected: The mean value of the blurred pictures.
    """
    values = dict(zip(CELLS, sizes.mean(axis=0).tolist(), strict=True))
    return {"kernel_shap": {LABEL: {"global_shap_values": values, "expected_value": expected}}}
