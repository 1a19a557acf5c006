"""References of a network that is worked by hand, made in a moment."""

from collections.abc import Callable

import numpy as np
import pytest
from networks import LinearNetwork

from regrow.monitor.network import reference
from regrow.monitor.network.reference import NetworkBuilder, NetworkReference

WEIGHTS = np.array([1, 1, 1, 1, 1, 4, 4, 1, 1, 4, 4, 1, 1, 1, 1, 1]) / 30
Made = tuple[NetworkReference, dict[str, np.ndarray]]
Build = Callable[..., Made]


@pytest.fixture(autouse=True)
def _few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "NUM_RUNS", 32)


@pytest.fixture
def picture() -> Callable[[int], np.ndarray]:
    """Return a function that makes a picture of 8 x 8 pixels for a number."""
    return lambda number: np.random.default_rng(number).integers(0, 256, (8, 8, 3)).astype(np.uint8)


@pytest.fixture
def build(picture: Callable[[int], np.ndarray]) -> Build:
    """Return a function that builds the reference of so many pictures."""

    def built(
        count: int,
        network: LinearNetwork | None = None,
        num_explained: int = 60,
        group: Callable[[int], str] = str,
    ) -> Made:
        own = network or LinearNetwork(WEIGHTS)
        builder = NetworkBuilder(own, num_explained)
        for number in range(count):
            builder.add(f"p{number}", picture(number), group(number))
        return builder.build()

    return built
