"""Collecting the captures of one hour, in memory that does not grow with the pictures' sizes."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regrow.data.checks.remarks import Remarks
from regrow.data.images.conversion import Decoding
from regrow.errors import BadInput
from regrow.monitor.baseline import Baseline
from regrow.monitor.bias.facets import Subject
from regrow.monitor.bias.observations import Observations
from regrow.monitor.bias.observing import observe_answer
from regrow.monitor.draws import key_of
from regrow.monitor.examples import Examples
from regrow.monitor.features import PICTURE, Value
from regrow.monitor.files.captures import Event
from regrow.monitor.hours.ordering import TimeOrder
from regrow.monitor.hours.seen import Seen
from regrow.monitor.network.probe import Findings, Probe
from regrow.monitor.rows import METADATA, Row, kept_pixels, picture_id, rows_of
from regrow.monitor.summary import Summary

BATCH = 1000  # rows that are summarised at a time
MAX_ATTRIBUTES = 50  # different ones that are counted in an hour
MAX_KEYS = 2**20  # pictures among which the same ones are found
OTHER_MODEL = "answers of another model than that of the baseline, left out"
REPEATED = "events captured twice, counted once"
BROKEN = "captures of which a part cannot be used"
UNKEPT = "pictures of the sample for the network that `extract` has not kept, left out"
KEEP_MORE = "give it the --embeddings and --attributions of `run`"


@dataclass(frozen=True, slots=True)
class Blocks:
    """How pictures that depend on each other are put together.

    Args:
        attribute: The custom attribute whose values tell the blocks apart, such as `camera`; None
            takes every picture for itself.
        minutes: How long a block lasts at most.

    Raises:
        BadInput: If that is no part of an hour.
    """

    attribute: str | None = None
    minutes: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.minutes <= 60:
            raise BadInput(f"block_minutes is {self.minutes}, it must lie in (0, 60]")

    def of(self, event: Event) -> str:
        """Return the name of the block of an event."""
        own = event.attributes.get(self.attribute or "")
        if own is None:
            return f"event {event.id}"
        return f"{own} {self._window(event)}"

    def slot(self, event: Event) -> int:
        """Return the number of the minute of an event, or of a longer time of whole blocks."""
        if self.attribute is None:
            return int(event.time.timestamp() // 60)
        return self._window(event) // max(int(1 / self.minutes), 1)

    def _window(self, event: Event) -> int:
        return int(event.time.timestamp() // (60 * self.minutes))


_Moment = tuple[float, int, int]  # the time of a picture, its key, and that of its block


class HourCollector:
    """What is known of the captures of one hour.

    Args:
        baseline: What they are compared with.
        blocks: Which of them depend on each other.
        decoding: How files become pixels.
        scratch: The folder whose disk takes what is too much for the memory; None takes the
            system's for temporary files.
        subject: What is compared between facets; None compares nothing.
        probe: Runs a sample of the pictures through the network; None does not.
    """

    def __init__(
        self,
        baseline: Baseline,
        blocks: Blocks,
        decoding: Decoding,
        scratch: Path | None = None,
        subject: Subject | None = None,
        probe: Probe | None = None,
    ) -> None:
        self.by_facet = None if subject is None else Observations(subject, has_truth=False)
        self.findings, self._probe = Findings(), probe
        self._sample = None if probe is None else probe.sample()
        self._sampled: dict[int, _Moment] = {}
        self.baseline, self.blocks, self.decoding = baseline, blocks, decoding
        self.summary, self.examples, self.remarks = Summary(), Examples(), Remarks(by_name=True)
        self.num_events = self.num_corrupt = self.num_repeated_pictures = self.num_others = 0
        self.num_pictures = 0  # captured, or at least answered
        self.other_model, self.first_corrupt = "", ""
        self.has_inputs = self.has_outputs = False
        self._ids, self._pictures, self._steps = Seen(), Seen(), Seen()
        self._attributes: set[str] = set()
        self._rows: list[dict[str, Value]] = []
        self._moments: list[tuple[int, _Moment]] = []  # the slot of each picture, and its moment
        self.watched = tuple(name for name in baseline.scores if name not in baseline.sampled)
        self._ordered = TimeOrder(_record(len(self.watched)), scratch)

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
            self._add_row(row, place)

    def _add_row(self, row: Row, place: int) -> None:
        id_ = picture_id(row.event, place)
        if row.reason:
            self.remarks.add(BROKEN, f"{row.event.name}: {row.reason[:200]}")
        self.num_corrupt += row.is_corrupt
        if row.is_corrupt and not self.first_corrupt:
            self.first_corrupt = row.event.name
        self.has_inputs |= row.key is not None or row.is_corrupt
        self.has_outputs |= row.prediction is not None
        event, key, block = row.event, key_of(id_), None
        if self.blocks.attribute is not None:
            block = key_of(self.blocks.of(event))
            self._steps.add(block)
        if self.by_facet is not None:
            seen = observe_answer(row, key, block, self.by_facet.subject)
            if seen is not None:
                self.by_facet.add(seen)
        moment = event.time.timestamp(), key, block or 0
        if row.key is not None:
            self._note_picture(row, row.key, place, moment)
        self._moments.append((self.blocks.slot(event), moment))
        self._rows.append({**row.values, **self._metadata(event)})
        self.num_pictures += 1
        if len(self._rows) >= BATCH:
            self._summarise()

    def _note_picture(self, row: Row, key: int, place: int, moment: _Moment) -> None:
        self.num_repeated_pictures += key in self._pictures
        if len(self._pictures) < MAX_KEYS:
            self._pictures.add(key)
        id_, pixels = picture_id(row.event, place), row.pixels
        if pixels is None and self._is_wanted(id_):
            pixels = kept_pixels(row.event, place, self.decoding)
        if pixels is not None:
            self.examples.offer(id_, row.event.name, row.values, pixels)
        if self._sample is not None and self._sample.offer(id_, self.num_pictures, pixels):
            self._sampled[self.num_pictures] = moment

    def _is_wanted(self, id_: str) -> bool:
        return self.examples.wants(id_) or (self._sample is not None and self._sample.wants(id_))

    def _metadata(self, event: Event) -> dict[str, Value]:
        found = {f"{METADATA}{name}": value for name, value in event.attributes.items()}
        self._attributes |= found.keys()
        if len(self._attributes) > MAX_ATTRIBUTES:
            self._attributes = {*sorted(self._attributes, key=key_of)[:MAX_ATTRIBUTES]}
        return {name: value for name, value in found.items() if name in self._attributes}

    def _summarise(self) -> None:
        self.summary.add(self._rows)
        self.summary.limit_(METADATA, MAX_ATTRIBUTES)
        records = np.zeros(len(self._rows), dtype=self._ordered.dtype)
        if self._rows:
            slots, moments = zip(*self._moments, strict=True)
            _fill_(records, moments)
            for place, name in enumerate(self.watched):
                records["scores"][:, place] = [_number(row.get(name)) for row in self._rows]
            self._ordered.add(records, np.array(slots))
        self._rows, self._moments = [], []

    def finish(self) -> "HourCollector":
        """Summarise what is left, run the sample through the network; return the same collector."""
        self._summarise()
        self.summary.features = dict(sorted(self.summary.features.items()))
        if self._probe is not None and self._sample is not None:
            self.remarks.add(UNKEPT, KEEP_MORE, self._sample.num_absent)
            self.findings = self._probe.look(self._sample)
        return self

    @property
    def not_captured(self) -> frozenset[str]:
        """Return the features that cannot be there, as inputs or outputs were not captured."""
        pictures = {*PICTURE}
        answers = {*self.baseline.summary.features} - pictures
        return frozenset(
            (set() if self.has_inputs else pictures) | (set() if self.has_outputs else answers)
        )

    def in_order(self) -> Iterator[np.ndarray]:
        """Yield the pictures in the order of their time, some minutes at a time.

        Yields:
            Records of `time`, in seconds since 1970, `key`, `block`, which is 0 where each picture
            stands for itself, and `scores`, those of `watched`, NaN where one is missing. All
            pictures of a block come together.
        """
        return iter(self._ordered)

    def sampled(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Return the scores that only the sample has, and its records as `in_order` yields them."""
        names, places = tuple(self.findings.scores), self.findings.places
        records = np.zeros(len(places), dtype=_record(len(names)))
        _fill_(records, [self._sampled[int(place)] for place in places])
        for column, scores in enumerate(self.findings.scores.values()):
            records["scores"][:, column] = scores
        return names, records[np.lexsort((records["key"], records["time"]))]

    def mean(self, score: str) -> float | None:
        """Return the mean of a score over the pictures that have it; None where none has."""
        feature, sampled = self.summary.features.get(score), self.findings.scores.get(score)
        if feature is not None and feature.numbers.count:
            return feature.numbers.mean
        known = np.zeros(0) if sampled is None else sampled[np.isfinite(sampled)]
        return float(known.mean()) if len(known) else None

    @property
    def num_steps(self) -> int:
        """Return how many pictures, or blocks of them, stand for themselves."""
        return self.num_pictures if self.blocks.attribute is None else len(self._steps)


def _record(num_scores: int) -> np.dtype[Any]:
    scores = ("scores", np.float64, (num_scores,))
    return np.dtype([("time", np.float64), ("key", np.uint64), ("block", np.uint64), scores])


def _fill_(records: np.ndarray, moments: Sequence[_Moment]) -> None:
    for place, name in enumerate(("time", "key", "block")):
        records[name] = [moment[place] for moment in moments]


def _number(value: Value) -> float:
    return value if isinstance(value, int | float) else math.nan


def counts_of(collector: HourCollector) -> dict[str, Any]:
    """Return the counts of an hour for its report."""
    return {
        "num_events": collector.num_events,
        "num_pictures": collector.num_pictures,
        "num_undecodable": collector.num_corrupt,
        "num_repeated_pictures": collector.num_repeated_pictures,
        "num_of_other_models": collector.num_others,
    }
