"""Summaries of features that add up: those of any parts of the captures give that of all, exactly.

Sums are kept as whole numbers, so that they do not depend on the order of the values.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from hashlib import blake2b
from typing import Any

import numpy as np

from regrow.errors import BadInput
from regrow.monitor.distribution import Distribution
from regrow.monitor.draws import key_of
from regrow.monitor.features import Value
from regrow.plain import MISSHAPEN

SCALE = 1074  # the finest float is 2^-1074
BITS, HALF = 53, 27  # of a float's fraction, and of a half of it
CHUNK = 512  # squares of halves, of 54 bits, whose sum has 63
MAX_CATEGORIES = 1000  # of one feature that are counted by name
MAX_FEATURES = 2000


class Numbers:
    """Count, sums, ends and distribution of the finite numbers of a feature."""

    def __init__(self) -> None:
        self.count = self.total = self.squares = 0  # sums in units of 2^-1074 and 2^-2148
        self.low, self.high = math.inf, -math.inf
        self.distribution = Distribution()

    def add(self, values: Sequence[float] | np.ndarray) -> None:
        """Count finite numbers."""
        numbers = np.asarray(values, dtype=np.float64)
        if not numbers.size:
            return
        for start in range(0, len(numbers), CHUNK):
            total, squares = _exact_sums(numbers[start : start + CHUNK])
            self.total += total
            self.squares += squares
        self.count += len(numbers)
        self.low = min(self.low, float(numbers.min()))
        self.high = max(self.high, float(numbers.max()))
        self.distribution.add(numbers)

    def merge(self, other: "Numbers") -> None:
        """Count the numbers of another part too."""
        self.count += other.count
        self.total += other.total
        self.squares += other.squares
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.distribution.merge(other.distribution)

    @property
    def sum(self) -> float:
        """Return the sum, rounded once."""
        return _rounded(Fraction(self.total, 1 << SCALE))

    @property
    def mean(self) -> float:
        """Return the mean, rounded once; NaN of no values."""
        return _rounded(Fraction(self.total, self.count << SCALE)) if self.count else math.nan

    @property
    def std(self) -> float:
        """Return the standard deviation of the values themselves (the divisor is their count)."""
        if not self.count:
            return math.nan
        spread = Fraction(self.squares * self.count - self.total * self.total, self.count**2)
        return math.sqrt(_rounded(spread / (1 << 2 * SCALE)))

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, exactly."""
        return {
            "count": self.count,
            "sum": f"{self.total:x}",
            "squares": f"{self.squares:x}",
            "ends": [self.low, self.high] if self.count else [],
            "distribution": self.distribution.to_dict(),
        }

    @classmethod
    def from_dict(cls, content: Any) -> "Numbers":
        """Return the numbers that plain data holds; raises as `Summary.from_dict`."""
        made = cls()
        made.count = int(content["count"])
        made.total, made.squares = int(content["sum"], 16), int(content["squares"], 16)
        if content["ends"]:
            made.low, made.high = map(float, content["ends"])
        made.distribution = Distribution.from_dict(content["distribution"])
        return made


class Categories:
    """Counts of the texts of a feature; of too many those with the smallest hashes stay by name.

    A text that stays has stayed in every part, so its count is exact.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.num_others = 0

    def add(self, texts: Iterable[str]) -> None:
        """Count texts."""
        for text in texts:
            self.counts[text] = self.counts.get(text, 0) + 1
            if len(self.counts) >= 2 * MAX_CATEGORIES:
                self._shrink()
        self._shrink()

    def merge(self, other: "Categories") -> None:
        """Count the texts of another part too."""
        for text, count in other.counts.items():
            self.counts[text] = self.counts.get(text, 0) + count
        self.num_others += other.num_others
        self._shrink()

    def _shrink(self) -> None:
        if len(self.counts) > MAX_CATEGORIES:
            for text in sorted(self.counts, key=_hash)[MAX_CATEGORIES:]:
                self.num_others += self.counts.pop(text)

    @property
    def count(self) -> int:
        """Return how many texts were counted."""
        return sum(self.counts.values()) + self.num_others

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {"counts": dict(sorted(self.counts.items())), "others": self.num_others}

    @classmethod
    def from_dict(cls, content: Any) -> "Categories":
        """Return the texts that plain data holds; raises as `Summary.from_dict`."""
        made = cls()
        made.counts = {str(text): int(count) for text, count in content["counts"].items()}
        made.num_others = int(content["others"])
        made._shrink()
        return made


class Feature:
    """Summary of one feature: its numbers, its texts, and how often it was missing."""

    def __init__(self) -> None:
        self.numbers, self.texts = Numbers(), Categories()
        self.num_missing, self.is_whole = 0, True

    def add(self, values: Iterable[Value]) -> None:
        """Count values; None and what is not finite is missing."""
        values = [*values]
        texts = [value for value in values if isinstance(value, str)]
        given = [value for value in values if isinstance(value, int | float)]
        numbers = np.array(given, dtype=np.float64)
        numbers = numbers[np.isfinite(numbers)]
        self.texts.add(texts)
        self.numbers.add(numbers)
        self.num_missing += len(values) - len(texts) - len(numbers)
        self.is_whole = self.is_whole and bool((np.floor(numbers) == numbers).all())

    def merge(self, other: "Feature") -> None:
        """Count the values of another part too."""
        self.numbers.merge(other.numbers)
        self.texts.merge(other.texts)
        self.num_missing += other.num_missing
        self.is_whole = self.is_whole and other.is_whole

    @property
    def num_present(self) -> int:
        """Return how often the feature has a value."""
        return self.numbers.count + self.texts.count

    @property
    def kind(self) -> str:
        """Return SageMaker's `inferred_type`: that of most values, and of the same, numbers."""
        if not self.num_present:
            return "Unknown"
        if self.texts.count > self.numbers.count:
            return "String"
        return "Integral" if self.is_whole else "Fractional"


