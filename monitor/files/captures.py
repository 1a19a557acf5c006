"""Captures of an endpoint: the JSON lines of SageMaker's data capture, read as a stream.

Source: Amazon SageMaker Developer Guide, "Capture data from real-time endpoint": one object a line
in `{prefix}/{endpoint}/{variant}/yyyy/mm/dd/hh/NAME.jsonl`, in UTC.
"""

import base64
import binascii
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from regrow.data.checks.remarks import Remarks
from regrow.errors import BadInput
from regrow.files import is_there, name_below, open_regular
from regrow.monitor.files.extracts import PART, Extract, parse_extract
from regrow.monitor.files.times import as_text, parse_time
from regrow.plain import parse_json

MAX_LINE = 2**26  # bytes; SageMaker's largest body, 25 MB in and out, in base64
MAX_TEXT = 1024  # characters of an id, or of custom attributes
MAX_ATTRIBUTES = 32
ENCODINGS = ("BASE64", "JSON", "CSV", "NONE")
BAD_LINE = "lines of captures that cannot be read, left out"


@dataclass(frozen=True, slots=True)
class Body:
    """The captured body of a request or of its answer.

    Args:
        content_type: The content type without its parameters, in lower case; empty if none.
        data: The text in the capture.
        encoding: What that text is: `BASE64`, `JSON`, `CSV` or `NONE`.
        parameters: The parameters of the content type, such as `charset=utf-8`; empty if none.
    """

    content_type: str
    data: str
    encoding: str
    parameters: str = ""

    @property
    def observed_type(self) -> str:
        """Return the content type with its parameters."""
        return f"{self.content_type};{self.parameters}" if self.parameters else self.content_type

    def content(self) -> bytes:
        """Return the bytes of the body.

        Raises:
            BadInput: If they are no base64.
        """
        if self.encoding != "BASE64":
            return self.data.encode("utf-8", "surrogatepass")
        try:
            return base64.b64decode(self.data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadInput(f"a body of {self.content_type or 'no type'} is no base64") from error

    @property
    def num_bytes(self) -> int:
        """Return the number of bytes of the body, which is not decoded for it."""
        if self.encoding != "BASE64":
            return len(self.content())
        return (len(self.data) - self.data[-2:].count("=")) * 3 // 4

    def json(self) -> Any:
        """Return what a body of JSON holds, captured as text or as base64.

        Raises:
            BadInput: If it is no JSON.
        """
        text = self.content().decode("utf-8", "replace")
        return parse_json(text, f"a body of {self.content_type or 'no type'} in {self.encoding}")


@dataclass(frozen=True, slots=True)
class Event:
    """One captured request, with its answer.

    Args:
        id: The event's id.
        time: When the model was asked, in UTC.
        input: What was sent, if it was captured.
        output: What was answered, if it was captured.
        inference_id: The client's own id; empty if none was sent.
        attributes: The custom attributes by name, such as `camera`.
        extract: What was computed from the pictures that were sent, if that was captured.
    """

    id: str
    time: datetime
    input: Body | None = None
    output: Body | None = None
    inference_id: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    extract: Extract | None = None

    @property
    def name(self) -> str:
        """Return what people call the event: the client's id, or else that of the event."""
        return self.inference_id or self.id


def parse_event(line: bytes | str) -> Event:
    """Return the event of one line.

    Raises:
        BadInput: If it is no capture; a clause without its file.
    """
    content = _content(line)
    extract = parse_extract(content)
    own, captured, about = _parts(content, "captureData")
    given = about.get("inferenceId")
    return Event(
        own,
        parse_time(about.get("inferenceTime")),
        _body(captured.get("endpointInput")),
        _body(captured.get("endpointOutput")),
        given if isinstance(given, str) and len(given) <= MAX_TEXT else "",
        parse_attributes(about.get("customAttributes")),
        extract,
    )


def parse_parts(line: bytes | str, part: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return the event's id, a part, and the metadata of one line about an event.

    Args:
        line: The line, JSON.
        part: The part besides the metadata, such as `captureData`.

    Raises:
        BadInput: If it is no such line; a clause without its file.
    """
    return _parts(_content(line), part)


def _content(line: bytes | str) -> Any:
    text = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
    return parse_json(text, "a line")


def _parts(content: Any, part: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    about = content.get("eventMetadata") if isinstance(content, dict) else None
    found = content.get(part) if isinstance(content, dict) else None
    if not isinstance(about, dict) or not isinstance(found, dict):
        raise BadInput(f"a line without {part} and eventMetadata")
    own = about.get("eventId")
    if not isinstance(own, str) or not 0 < len(own) <= MAX_TEXT:
        raise BadInput("an eventId that is no text")
    return own, found, about


def _body(value: Any) -> Body | None:
    if value is None:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("data"), str):
        raise BadInput("a body whose data is no text")
    kind, encoding = value.get("observedContentType"), value.get("encoding", "NONE")
    if encoding not in ENCODINGS:
        raise BadInput(f"the encoding {encoding!r}; SageMaker has {', '.join(ENCODINGS)}")
    parameters = kind.partition(";")[2].strip() if isinstance(kind, str) else ""
    return Body(content_type(kind), value["data"], encoding, parameters)


def content_type(value: Any) -> str:
    """Return a content type without parameters, in lower case: `text/csv` of `text/CSV; a=b`."""
    return value.partition(";")[0].strip().lower() if isinstance(value, str) else ""


def parse_attributes(value: Any) -> dict[str, str]:
    """Return custom attributes by name, from a text such as `camera=3;site=north` or lists of such.

    Numbers that mean the same are written alike: `3`, `3.0` and `3` with spaces become `3`.
    """
    texts = value if isinstance(value, list) else [value]
    pairs = [
        part.partition("=")
        for text in texts[:MAX_ATTRIBUTES]
        if isinstance(text, str)
        for part in text[:MAX_TEXT].replace(",", ";").split(";")
    ]
    found = {name.strip(): _plain(own) for name, equals, own in pairs if equals and name.strip()}
    return dict(list(found.items())[:MAX_ATTRIBUTES])


def _plain(text: str) -> str:
    """Return a text without spaces around it; a whole number without its decimals."""
    text = text.strip()
    is_whole = "." in text and re.fullmatch(r"-?\d+\.0+", text)
    return text[: text.index(".")] if is_whole else text


def capture_files(
    folder: Path, advice: str = "name the one that the server captures into"
) -> list[Path]:
    """Return the files of captures in a folder, however deep, sorted by name.

    Args:
        folder: The folder.
        advice: What helps where it is none.

    Raises:
        BadInput: If there is no such folder, or one in it may not be read.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; {advice}")
    found = []
    for root, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root) / n for n in names if n.endswith(".jsonl") and not n.startswith(".")]
    found = [file for file in found if is_there(file)]  # no pipe, which nothing may ever write to
    return sorted(found, key=lambda file: name_below(folder, file))


