"""Ground truth: the JSON lines by which labels come later than the pictures.

Source: Amazon SageMaker Developer Guide, "Ingest Ground Truth Labels and Merge Them With
Predictions": one object a line, in the folder of the hour in which it was labelled. SageMaker
knows CSV; boxes and masks are regrow's extension, as text of JSON, and so is `probability`, with
which a picture was chosen to be labelled.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from regrow.data.checks.remarks import Remarks
from regrow.errors import BadInput
from regrow.monitor.files.captures import parse_parts, read_lines
from regrow.monitor.files.times import parse_time

BAD_LINE = "lines of ground truth that cannot be read, left out"
IN_HOUR = re.compile(r"(?:^|/)(\d{4})/(\d{2})/(\d{2})/(\d{2})/[^/]+$")


@dataclass(frozen=True, slots=True)
class Label:
    """The truth about one picture.

    Args:
        id: The event's id, or the client's own.
        data: The text.
        encoding: `CSV` or `JSON`.
        probability: With which the picture was chosen to be labelled; None if all are labelled, or
            chosen alike.
    """

    id: str
    data: str
    encoding: str
    probability: float | None = None


def read_labels(file: Path, remarks: Remarks) -> Iterator[Label]:
    """Yield the labels of a file, in its order; bad lines are counted, never an error.

    Args:
        file: The file of JSON lines.
        remarks: What is left out is counted here.

    Raises:
        BadInput: If the file cannot be read.
    """
    for line in read_lines(file, remarks, BAD_LINE):
        try:
            yield parse_label(line)
        except BadInput as error:
            remarks.add(BAD_LINE, f"{file.name}: {str(error)[:200]}")


def parse_label(line: bytes | str) -> Label:
    """Return the label of one line.

    Raises:
        BadInput: If it is none; a clause without its file.
    """
    own, truth, _ = parse_parts(line, "groundTruthData")
    data, encoding = truth.get("data"), truth.get("encoding", "CSV")
    if not isinstance(data, str) or encoding not in ("CSV", "JSON"):
        raise BadInput("groundTruthData that is no text of CSV or JSON")
    return Label(own, data, encoding, _probability(truth.get("probability")))


def _probability(value: Any) -> float | None:
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= 1:
        raise BadInput(f"the probability {str(value)[:40]!r}, which must lie in (0, 1]")
    return float(value)


def labelled_hour(name: str) -> datetime | None:
    """Return the hour in which the labels of a file came, by its folders; None if they say none.

    Args:
        name: The path of the file, with forward slashes.
    """
    found = IN_HOUR.search(name)
    if found is None:
        return None
    try:
        return parse_time("{}-{}-{}T{}:00:00Z".format(*found.groups()))
    except BadInput:  # no such day, or none of our time
        return None
