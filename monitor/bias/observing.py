"""Observing: how a captured answer, a label or a picture of a reference becomes an observation."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from regrow.data.images.conversion import Decoding
from regrow.errors import BadInput
from regrow.monitor.bias.facets import (
    ASPECT,
    BRIGHTNESS,
    OBJECT_SIZE,
    Subject,
    object_size_of,
    terciles,
)
from regrow.monitor.bias.measuring import reference_parts
from regrow.monitor.bias.metrics import Counts
from regrow.monitor.bias.observations import Observation, Observations
from regrow.monitor.bias.outcomes import outcome_of, predicted_share, ranked_boxes
from regrow.monitor.draws import key_of
from regrow.monitor.features import Value
from regrow.monitor.files.captures import Event
from regrow.monitor.rows import Row, measure
from regrow.monitor.truths import Truth

Block = Callable[[Event], str]


def observe_answer(row: Row, key: int, block: int | None, subject: Subject) -> Observation | None:
    """Return what is known of an answer without its truth; None where it cannot be used.

    Args:
        row: The picture and its answer.
        key: What tells the picture from all others, a number of 64 bits.
        block: That of its block; None stands alone.
        subject: What is compared.
    """
    if row.prediction is None:
        return None
    try:
        share = predicted_share(row.prediction, subject.label)
    except BadInput:
        return None  # it is counted where the features of answers are
    return Observation(
        subject.values(row.values, row.event.attributes),
        Counts(pictures=1.0, predicted=share),
        row.event.time.timestamp(),
        key,
        block,
    )


class ReferenceObserver:
    """Collects the pictures of a reference.

    Args:
        subject: What is compared.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.rows: list[tuple[dict[str, Value], float | None, Observation]] = []

    def add(
        self,
        name: str,
        features: dict[str, Value],
        pixels: np.ndarray,
        prediction: Mapping[str, Any],
        truth: Truth,
        loss: float,
        group: str,
    ) -> None:
        """Add a picture with its truth.

        Args:
            name: What people call it.
            features: Its features.
            pixels: The picture, uint8 RGB (h, w, 3).
            prediction: The prediction, as the server answers it.
            truth: Its label.
            loss: The loss of the prediction.
            group: What it depends on others of.
        """
        own = self.subject
        counts = outcome_of(prediction, truth, loss, own.label, own.classes)
        boxes = ranked_boxes(prediction, truth, own.label)
        seen = Observation({}, counts, 0.0, key_of(name), key_of(group), boxes=boxes)
        light = {key: features.get(key) for key in (BRIGHTNESS, ASPECT)}
        self.rows.append((light, object_size_of(truth, (pixels.shape[0], pixels.shape[1])), seen))

    def parts(self) -> dict[str, Any]:
        """Return the parts of `analysis.json`: metrics by facet, their limits, and the edges."""
        light = [row[0].get(BRIGHTNESS) for row in self.rows]
        numbers = {
            BRIGHTNESS: [own for own in light if isinstance(own, float)],
            OBJECT_SIZE: [row[1] for row in self.rows if row[1] is not None],
        }
        found = {name: terciles(own) for name, own in numbers.items()}
        edges = {name: own for name, own in found.items() if own is not None}
        subject = replace(self.subject, edges=edges)
        pictures = Observations(subject, has_truth=True)
        for features, size, own in self.rows:
            pictures.add(replace(own, values=subject.values(features, {}, size)))
        return reference_parts(pictures, edges)


class LabelObserver:
    """Collects the pictures whose labels have come.

    Args:
        subject: What is compared.
        decoding: How files become pixels.
        block_of: Returns the name of an event's block; None where each picture stands alone.
        used: The events and blocks that were bet on before.
    """

    def __init__(
        self, subject: Subject, decoding: Decoding, block_of: Block | None, used: Collection[str]
    ) -> None:
        self.observations = Observations(subject, has_truth=True)
        self.subject, self.decoding = subject, decoding
        self._block_of, self._used = block_of, used

    def add(
        self,
        event: Event,
        prediction: Mapping[str, Any],
        truth: Truth,
        loss: float,
        probability: float | None,
    ) -> None:
        """Add a picture; one whose answer cannot be used is left out.

        Args:
            event: The captured request.
            prediction: The prediction, as the server answers it.
            truth: Its label.
            loss: The loss of the prediction.
            probability: With which it was chosen to be labelled, if they differ.
        """
        own = self.subject
        try:
            counts = outcome_of(prediction, truth, loss, own.label, own.classes)
            boxes = ranked_boxes(prediction, truth, own.label)
        except BadInput:
            return
        features, size = self._of_pixels(event, truth)
        block = None if self._block_of is None else self._block_of(event)
        self.observations.add(
            Observation(
                own.values(features, event.attributes, size),
                counts,
                event.time.timestamp(),
                key_of(event.id),
                None if block is None else key_of(block),
                probability,
                event.id not in self._used and block not in self._used,
                boxes,
            )
        )

    def _of_pixels(self, event: Event, truth: Truth) -> tuple[Mapping[str, Value], float | None]:
        """Return the features of the picture, and the size of its objects, where it is there."""
        if not self.subject.needs_pixels:
            return {}, None
        try:
            measured, _ = measure(event, self.decoding)
        except BadInput:
            return {}, None
        if len(measured) != 1:
            return {}, None
        return measured[0].values, object_size_of(truth, measured[0].size)
