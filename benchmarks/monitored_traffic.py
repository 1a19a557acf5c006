"""Streams of pictures of CIFAR-10 as a trained network sees them, clean and corrupted."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from corruptions import Corruption
from monitored_models import Seen, cifar_model, cifar_test, kept, see

CLEAN, RAMP = 500, 2000  # pictures before a change, and over which a slow one comes
REFERENCE, CHANGED = 2000, 1000  # test images that are the reference, and that are corrupted


class Cifar:
    """Test images of CIFAR-10 as a trained network sees them; the last ones are corrupted.

    Args:
        data: The folder that holds `cifar10` and `weights`.
        work: What takes long is kept here.
    """

    def __init__(self, data: Path, work: Path) -> None:
        self.work, self.model = work, cifar_model(data, work)
        self.images, self.labels = cifar_test(data)
        self.clean = kept(work / "clean.npz", lambda: see(self.model, self.images, self.labels))

    def changed(self, name: str, corruption: Corruption, severity: int) -> Seen:
        """Return what is seen of the last images, corrupted."""
        random = np.random.default_rng([severity, *name.encode()])

        def make() -> Seen:
            pictures = [corruption(one, severity, random) for one in self.images[-CHANGED:]]
            return see(self.model, pictures, self.labels[-CHANGED:])

        return kept(self.work / f"{name} {severity}.npz", make)

    def split(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return which images are the reference of a stream, and which are its clean traffic."""
        order = random.permutation(len(self.images) - CHANGED)
        return order[:REFERENCE], order[REFERENCE:]


def draw(pool: Sequence[int] | np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Return so many of some images, each drawn alike."""
    return np.asarray(pool)[random.integers(0, len(pool), count)]


def follow(
    cifar: Cifar, changed: Seen, kind: str, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of a reference, and of a stream that changes."""
    reference, traffic = cifar.split(random)
    length = CLEAN + 2 * RAMP
    stream = cifar.clean.values[draw(traffic, length, random)]
    since = np.arange(length) - CLEAN
    part = (since >= 0).astype(np.float64) if kind == "at once" else since / RAMP
    is_changed = random.random(length) < part
    stream[is_changed] = changed.values[draw(range(CHANGED), int(is_changed.sum()), random)]
    return cifar.clean.values[reference], stream
