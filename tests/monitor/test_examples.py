"""Examples are the same whatever the order in which they were offered."""

import io
import random

import numpy as np
import pytest
from PIL import Image

from regrow.monitor.examples import NUM_KEPT, NUM_SHOWN, Example, Examples, thumbnail, typical


@pytest.mark.parametrize("seed", range(3))
def test_the_same_are_kept_in_any_order(seed: int) -> None:
    names = [f"p{n}" for n in range(100)]
    random.Random(seed).shuffle(names)
    examples = Examples()
    for name in names:
        examples.offer(name, "same", {"n": float(name[1:])}, np.zeros((4, 4, 3), np.uint8))
    again = Examples()
    for name in sorted(names):
        again.offer(name, "same", {"n": float(name[1:])}, np.zeros((4, 4, 3), np.uint8))
    assert examples.all() == again.all()
    assert len(examples.all()) == NUM_KEPT
    first = examples.all()[0]
    assert Example.from_dict(first.to_dict()) == first


def test_thumbnails_are_small_and_never_enlarged() -> None:
    for size, expected in (((600, 300), (80, 160)), ((10, 20), (20, 10))):
        with Image.open(io.BytesIO(thumbnail(np.zeros((*size, 3), np.uint8)))) as image:
            assert image.size == expected


def test_the_typical_ones_lie_in_the_middle() -> None:
    examples = [Example(str(n), {"a": float(n)}, b"") for n in (0, 100, 5, 6, 4, 3, 7, 5.5)]
    found = {float(one.name) for one in typical(examples, "a")}
    assert found == {3, 4, 5, 5.5, 6, 7}
    assert typical(examples, "b") == examples[:NUM_SHOWN]


def test_what_is_wanted_is_what_is_kept() -> None:
    examples, pixels = Examples(), np.zeros((4, 4, 3), np.uint8)
    for number in range(60):
        before, is_wanted = examples.all(), examples.wants(f"p{number}")
        examples.offer(f"p{number}", "same", {"n": float(number)}, pixels)
        assert (examples.all() != before) == is_wanted
