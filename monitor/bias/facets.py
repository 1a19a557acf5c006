"""Facets: the kinds by which pictures are told apart, from custom attributes or from the picture.

What a picture shows of people is no facet, and is never guessed.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from regrow.monitor.draws import key_of
from regrow.monitor.features import Value
from regrow.monitor.truths import Truth

# Facets of the picture itself, and their values; the first two have edges: terciles of the
# reference.
BRIGHTNESS, OBJECT_SIZE, ASPECT = "brightness", "object_size", "aspect"
WORDS = {BRIGHTNESS: ("dark", "medium", "light"), OBJECT_SIZE: ("small", "medium", "large")}
DERIVED = {**WORDS, ASPECT: ("landscape", "portrait", "square")}
SQUARE = math.log(1.05)  # sides that differ by no more are square
MOST_VALUES = 20  # of a facet; what has more, such as a number of its own for each picture, is none
MOST_CUSTOM = 16  # custom attributes that are facets unasked; of more, those with the least hashes


@dataclass(frozen=True, slots=True)
class Subject:
    """What is compared: one class against the rest, between pictures of different facets.

    Args:
        kind: What the model predicts: `labels`, `boxes` or `masks`.
        classes: Its classes.
        label: The class that is set against the rest.
        edges: Where brightness and the size of objects go from one tercile to the next.
        chosen: The facets; None takes all that pictures have.
    """

    kind: str
    classes: tuple[str, ...]
    label: str
    edges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    chosen: tuple[str, ...] | None = None

    def is_wanted(self, facet: str) -> bool:
        """Whether a facet is looked at."""
        return self.chosen is None or facet in self.chosen

    @property
    def needs_pixels(self) -> bool:
        """Whether a facet is wanted that only the picture itself tells."""
        return any(map(self.is_wanted, DERIVED))

    def values(
        self,
        features: Mapping[str, Value],
        attributes: Mapping[str, str],
        object_size: float | None = None,
    ) -> dict[str, str]:
        """Return the values of the wanted facets of a picture; what is not known is left out.

        Args:
            features: The features of the picture.
            attributes: The custom attributes of its event.
            object_size: The mean share of the picture that its objects fill.
        """
        found = {n: own for n, own in attributes.items() if n not in DERIVED}
        numbers = {BRIGHTNESS: features.get(BRIGHTNESS), OBJECT_SIZE: object_size}
        for name, edges in self.edges.items():
            number = numbers.get(name)
            if isinstance(number, int | float):
                found[name] = WORDS[name][sum(number > edge for edge in edges)]
        aspect = features.get(ASPECT)
        if isinstance(aspect, int | float) and aspect > 0:
            found[ASPECT] = shape_of(aspect)
        return {name: value for name, value in found.items() if self.is_wanted(name)}


def shape_of(aspect: float) -> str:
    """Return whether a picture lies or stands, by its width over its height."""
    if abs(math.log(aspect)) <= SQUARE:
        return "square"
    return "landscape" if aspect > 1 else "portrait"


def object_size_of(truth: Truth, size: tuple[int, int]) -> float | None:
    """Return the mean share of a picture that its true boxes fill; None without boxes.

    Args:
        truth: The truth.
        size: Height and width of the picture in pixels.
    """
    if not isinstance(truth, list) or not truth:
        return None
    areas = [(right - left) * (low - top) for _, (left, top, right, low) in truth]
    mean = math.fsum(areas) / len(areas)
    return mean / (size[0] * size[1])


def terciles(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the two edges between three parts of as many values; None where there are no three."""
    if not len(values):
        return None
    low, high = np.quantile(np.array(values, dtype=np.float64), [1 / 3, 2 / 3]).tolist()
    return (low, high) if min(values) <= low < high < max(values) else None


class Seen:
    """The custom attributes that were seen, and their values, in memory that has an end.

    Which ones are kept does not depend on the order in which they come.

    Args:
        chosen: Attributes that are kept in any case; None for none.
    """

    def __init__(self, chosen: Iterable[str] | None = None) -> None:
        self.chosen = frozenset(chosen or ())
        self.values: dict[str, set[str] | None] = {}  # None where there are too many

    def add(self, facet: str, values: Iterable[str] | None) -> bool:
        """Note values of an attribute; None notes that it has too many.

        Returns:
            Whether the attribute is kept.
        """
        if facet not in self.values and not self._makes_room(facet):
            return False
        known = self.values.get(facet, set())
        if known is None or values is None:
            self.values[facet] = None
            return True
        known.update(values)
        self.values[facet] = known if len(known) <= MOST_VALUES else None
        return True

    def _makes_room(self, facet: str) -> bool:
        """Drop the attribute with the largest hash, unless that is the new one."""
        others = [name for name in self.values if name not in self.chosen]
        if facet in self.chosen or len(others) < MOST_CUSTOM:
            return True
        last = max(others, key=key_of)
        if key_of(facet) > key_of(last):
            return False
        del self.values[last]
        return True

    def merge(self, other: "Seen") -> None:
        """Note what another part has seen too."""
        for facet, values in other.values.items():
            self.add(facet, values)

    def facets(self) -> dict[str, list[str]]:
        """Return the attributes that are facets: of two values or more, and not too many."""
        return {
            name: sorted(values)
            for name, values in sorted(self.values.items())
            if values is not None and len(values) > 1
        }

    def crowded(self) -> list[str]:
        """Return the attributes that have too many values to be facets."""
        return sorted(name for name, values in self.values.items() if values is None)

    def to_dict(self) -> dict[str, list[str] | None]:
        """Return what was seen as plain data."""
        pairs = sorted(self.values.items())
        return {name: None if own is None else sorted(own) for name, own in pairs}

    @classmethod
    def from_dict(
        cls, content: Mapping[str, Iterable[str] | None], chosen: Iterable[str] | None = None
    ) -> "Seen":
        """Return what plain data says was seen, and go on with attributes that are kept."""
        made = cls(chosen)
        for name, values in content.items():
            made.add(str(name), None if values is None else map(str, values))
        return made
