"""Networks for the monitor whose attributions and embeddings can be worked by hand."""

from collections.abc import Mapping

import numpy as np

SIZE = (8, 8)


class LinearNetwork:
    """A classifier of two classes whose probability is linear in the pixels.

    Args:
        weights: What each cell adds where it is white, (16,), row by row; they sum to 1 at most.
        sha256: The hash that it says to have.
    """

    kind, num_classes, size, has_embedding = "labels", 2, SIZE, True

    def __init__(self, weights: np.ndarray, sha256: str = "cd34" * 16) -> None:
        self.weights, self.sha256, self.num_runs = weights, sha256, 0

    def run(self, images: np.ndarray) -> Mapping[str, np.ndarray]:
        """Return `probabilities`."""
        self.num_runs += len(images)
        share = self.cells(images) @ self.weights
        return {"probabilities": np.stack([share, 1 - share], axis=1)}

    def embed(self, images: np.ndarray) -> tuple[np.ndarray, Mapping[str, np.ndarray]]:
        """Return the mean lightness of each cell, and the outputs."""
        return self.cells(images).astype(np.float32), self.run(images)

    def cells(self, images: np.ndarray) -> np.ndarray:
        """Return the mean lightness of each cell in [0, 1], (b, 16)."""
        light = images.mean(axis=1).reshape(len(images), 4, 2, 4, 2) / 255
        found: np.ndarray = light.mean(axis=(2, 4)).reshape(len(images), 16)
        return found
