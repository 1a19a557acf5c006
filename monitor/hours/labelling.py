"""Labels that have come, joined to the answers that they are about."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from regrow.data.checks.remarks import Remarks
from regrow.errors import BadInput
from regrow.monitor.alarms.risk import RiskDetector
from regrow.monitor.answers import predictions_of
from regrow.monitor.baseline import Baseline
from regrow.monitor.bias.observing import LabelObserver
from regrow.monitor.draws import key_of
from regrow.monitor.files.captures import Event
from regrow.monitor.files.ground_truth import Label, read_labels
from regrow.monitor.files.times import as_text, hour_of
from regrow.monitor.quality import Quality
from regrow.monitor.truths import loss_of, parse_truth

MAX_LABELS = 10**6  # that come in one hour
TWICE = "labels given twice, of which the last counts"
USED = "labels of pictures that were labelled in an earlier hour, scored but not bet on again"
UNKNOWN = "labels of ids unknown in the week before, left out"
UNFIT = "labels that do not fit their answer, left out"
LATE = "sampled labels of hours that have been judged already, scored but not bet on"


@dataclass(slots=True)
class Labelled:
    """The labelled pictures of one hour of labelling.

    Args:
        quality: Their score.
        remarks: What was left out.
        rows: Time, key, id, loss and probability of each.
        matched: The ids that an answer was found for.
        num_by_inference_id: How many of them are the client's own; the others are of events.
    """

    quality: Quality
    remarks: Remarks = field(default_factory=Remarks)
    rows: list[tuple[float, int, str, float, float | None]] = field(default_factory=list)
    matched: set[str] = field(default_factory=set)
    num_by_inference_id: int = 0

    def counts(self) -> dict[str, Any]:
        """Return by which ids the labels were joined, and to how many pictures of which hours."""
        hours = {as_text(hour): count for hour, count in sorted(self.hours.items())}
        return {"num_by_inference_id": self.num_by_inference_id, "hours": hours}

    @property
    def hours(self) -> Counter[datetime]:
        """Return the hours that the labelled pictures are of, and how many each has."""
        return Counter(hour_of(_time(seconds)) for seconds, *_ in self.rows)


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
) -> Labelled:
    """Join labels to the answers of events, by the client's id or else the event's.

    Args:
        labels: The labels by id.
        events: The events that may be meant.
        baseline: The model.
        remarks: What is left out is counted here.
        observer: Collects the joined pictures by their facets.
    """
    made = Labelled(Quality(baseline.kind, baseline.classes), remarks)
    for event in events:
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
        row = (event.time.timestamp(), key_of(event.id), event.id, loss, label.probability)
        made.rows.append(row)
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

    Args:
        labelled: The pictures.
        detector: The bets.
        used: The events that were bet on before.
        sampled_hours: The hours whose sampled labels were bet on before; new ones are added.
        num_events: How many pictures each hour has.

    Returns:
        The logarithm of the evidence after each step.
    """
    rows = sorted(row for row in labelled.rows if row[2] not in used)
    for row in labelled.rows:
        if row[2] in used:
            labelled.remarks.add(USED, row[2])
    plain = [row for row in rows if row[4] is None]
    logs = [detector.add_(np.array([row[3] for row in plain]), np.array([row[0] for row in plain]))]
    judged = set(sampled_hours)
    sampled: dict[datetime, list[tuple[float, float]]] = {}
    for seconds, _, name, loss, probability in rows:
        hour = hour_of(_time(seconds))
        if probability is None:
            continue
        if as_text(hour) in judged:
            labelled.remarks.add(LATE, name)
            continue
        sampled.setdefault(hour, []).append((loss, probability))
    for hour, pairs in sorted(sampled.items()):
        losses, probabilities = np.array(pairs).T
        total = max(num_events.get(hour, 0), len(pairs))
        logs.append(detector.add_sampled_(losses, probabilities, total, hour.timestamp()))
        sampled_hours.append(as_text(hour))
    return np.concatenate(logs)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
