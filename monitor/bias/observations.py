"""Observations: pictures by column, with the values of their facets; a few numbers for each."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from regrow.monitor.bias.facets import DERIVED, Seen, Subject
from regrow.monitor.bias.intervals import effective_size
from regrow.monitor.bias.metrics import COLUMNS, RATES, Counts

UNLABELLED = ("pictures", "predicted")  # the counts of a picture whose truth is not known


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of one picture.

    Args:
        values: The values of its facets.
        counts: What it adds to the counts of its side.
        time: When it was seen, in seconds since 1970.
        key: What tells it from all others, a number of 64 bits.
        block: The number of its block, whose pictures depend on each other; None stands alone.
        probability: With which it was chosen to be labelled; None if all are, or chosen alike.
        is_new: Whether it was not bet on yet.
        boxes: Predicted and true boxes of the label, as evidence of AP takes them.
    """

    values: dict[str, str]
    counts: Counts
    time: float
    key: int
    block: int | None = None
    probability: float | None = None
    is_new: bool = True
    boxes: tuple[Any, Any] | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison.

    Args:
        counts: What its pictures show; of sampled ones each counts 1 / p.
        num_pictures: How many there are.
        sizes: Of each share, how many independent pictures would be as sure of it.
    """

    counts: Counts
    num_pictures: int
    sizes: dict[str, float]


@dataclass(frozen=True, slots=True)
class Stream:
    """Pictures of one facet in the order of their time.

    Args:
        codes: The number of each one's value, (n,).
        times: In seconds since 1970, (n,).
        blocks: The number of each one's block, from 0, (n,).
        values: What is bet on, in [0, 1], (n,).
    """

    codes: np.ndarray
    times: np.ndarray
    blocks: np.ndarray
    values: np.ndarray


class Observations:
    """The pictures of an hour, of its labels, or of a reference.

    Args:
        subject: What is compared.
        has_truth: Whether the truth about them is known.
    """

    def __init__(self, subject: Subject, *, has_truth: bool) -> None:
        self.subject, self.has_truth = subject, has_truth
        self.seen = Seen(subject.chosen)
        self._columns = {name: array("d") for name in (COLUMNS if has_truth else UNLABELLED)}
        self._weights, self._times = array("d"), array("d")
        self._keys, self._blocks, self._is_bet = array("Q"), array("Q"), array("b")
        self._codes: dict[str, array[int]] = {}
        self._numbers: dict[str, dict[str, int]] = {}
        self.num_sampled = 0
        self._has_blocks, self._is_settled = False, True

    def __len__(self) -> int:
        return len(self._times)

    def add(self, own: Observation) -> None:
        """Add a picture; the order in which they are added makes no difference."""
        self._is_settled = False
        for name, value in own.values.items():
            self._note(name, value)
        for name, codes in self._codes.items():
            codes.append(self._numbers[name][own.values[name]] if name in own.values else -1)
        for name, column in self._columns.items():
            column.append(getattr(own.counts, name))
        self._weights.append(1 / own.probability if own.probability else 1.0)
        self._times.append(own.time)
        self._keys.append(own.key)
        self._blocks.append(own.key if own.block is None else own.block)
        self._has_blocks |= own.block is not None
        self._is_bet.append(own.is_new and own.probability is None)
        self.num_sampled += own.probability is not None
        if own.boxes is not None:
            self._ranked.update([own.boxes[0]], [own.boxes[1]])

    @cached_property
    def _ranked(self) -> Any:
        # Here, since nothing but boxes with their truth needs PyTorch.
        from regrow.metrics.evidence import BoxEvidence

        return BoxEvidence(1)

    def _note(self, facet: str, value: str) -> None:
        """Give a value of a facet its number, and drop facets that have no place any more."""
        if facet not in DERIVED and value not in self._numbers.get(facet, ()):
            self.seen.add(facet, [value])
            for name in [*self._codes]:
                if name not in DERIVED and self.seen.values.get(name) is None:
                    del self._codes[name], self._numbers[name]
            if self.seen.values.get(facet) is None:
                return
        if facet not in self._codes:
            self._codes[facet] = array("h", [-1]) * len(self)
        numbers = self._numbers.setdefault(facet, {})
        numbers.setdefault(value, len(numbers))

    def _settle(self) -> None:
        """Put pictures in the order of their keys, and give values their numbers by their names."""
        if self._is_settled:
            return
        order = np.argsort(self._keys, kind="stable")
        if "_ranked" in vars(self) and self._ranked.num_images == len(self):
            self._ranked = self._ranked.in_order(order.tolist())
        columns: list[array[Any]] = [*self._columns.values(), self._weights, self._times]
        for column in (*columns, self._blocks, self._is_bet):
            _replace_(column, np.array(column)[order])
        for facet, codes in self._codes.items():
            names = sorted(self._numbers[facet])
            numbers = np.array([*map(names.index, self._numbers[facet]), -1])
            _replace_(codes, numbers[np.array(codes)[order]])
            self._numbers[facet] = {name: number for number, name in enumerate(names)}
        _replace_(self._keys, np.array(self._keys)[order])
        self._is_settled = True

    def values(self, facet: str) -> dict[str, int]:
        """Return the values of a facet that were seen here, and the number of each."""
        self._settle()
        return dict(sorted(self._numbers.get(facet, {}).items()))

    @property
    def facets(self) -> list[str]:
        """Return the facets that pictures here have."""
        return sorted(self._codes)

    def sides(self, facet: str) -> dict[str, tuple[Side, Side]]:
        """Return for each value of a facet the rest and the pictures that have it.

        Pictures whose value is not known are on neither side.
        """
        self._settle()
        codes = np.array(self._codes[facet])
        known = codes >= 0
        blocks, weights = self._numbered_blocks(known), np.array(self._weights)[known]
        codes, values = codes[known], self.values(facet)
        columns = {n: np.array(own)[known] * weights for n, own in self._columns.items()}
        totals = {name: np.bincount(codes, own, len(values)) for name, own in columns.items()}
        counts = np.bincount(codes, minlength=len(values))
        sizes = dict(_sizes(columns, codes, blocks, len(values)))
        return {
            value: (
                Side(
                    Counts(**{n: float(own.sum() - own[code]) for n, own in totals.items()}),
                    int(counts.sum() - counts[code]),
                    {name: float(pair[0][code]) for name, pair in sizes.items()},
                ),
                Side(
                    Counts(**{n: float(own[code]) for n, own in totals.items()}),
                    int(counts[code]),
                    {name: float(pair[1][code]) for name, pair in sizes.items()},
                ),
            )
            for value, code in values.items()
        }

    def stream(self, facet: str, column: str) -> Stream:
        """Return the pictures of a facet that were not bet on yet, in the order of their time.

        Args:
            facet: The facet.
            column: What is bet on, one of the counts.
        """
        self._settle()
        codes, times = np.array(self._codes[facet]), np.array(self._times)
        order = np.lexsort((np.array(self._keys), times))
        order = order[((codes >= 0) & np.array(self._is_bet, dtype=bool))[order]]
        values = np.array(self._columns[column])[order]
        return Stream(codes[order], times[order], self._numbered_blocks(order), values)

    def _numbered_blocks(self, chosen: np.ndarray) -> np.ndarray:
        """Return the blocks of some pictures, by flags or places, as numbers from 0."""
        blocks = np.array(self._blocks)[chosen]
        if not self._has_blocks:
            return np.arange(len(blocks))
        numbers: np.ndarray = np.unique(blocks, return_inverse=True)[1]
        return numbers

    def ranked(self, facet: str) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
        """Return `BoxEvidence` of AP, with number of the value, block and weight of each picture.

        The evidence lacks pictures that were added without their boxes.
        """
        self._settle()
        blocks = self._numbered_blocks(np.arange(len(self)))
        return self._ranked, np.array(self._codes[facet]), blocks, np.array(self._weights)

    @property
    def num_bets(self) -> int:
        """Return how many pictures were not bet on yet."""
        return sum(self._is_bet)


def _replace_(column: "array[Any]", values: np.ndarray) -> None:
    column[:] = array(column.typecode, values.astype(column.typecode).tobytes())


def _sizes(
    columns: dict[str, np.ndarray], codes: np.ndarray, blocks: np.ndarray, count: int
) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    """Yield each share with its effective sizes of the rest and of each value, (values,) each."""
    pairs, of_pair = np.unique(blocks * count + codes, return_inverse=True)
    pair_codes, pair_blocks = pairs % max(count, 1), pairs // max(count, 1)
    for name, (_, below) in RATES.items():
        if not columns.keys() >= {*below}:
            continue
        size = np.bincount(of_pair, np.sum([columns[own] for own in below], axis=0), len(pairs))
        whole = np.bincount(pair_blocks, size)
        total = np.bincount(pair_codes, size, count)
        squares = np.bincount(pair_codes, size**2, count)
        # The rest of a block is all of it less its part with the value.
        cross = np.bincount(pair_codes, size * whole[pair_blocks], count)
        others = (whole**2).sum() - 2 * cross + squares
        ones = zip(total, squares, size.sum() - total, others, strict=True)
        both = [(effective_size(t, s), effective_size(r, o)) for t, s, r, o in ones]
        yield name, (np.array([pair[1] for pair in both]), np.array([pair[0] for pair in both]))
