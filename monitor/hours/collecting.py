"""Collecting the captures of one hour, in memory that does not grow with the pictures' sizes."""

from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np

from regrow.data.checks.remarks import Remarks
from regrow.data.images.conversion import Decoding
from regrow.monitor.baseline import Baseline
from regrow.monitor.draws import key_of
from regrow.monitor.examples import Examples
from regrow.monitor.features import PICTURE, Value, pixels_key
from regrow.monitor.files.captures import Event
from regrow.monitor.rows import METADATA, Row, rows_of
from regrow.monitor.summary import Summary

BATCH = 1000  # rows that are summarised at a time
MAX_ATTRIBUTES = 50  # different ones that are counted in an hour
MAX_KEYS = 2**20  # pictures among which the same ones are found
OTHER_MODEL = "answers of another model than that of the baseline, left out"
REPEATED = "events captured twice, counted once"
BROKEN = "captures of which a part cannot be used"


@dataclass(frozen=True, slots=True)
class Blocks:
    """How pictures that depend on each other are put together.

    Args:
        attribute: The custom attribute whose values tell the blocks apart, such as `camera`; None
            takes every picture for itself.
        minutes: How long a block lasts at most.
    """

    attribute: str | None = None
    minutes: float = 1.0

    def of(self, event: Event) -> str:
        """Return the name of the block of an event."""
        own = event.attributes.get(self.attribute or "")
        if own is None:
            return f"event {event.id}"
        return f"{own} {int(event.time.timestamp() // (60 * self.minutes))}"


class HourCollector:
    """What is known of the captures of one hour.

    Args:
        baseline: What they are compared with.
        blocks: Which of them depend on each other.
        decoding: How files become pixels.
    """

    def __init__(self, baseline: Baseline, blocks: Blocks, decoding: Decoding) -> None:
        self.baseline, self.blocks, self.decoding = baseline, blocks, decoding
        self.summary, self.examples, self.remarks = Summary(), Examples(), Remarks()
        self.num_events = self.num_corrupt = self.num_repeated_pictures = self.num_others = 0
        self.other_model, self.first_corrupt = "", ""
        self.has_inputs = self.has_outputs = False
        self._ids: set[int] = set()
        self._pictures: set[int] = set()
        self._attributes: set[str] = set()
        self._rows: list[dict[str, Value]] = []
        self._scores = {name: array("d") for name in baseline.scores}
        self._times, self._keys = array("d"), array("Q")
        self._blocks: list[str] = []

    def add(self, event: Event) -> None:
        """Add an event; one that was captured twice counts once."""
        key = key_of(event.id)
        if key in self._ids:
            self.remarks.add(REPEATED, event.name)
            return
        rows = rows_of(event, self.baseline.classes, self.decoding)
        others = [row.model for row in rows if row.model not in (None, self.baseline.model)]
        if others:
            self.num_others += 1
            self.other_model = str(others[0])
            self.remarks.add(OTHER_MODEL, f"{event.name}: {self.other_model[:12]}")
            return
        self._ids.add(key)
        self.num_events += 1
        for place, row in enumerate(rows):
            self._add_row(row, f"{event.id} {place}")

    def _add_row(self, row: Row, id_: str) -> None:
        if row.reason:
            self.remarks.add(BROKEN, f"{row.event.name}: {row.reason[:200]}")
        self.num_corrupt += row.is_corrupt
        if row.is_corrupt and not self.first_corrupt:
            self.first_corrupt = row.event.name
        if row.pixels is not None:
            self._note_picture(row, row.pixels, id_)
        self.has_inputs |= row.pixels is not None or row.is_corrupt
        self.has_outputs |= row.prediction is not None
        for name, scores in self._scores.items():
            value = row.values.get(name)
            scores.append(value if isinstance(value, int | float) else np.nan)
        self._times.append(row.event.time.timestamp())
        self._keys.append(key_of(id_))
        if self.blocks.attribute is not None:
            self._blocks.append(self.blocks.of(row.event))
        self._rows.append({**row.values, **self._metadata(row.event)})
        if len(self._rows) >= BATCH:
            self._summarise()

    def _note_picture(self, row: Row, pixels: np.ndarray, id_: str) -> None:
        key = pixels_key(pixels)
        self.num_repeated_pictures += key in self._pictures
        if len(self._pictures) < MAX_KEYS:
            self._pictures.add(key)
        self.examples.offer(id_, row.event.name, row.values, pixels)

    def _metadata(self, event: Event) -> dict[str, Value]:
        for name in event.attributes:
            if len(self._attributes) < MAX_ATTRIBUTES:
                self._attributes.add(name)
        return {f"{METADATA}{n}": v for n, v in event.attributes.items() if n in self._attributes}

    def _summarise(self) -> None:
        self.summary.merge(Summary.of(self._rows))
        self._rows = []

    def finish(self) -> "HourCollector":
        """Summarise what is left, and return the same collector."""
        self._summarise()
        ordered = sorted(self.summary.features.items())
        first = {name: place for place, name in enumerate(self.baseline.summary.features)}
        ordered.sort(key=lambda pair: first.get(pair[0], len(first)))
        self.summary.features = dict(ordered)
        return self

    @property
    def num_pictures(self) -> int:
        """Return the number of pictures, captured or at least answered."""
        return len(self._times)

    @property
    def not_captured(self) -> frozenset[str]:
        """Return the features that cannot be there, as inputs or outputs were not captured."""
        pictures = {*PICTURE}
        answers = {*self.baseline.summary.features} - pictures
        return frozenset(
            (set() if self.has_inputs else pictures) | (set() if self.has_outputs else answers)
        )

    def ordered(self, score: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
        """Return the values of a score in the order of their time, without the missing ones.

        Args:
            score: The score.

        Returns:
            The values, their times in seconds since 1970, their keys, and their blocks; all (n,),
            the blocks empty where each picture stands for itself.
        """
        values = np.array(self._scores[score])
        times, keys = np.array(self._times), np.array(self._keys, dtype=np.uint64)
        order = np.lexsort((keys, times))
        order = order[np.isfinite(values[order])]
        blocks = [self._blocks[place] for place in order] if self._blocks else []
        return values[order], times[order], keys[order], blocks

    @property
    def num_steps(self) -> int:
        """Return how many pictures, or blocks of them, stand for themselves."""
        return len(set(self._blocks)) if self._blocks else self.num_pictures


def counts_of(collector: HourCollector) -> dict[str, Any]:
    """Return the counts of an hour for its report."""
    return {
        "num_events": collector.num_events,
        "num_pictures": collector.num_pictures,
        "num_undecodable": collector.num_corrupt,
        "num_repeated_pictures": collector.num_repeated_pictures,
        "num_of_other_models": collector.num_others,
    }