def _refuse(error: OSError) -> None:
    """Refuse a folder that may not be read, whose hours would seem to be empty."""
    if not isinstance(error, FileNotFoundError):  # removed in between
        raise BadInput(f"{error.filename}: cannot be read ({error.strerror})") from error


def read_lines(file: Path, remarks: Remarks, kind: str = BAD_LINE) -> Iterator[bytes]:
    """Yield the lines of a file, one at a time; longer ones than a limit are left out and counted.

    Args:
        file: The file of JSON lines.
        remarks: What is left out is counted here.
        kind: How lines that cannot be read are counted.

    Raises:
        BadInput: If it is no regular file, or cannot be read.
    """
    for _, line in placed_lines(file, remarks, kind):
        yield line


def placed_lines(file: Path, remarks: Remarks, kind: str) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file as `read_lines` does, each with the byte that it begins at."""
    place = 0
    try:
        with open_regular(file) as opened:
            while line := opened.readline(MAX_LINE + 1):
                start, place = place, place + len(line)
                if len(line) > MAX_LINE:
                    remarks.add(kind, f"{file.name}: longer than {MAX_LINE:,} bytes")
                    place += _skip_line(opened, line)
                elif line.strip():
                    yield start, line
    except OSError as error:
        raise BadInput(f"{file}: cannot be read ({error.strerror or error})") from error


def _skip_line(opened: IO[bytes], line: bytes) -> int:
    """Read the rest of a line, and return how many bytes it had."""
    count = 0
    while line and not line.endswith(b"\n"):
        line = opened.readline(2**20)
        count += len(line)
    return count


def read_events(file: Path, remarks: Remarks) -> Iterator[Event]:
    """Yield the events of a file of captures, in its order; bad lines are counted, never an error.

    Args:
        file: The file.
        remarks: What is left out is counted here.

    Raises:
        BadInput: If the file cannot be read.
    """
    for _, event in read_event_lines(file, remarks):
        yield event


def read_event_lines(file: Path, remarks: Remarks) -> Iterator[tuple[bytes, Event]]:
    """Yield the lines of a file of captures and their events, as `read_events` does."""
    for line in read_lines(file, remarks):
        try:
            event = parse_event(line)
        except BadInput as error:
            remarks.add(BAD_LINE, f"{file.name}: {str(error)[:200]}")
            continue
        yield line, event


def event_line(event: Event) -> str:
    """Return an event as one line of a capture file, with its line end."""
    captured = {
        key: {
            "observedContentType": body.observed_type,
            "mode": mode,
            "data": body.data,
            "encoding": body.encoding,
        }
        for key, mode, body in (
            ("endpointInput", "INPUT", event.input),
            ("endpointOutput", "OUTPUT", event.output),
        )
        if body is not None
    }
    about: dict[str, Any] = {"eventId": event.id}
    if event.inference_id:
        about["inferenceId"] = event.inference_id
    if event.attributes:
        about["customAttributes"] = [";".join(f"{n}={v}" for n, v in event.attributes.items())]
    about["inferenceTime"] = as_text(event.time)
    content = {"captureData": captured, "eventMetadata": about, "eventVersion": "0"}
    if event.extract is not None:
        content[PART] = event.extract.to_dict()
    return json.dumps(content) + "\n"
