"""Example pictures for the page: a few small ones, chosen by their names and not by their order."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heappush, heapreplace
from typing import Any

import numpy as np
from PIL import Image

from regrow.monitor.draws import key_of
from regrow.monitor.features import Value

NUM_KEPT = 24
NUM_SHOWN = 6
SIDE = 160  # pixels of the longer side
QUALITY = 80


@dataclass(frozen=True, slots=True)
class Example:
    """A small picture with its features.

    Args:
        name: What people call it.
        values: Its features by name.
        jpeg: The picture, encoded.
    """

    name: str
    values: Mapping[str, Value]
    jpeg: bytes

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        jpeg = base64.b64encode(self.jpeg).decode()
        return {"name": self.name, "values": dict(self.values), "jpeg": jpeg}

    @classmethod
    def from_dict(cls, content: Any) -> "Example":
        """Return the example that plain data holds.

        Raises:
            ValueError: If it holds none, or another error of a kind that such data brings.
        """
        name, values = str(content["name"]), dict(content["values"])
        return cls(name, values, base64.b64decode(content["jpeg"], validate=True))


class Examples:
    """The pictures whose names have the smallest hashes, of all that were offered."""

    def __init__(self) -> None:
        self._kept: list[tuple[int, str, Example]] = []

    def wants(self, id_: str) -> bool:
        """Whether a picture would be kept now.

        Args:
            id_: What tells it from all others.
        """
        return len(self._kept) < NUM_KEPT or -example_key(id_) > self._kept[0][0]

    def offer(self, id_: str, name: str, values: Mapping[str, Value], pixels: np.ndarray) -> None:
        """Keep a picture, if its turn comes.

        Args:
            id_: What tells it from all others.
            name: What people call it.
            values: Its features by name.
            pixels: The picture, uint8 RGB (h, w, 3).
        """
        key = -example_key(id_)
        if len(self._kept) < NUM_KEPT:
            heappush(self._kept, (key, id_, Example(name, values, thumbnail(pixels))))
        elif key > self._kept[0][0]:
            heapreplace(self._kept, (key, id_, Example(name, values, thumbnail(pixels))))

    def all(self) -> tuple[Example, ...]:
        """Return the examples in the order of their ids."""
        return tuple(one for _, _, one in sorted(self._kept, key=lambda kept: kept[1]))


def example_key(id_: str) -> int:
    """Return the number of 64 bits of a picture; those with the smallest ones are the examples."""
    return key_of(f"example {id_}")


def thumbnail(pixels: np.ndarray) -> bytes:
    """Return a picture as a small JPEG; one that is smaller already is not enlarged."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def typical(examples: Sequence[Example], feature: str) -> list[Example]:
    """Return the examples whose feature lies nearest to the middle of all of them.

    Args:
        examples: The examples.
        feature: The feature.
    """
    known = [one for one in examples if isinstance(one.values.get(feature), int | float)]
    if not known:
        return list(examples[:NUM_SHOWN])
    values = np.array([one.values[feature] for one in known], dtype=np.float64)
    order = np.argsort(np.abs(values - np.median(values)), kind="stable")
    return [known[place] for place in order[:NUM_SHOWN]]


def to_text(examples: Sequence[Example]) -> str:
    """Return examples as JSON."""
    return json.dumps([one.to_dict() for one in examples])
