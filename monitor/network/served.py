"""What the monitor asks of the served network, which a pipeline opens."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np

Outputs = Mapping[str, np.ndarray]
NETWORK = "network.onnx"  # in the monitor's folder: the served graph with its embedding as output


@runtime_checkable
class Network(Protocol):
    """The served network, with its embedding as one more output where it has one."""

    @property
    def kind(self) -> str:
        """Return what it predicts: `labels`, `boxes` or `masks`."""

    @property
    def num_classes(self) -> int:
        """Return the number of its classes."""

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width of its images."""

    @property
    def sha256(self) -> str:
        """Return the hash of its file."""

    @property
    def has_embedding(self) -> bool:
        """Whether it gives one."""

    def run(self, images: np.ndarray) -> Outputs:
        """Return its outputs by name.

        Args:
            images: uint8 RGB, (b, 3, h, w).

        Returns:
            `probabilities` (b, c); or `boxes` (b, places, 4), `scores` (b, c, places) and
            `selected` (n, 3); or `logits` (b, c, h, w) and `mask` (b, h, w).
        """

    def embed(self, images: np.ndarray) -> tuple[np.ndarray, Outputs]:
        """Return the embeddings of images, (b, d), and the outputs as `run` does."""
