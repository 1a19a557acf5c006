"""Sampling weights: how often each training image comes in an epoch."""

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Mixture:
    """The images of an epoch, drawn by sampling weights, which may change once in a run.

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
        """Draw the places of an epoch's images, (n,), in random order.

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
        numbers: list[int] = drawn[order].tolist()
        return numbers


def repeat_factors(shown: Sequence[Collection[str]], exponent: float = 1.0) -> list[float]:
    """Return the sampling weight of each image: how much rarer its rarest class is than all.

    With an exponent of 1, classes come equally often where images show one class each; with 0.5,
    classes are as unequal as the roots of their counts. An image that shows several classes has
    the weight of the rarest; one that shows none has the least weight.

    Source: Gupta et al., LVIS, 2019, arXiv 1908.03195, appendix B (repeat-factor sampling): an
    image's factor is the largest of its classes', `max(1, (threshold / share) ** 0.5)`. There
    1,203 classes have a threshold of 0.001; here it is 1, so that every class counts: a few
    classes, of which the rarest is in 5 % of the images, would all be frequent there. An epoch
    keeps its length, so only the ratios of the factors count.

    Args:
        shown: The classes that each image shows.
        exponent: How far classes are balanced: 0 not at all, 1 fully.
    """
    counts = Counter(name for own in shown for name in own)
    rarest = [min((counts[name] for name in own), default=None) for own in shown]
    most = max(counts.values(), default=1)
    return [(1 / (most if count is None else count)) ** exponent for count in rarest]


def _checked(weights: Sequence[float]) -> Floats:
    values = np.asarray(weights, dtype=np.float64)
    if not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
        raise ValueError("weights of images must be finite, 0 or more, and not all zero")
    return values
