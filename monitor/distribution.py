"""Distribution of numbers in bounded memory, which is the same however the numbers were split.

Up to 2,048 different values are kept as they are. Of more, each is put into a cell of a grid whose
width is a power of two, the finest of which no more than 2,048 cells are filled. Cells of one width
lie within cells of the next, so the width depends on all values together and not on their order:
parts that are added up in any order give the same cells, where a KLL sketch would not.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from regrow.errors import BadInput
from regrow.plain import MISSHAPEN

MAX_CELLS = 2048  # SageMaker's k
FINEST = 40  # cells of 2^-40
NUM_BUCKETS = 10  # in SageMaker's statistics.json


class Distribution:
    """Counts of values, or of cells of a grid.

    Args:
        level: The grid: cells of 2^-level; None keeps the values themselves.
        counts: The count of each value, or of each cell by its number from zero.
    """

    def __init__(self, level: int | None = None, counts: Mapping[Any, int] | None = None) -> None:
        self.level: int | None = level
        self.counts: Counter[Any] = Counter(counts or {})

    def add(self, values: Sequence[float] | np.ndarray) -> None:
        """Count finite values."""
        numbers = np.asarray(values, dtype=np.float64) + 0.0  # minus zero is zero
        self.counts.update(numbers.tolist() if self.level is None else _cells(numbers, self.level))
        self._shrink()

    def merge(self, other: "Distribution") -> None:
        """Count the values of another part too."""
        levels = [own.level for own in (self, other) if own.level is not None]
        if levels:
            self._coarsen(min(levels))
            other = Distribution(other.level, other.counts)
            other._coarsen(min(levels))
        self.counts.update(other.counts)
        self._shrink()

    def _shrink(self) -> None:
        while len(self.counts) > MAX_CELLS:
            self._coarsen(FINEST if self.level is None else self.level - 1)

    def _coarsen(self, level: int) -> None:
        if self.level == level:
            return
        coarser: Counter[Any] = Counter()
        before = self.level
        for key, count in self.counts.items():
            coarser[_cell(key, level) if before is None else key >> (before - level)] += count
        self.level, self.counts = level, coarser

    @property
    def total(self) -> int:
        """Return how many values were counted."""
        return self.counts.total()

    def weighted(self, low: float, high: float) -> list[tuple[float, int]]:
        """Return values and their counts, in ascending order; a cell stands for its middle.

        Args:
            low: The least value that was counted.
            high: The largest one.
        """
        level = self.level
        if level is None:
            return sorted(self.counts.items())
        pairs = ((_middle(key, level), count) for key, count in sorted(self.counts.items()))
        return [(min(max(value, low), high), count) for value, count in pairs]

    def buckets(self, low: float, high: float) -> list[dict[str, float]]:
        """Return ten buckets of equal width between the ends, as in SageMaker's statistics."""
        width = high / NUM_BUCKETS - low / NUM_BUCKETS
        counts = [0] * NUM_BUCKETS
        for value, count in self.weighted(low, high):
            place = int(value / width - low / width) if width > 0 else 0
            counts[min(max(place, 0), NUM_BUCKETS - 1)] += count
        edges = [*(low + width * place for place in range(NUM_BUCKETS)), high]
        return [
            {"lower_bound": edges[place], "upper_bound": edges[place + 1], "count": count}
            for place, count in enumerate(counts)
        ]

    def sketch(self, low: float, high: float) -> list[list[float]]:
        """Return the values as the levels of a KLL sketch: a value in level i counts 2^i times.

        Source: SageMaker's "Schema for Statistics (statistics.json file)". Up to 2,048 values lie
        in level 0, as many times as they occur.
        """
        pairs = self.weighted(low, high)
        if self.total <= MAX_CELLS:
            return [[value for value, count in pairs for _ in range(count)]]
        num_levels = max(count.bit_length() for _, count in pairs)
        return [[v for v, count in pairs if count >> level & 1] for level in range(num_levels)]

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as plain data."""
        pairs = sorted(self.counts.items())
        return {"level": self.level, "keys": [k for k, _ in pairs], "counts": [c for _, c in pairs]}

    @classmethod
    def from_dict(cls, content: Any) -> "Distribution":
        """Return the distribution that plain data holds.

        Raises:
            BadInput: If it holds none; a clause without its file.
        """
        try:
            level, kind = content["level"], float if content["level"] is None else int
            keys, counts = [kind(key) for key in content["keys"]], [*map(int, content["counts"])]
            if level is not None and not -2000 <= int(level) <= FINEST:
                raise ValueError("no level")
            if len(keys) > MAX_CELLS or min(counts, default=1) < 1:
                raise ValueError("no counts")
            return cls(level, dict(zip(keys, counts, strict=True)))
        except MISSHAPEN as error:
            raise BadInput("holds no distribution") from error


def _cell(value: float, level: int) -> int:
    above, below = value.as_integer_ratio()
    return (above << level) // below if level >= 0 else above // (below << -level)


def _cells(values: np.ndarray, level: int) -> list[int]:
    """Return the cells of finite values, as `_cell` does of one."""
    with np.errstate(over="ignore", under="ignore"):
        scaled = np.ldexp(values, level)
    size = np.abs(scaled)
    # Beyond, a scaled value is rounded or no whole number of 64 bits.
    is_exact = (size < 2.0**62) & ((size >= 2.0**-1022) | (values == 0))
    if is_exact.all():
        cells: list[int] = np.floor(scaled).astype(np.int64).tolist()
        return cells
    return [_cell(value, level) for value in values.tolist()]


def _middle(cell: int, level: int) -> float:
    if level >= 0:
        return (2 * cell + 1) / (1 << (level + 1))
    try:
        return float((2 * cell + 1) * (1 << (-level - 1)))
    except OverflowError:
        return float("inf") if cell > 0 else float("-inf")
