"""Labels that have come, joined to the answers that they are about."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from regrow.data.checks.remarks import Remarks
from regrow.errors import BadInput
from regrow.monitor.alarms.risk import RiskDetector
from regrow.monitor.answers import predictions_of
from regrow.monitor.baseline import Baseline
from regrow.monitor.bias.observing import Block, LabelObserver
from regrow.monitor.draws import key_of
from regrow.monitor.files.captures import Event
from regrow.monitor.files.ground_truth import Label, read_labels
from regrow.monitor.files.times import as_text, hour_of
from regrow.monitor.quality import Quality
from regrow.monitor.truths import loss_of, parse_truth

MAX_LABELS = 10**6  # that come in one hour
TWICE = "labels given twice, of which the last counts"
USED = "labels of pictures or blocks labelled in an earlier hour, scored but not bet on again"
UNKNOWN = "labels of ids unknown in the week before, left out"
UNFIT = "labels that do not fit their answer, left out"
LATE = "sampled labels of hours that have been judged already, scored but not bet on"


class Row(NamedTuple):
    """A labelled picture.

    Args:
        time: When it was seen, in seconds since 1970.
        key: What tells its event from all others, a number of 64 bits.
        id: The event.
        loss: The loss of the answer, in [0, 1].
        probability: With which it was chosen to be labelled; None if all are, or chosen alike.
        block: Its block, whose pictures depend on each other; None stands alone.
    """

    time: float
    key: int
    id: str
    loss: float
    probability: float | None
    block: str | None = None


@dataclass(slots=True)
class Labelled:
    """The labelled pictures of one hour of labelling.

    Args:
        quality: Their score.
        remarks: What was left out.
        rows: The pictures.
        sizes: How many pictures each block of each hour has, labelled or not; empty where pictures
            stand alone, or none was chosen with a probability of its own.
        matched: The ids that an answer was found for.
        num_by_inference_id: How many of them are the client's own; the others are of events.
    """

    quality: Quality
    remarks: Remarks = field(default_factory=Remarks)
    rows: list[Row] = field(default_factory=list)
    sizes: dict[datetime, Counter[str]] = field(default_factory=dict)
    matched: set[str] = field(default_factory=set)
    num_by_inference_id: int = 0

    def counts(self) -> dict[str, Any]:
        """Return by which ids the labels were joined, and to how many pictures of which hours."""
        hours = {as_text(hour): count for hour, count in sorted(self.hours.items())}
        return {"num_by_inference_id": self.num_by_inference_id, "hours": hours}

    @property
    def hours(self) -> Counter[datetime]:
        """Return the hours that the labelled pictures are of, and how many each has."""
        return Counter(hour_of(_time(row.time)) for row in self.rows)

    def bet_on(self) -> list[str]:
        """Return the events that are not to be bet on again, and their blocks, sorted."""
        blocks = {row.block for row in self.rows if row.block is not None}
        return sorted({row.id for row in self.rows} | blocks)


def gather(files: Iterable[Path], remarks: Remarks) -> dict[str, Label]:
    """Return the labels of files by their ids; the last one of an id counts.

    Args:
        files: The files, in the order in which they count.
        remarks: What is left out is counted here.

    Raises:
        BadInput: If a file cannot be read, or there are too many labels.
    """
    labels: dict[str, Label] = {}
    for file in files:
        for label in read_labels(file, remarks):
            if label.id in labels:
                remarks.add(TWICE, label.id)
            labels[label.id] = label
            if len(labels) > MAX_LABELS:
                raise BadInput(f"{file}: more than {MAX_LABELS:,} labels in one hour; split them")
    return labels


def join(
    labels: Mapping[str, Label],
    events: Iterable[Event],
    baseline: Baseline,
    remarks: Remarks,
    observer: LabelObserver | None = None,
    block_of: Block | None = None,
) -> Labelled:
    """Join labels to the answers of events, by the client's id or else the event's.

    Args:
        labels: The labels by id.
        events: The events that may be meant.
        baseline: The model.
        remarks: What is left out is counted here.
        observer: Collects the joined pictures by their facets.
        block_of: Returns the name of an event's block; None where each picture stands alone.
    """
    made = Labelled(Quality(baseline.kind, baseline.classes), remarks)
    has_sampled = any(label.probability is not None for label in labels.values())
    for event in events:
        if block_of is not None and has_sampled:
            made.sizes.setdefault(hour_of(event.time), Counter())[block_of(event)] += 1
        name = event.inference_id if event.inference_id in labels else event.id
        label = labels.get(name)
        if label is None or name in made.matched:
            continue
        made.matched.add(name)
        try:
            prediction = _prediction(event, baseline.model)
            truth = parse_truth(label, baseline.kind, baseline.classes)
            loss = loss_of(prediction, truth, baseline.classes)
            made.quality.add(prediction, truth, key_of(event.id))
        except BadInput as error:
            remarks.add(UNFIT, f"{name}: {str(error)[:200]}")
            continue
        made.num_by_inference_id += name == event.inference_id
        block = None if block_of is None else block_of(event)
        moment = event.time.timestamp(), key_of(event.id), event.id
        made.rows.append(Row(*moment, loss, label.probability, block))
        if observer is not None:
            observer.add(event, prediction, truth, loss, label.probability)
    for name in labels.keys() - made.matched:
        remarks.add(UNKNOWN, name)
    return made


def _prediction(event: Event, model: str) -> Mapping[str, Any]:
    answer = event.output.json() if event.output is not None else None
    named = answer.get("model") if isinstance(answer, dict) else None
    if named not in (None, model):
        raise BadInput(f"the answer is of another model, {str(named)[:12]}")
    found = predictions_of(answer)
    if len(found) != 1:
        raise BadInput(f"an answer of {len(found)} predictions, and one label")
    return found[0]


def bet_(
    labelled: Labelled,
    detector: RiskDetector,
    used: Collection[str],
    sampled_hours: list[str],
    num_events: Mapping[datetime, int],
) -> np.ndarray:
    """Bet on the losses of labelled pictures; changes the detector, and the hours judged.

    Pictures of a block depend on each other, so a block counts once: by the mean loss of its
    pictures that are labelled, and of sampled ones by what estimates that of all its pictures.

    Args:
        labelled: The pictures.
        detector: The bets.
        used: The events and blocks that were bet on before.
        sampled_hours: The hours whose sampled labels were bet on before; new ones are added.
        num_events: How many pictures each hour has.

    Returns:
        The logarithm of the evidence after each step.
    """
    rows = []
    for row in sorted(labelled.rows):
        if row.id in used or row.block in used:
            labelled.remarks.add(USED, row.id)
        else:
            rows.append(row)
    plain: dict[str, list[Row]] = {}
    sampled: dict[datetime, dict[str, float]] = {}
    judged = set(sampled_hours)
    for row in rows:
        hour, name = hour_of(_time(row.time)), row.block or row.id
        if row.probability is None:
            plain.setdefault(name, []).append(row)
        elif as_text(hour) in judged:
            labelled.remarks.add(LATE, row.id)
        else:
            size = labelled.sizes.get(hour, Counter())[name] or 1
            own = sampled.setdefault(hour, {})
            own[name] = own.get(name, 0.0) + row.loss / row.probability / size
    blocks = sorted(plain.values(), key=lambda own: own[-1])  # in the order in which they end
    losses = np.array([fmean(row.loss for row in own) for own in blocks])
    logs = [detector.add_(losses, np.array([own[-1].time for own in blocks]))]
    for hour, weighted in sorted(sampled.items()):
        count = len(labelled.sizes.get(hour, ())) or num_events.get(hour, 0)
        values = np.array([*weighted.values()])
        logs.append(detector.add_sampled_(values, max(count, len(values)), hour.timestamp()))
        sampled_hours.append(as_text(hour))
    return np.concatenate(logs)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
