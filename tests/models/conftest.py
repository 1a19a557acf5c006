"""Data that is made in a moment."""

from pathlib import Path

import numpy as np
import pytest

from regrow.data.formats import Content, Source
from regrow.data.module import GrowingData
from regrow.data.snapshot import Item


class Noise(Source):
    """Images of noise, whose labels nothing can generalise."""

    def read(self, root: Path | None) -> Content:
        random = np.random.default_rng(0)
        items = []
        for split, count in (("train", 24), ("val", 8), ("test", 8)):
            for number in range(count):
                pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                items.append(Item(f"{split}{number}", pixels, "ab"[number % 2], split))
        return Content("labels", ["a", "b"], items)


@pytest.fixture
def data() -> GrowingData:
    data = GrowingData(Noise(), size=(16, 16), batch_size=8)
    data.order_classes(data.classes)
    return data