class Summary:
    """Summary of the features of some pictures.

    Args:
        features: The summary of each feature by its name.
        num_items: The number of pictures.
    """

    def __init__(self, features: Mapping[str, Feature] | None = None, num_items: int = 0) -> None:
        self.features, self.num_items = dict(features or {}), num_items

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Value]]) -> "Summary":
        """Return the summary of rows, as `add` counts them."""
        made = cls()
        made.add(rows)
        return made

    def add(self, rows: Iterable[Mapping[str, Value]]) -> None:
        """Count rows.

        A feature that is None in a row is missing there; one that a row does not have at all was
        not asked for, as of a picture that was not captured.
        """
        rows = [*rows]
        for name in dict.fromkeys(name for row in rows for name in row):
            values = (row[name] for row in rows if name in row)
            self.features.setdefault(name, Feature()).add(values)
        self.num_items += len(rows)

    def merge(self, other: "Summary") -> None:
        """Add the summary of other pictures."""
        for name, feature in other.features.items():
            self.features.setdefault(name, Feature()).merge(feature)
        self.num_items += other.num_items

    def limit_(self, prefix: str, most: int) -> None:
        """Keep so many of the features whose names begin alike: those with the smallest hashes.

        One that stays has stayed in every part, so it counts all rows.
        """
        names = [name for name in self.features if name.startswith(prefix)]
        for name in sorted(names, key=key_of)[most:]:
            del self.features[name]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, exactly; features by name."""
        return {
            "num_items": self.num_items,
            "features": {
                name: {
                    "numbers": own.numbers.to_dict(),
                    "texts": own.texts.to_dict(),
                    "missing": own.num_missing,
                    "whole": own.is_whole,
                }
                for name, own in sorted(self.features.items())
            },
        }

    @classmethod
    def from_dict(cls, content: Any, name: str) -> "Summary":
        """Return the summary that plain data holds.

        Args:
            content: The data.
            name: What errors call it, such as its file.

        Raises:
            BadInput: If it holds none.
        """
        made = cls()
        try:
            made.num_items = int(content["num_items"])
            if len(content["features"]) > MAX_FEATURES:
                raise ValueError("too many features")
            for key, given in content["features"].items():
                own = made.features[key] = Feature()
                own.numbers = Numbers.from_dict(given["numbers"])
                own.texts = Categories.from_dict(given["texts"])
                own.num_missing, own.is_whole = int(given["missing"]), bool(given["whole"])
        except (BadInput, *MISSHAPEN) as error:
            raise BadInput(f"{name}: holds no summary of features; make it again") from error
        return made


def _exact_sums(values: np.ndarray) -> tuple[int, int]:
    """Return the sums of at most `CHUNK` numbers and of their squares, in units of `Numbers`.

    A float is a whole number of 53 bits times a power of two. Of one power, whole numbers add up
    exactly; their squares do in halves of 27 bits.
    """
    fractions, exponents = np.frexp(values)
    order = np.argsort(exponents, kind="stable")
    whole = np.ldexp(fractions, BITS)[order].astype(np.int64)
    high, low = whole >> HALF, whole & ((1 << HALF) - 1)
    powers, starts = np.unique(exponents[order], return_index=True)
    parts = (high, low, high * high, high * low, low * low)
    sums = [np.add.reduceat(part, starts).tolist() for part in parts]
    total = squares = 0
    for power, first, second, *products in zip(powers.tolist(), *sums, strict=True):
        shift = SCALE - BITS + power
        total += _shifted((first << HALF) + second, shift)
        square = (products[0] << 2 * HALF) + (products[1] << HALF + 1) + products[2]
        squares += _shifted(square, 2 * shift)
    return total, squares


def _shifted(whole: int, shift: int) -> int:
    """Return a number times a power of two; to the right only zeros are lost."""
    return whole << shift if shift >= 0 else whole >> -shift


def _rounded(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _hash(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
