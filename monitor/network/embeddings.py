"""Scores of an embedding: how far it lies from those of its class, and random projections."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from regrow.errors import BadInput

NUM_PROJECTIONS = 8
DISTANCE = "embedding_distance"
PROJECTIONS = tuple(f"projection_{number}" for number in range(NUM_PROJECTIONS))
EMBEDDED = (DISTANCE, *PROJECTIONS)
# A channel's own standard deviation counts as at least this share of the typical one: what is
# nearly always 0 shall not outweigh all others where it is not.
LEAST_SPREAD = 0.1


@dataclass(frozen=True, slots=True)
class EmbeddingScores:
    """What makes scores of an embedding, fitted to a part of the reference that is not ranked.

    Args:
        mean: The mean of each channel, float32 as all others, (d,).
        spread: Its standard deviation, (d,), > 0.
        class_means: The mean of each class, standardised, and of no class, (c + 1, d).
        directions: The random directions, (d, 8), such that projections have a deviation of 1.
    """

    mean: np.ndarray
    spread: np.ndarray
    class_means: np.ndarray
    directions: np.ndarray

    def of(self, embedding: np.ndarray, label: int) -> dict[str, float]:
        """Compute the scores of one embedding by name; NaN where it is not finite.

        Args:
            embedding: The embedding, (d,).
            label: The class that is predicted; the number of classes stands for none.
        """
        standard = (embedding.astype(np.float64) - self.mean) / self.spread
        distance = np.linalg.norm(standard - self.class_means[label]) / len(standard) ** 0.5
        with np.errstate(invalid="ignore"):
            projections = standard @ self.directions
        return dict(zip(EMBEDDED, (float(distance), *projections.tolist()), strict=True))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return it as arrays by name."""
        return {
            "embedding_mean": self.mean,
            "embedding_spread": self.spread,
            "embedding_class_means": self.class_means,
            "embedding_directions": self.directions,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "EmbeddingScores":
        """Return what arrays hold.

        Raises:
            KeyError: If one is missing.
            ValueError: If their shapes do not fit.
        """
        names = ("mean", "spread", "class_means", "directions")
        mean, spread, means, directions = (arrays[f"embedding_{name}"] for name in names)
        width = len(mean)
        fits = spread.shape == mean.shape == (width,) and means.ndim == 2
        if not fits or means.shape[1] != width or directions.shape != (width, NUM_PROJECTIONS):
            raise ValueError("arrays of other shapes")
        return cls(mean, spread, means, directions)


def fit_embeddings(
    embeddings: np.ndarray, labels: np.ndarray, num_classes: int, seed: int
) -> EmbeddingScores:
    """Return what makes scores of embeddings.

    The mean of a class is drawn towards that of all by one picture's weight, so that a class of
    which there are few pictures, or none, has a mean too.

    Args:
        embeddings: Embeddings of the reference, finite, (n, d).
        labels: The class that is predicted for each, (n,).
        num_classes: The number of classes, which stands for none.
        seed: What the directions are a function of.

    Raises:
        BadInput: If they are all the same.
    """
    mean = embeddings.mean(axis=0, dtype=np.float64)
    spread = embeddings.std(axis=0, dtype=np.float64)
    if not spread.max(initial=0) > 1e-6 * np.abs(embeddings).max(initial=0):
        raise BadInput("the network gives the same embedding for every picture")
    spread = np.maximum(spread, LEAST_SPREAD * spread[spread > 0].mean())
    standard = (embeddings - mean) / spread
    sums = np.zeros((num_classes + 1, len(mean)))
    np.add.at(sums, labels, standard)
    counts = np.bincount(labels, minlength=num_classes + 1)
    directions = np.random.default_rng(seed).standard_normal((len(mean), NUM_PROJECTIONS))
    lengths = (standard @ directions).std(axis=0)
    parts = (mean, spread, sums / (counts[:, None] + 1), directions / np.where(lengths, lengths, 1))
    return EmbeddingScores(*(part.astype(np.float32) for part in parts))
