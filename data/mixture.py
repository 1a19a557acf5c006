"""How often each training image comes in an epoch."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Mixture:
    """Draws the images of an epoch by weights, which may change once in a run.

    An epoch keeps its length. An image whose weight is k times the mean comes k times, or where
    that is not whole as often as the next whole number below or above.

    Args:
        weights: One weight an image, >= 0, (n,).
        first: Those of the first epochs, where they differ, (n,).
        num_first: The number of those epochs.

    Raises:
        ValueError: If a weight is negative or not finite, or all are zero.
    """

    def __init__(
        self, weights: Sequence[float], first: Sequence[float] | None = None, num_first: int = 0
    ) -> None:
        self.weights = _checked(weights)
        self.first = self.weights if first is None else _checked(first)
        self.num_first = num_first

    def draw(self, epoch: int, generator: torch.Generator) -> list[int]:
        """Give the places of an epoch's images, (n,), in random order.

        Systematic sampling over images in random order: one random offset, and equal steps through
        the sum of weights.

        Source: Madow and Madow, On the Theory of Systematic Sampling, 1944.
        """
        weights = self.first if epoch < self.num_first else self.weights
        count = len(weights)
        shuffled = torch.randperm(count, generator=generator).numpy()
        ends = np.cumsum(weights[shuffled])
        offset = float(torch.rand(1, generator=generator, dtype=torch.float64))
        steps = (np.arange(count) + offset) * (ends[-1] / count)
        drawn = shuffled[np.minimum(np.searchsorted(ends, steps, side="right"), count - 1)]
        order = torch.randperm(count, generator=generator).numpy()
        return drawn[order].tolist()


def _checked(weights: Sequence[float]) -> Floats:
    values = np.asarray(weights, dtype=np.float64)
    if not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
        raise ValueError("weights of images must be finite, 0 or more, and not all zero")
    return values
