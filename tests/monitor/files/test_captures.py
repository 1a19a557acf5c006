"""Captures are read as SageMaker writes them, line by line; bad lines are counted."""

import base64
import errno
import json
import os
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from regrow.data.checks.remarks import Remarks
from regrow.errors import BadInput
from regrow.monitor.files import captures
from regrow.monitor.files.captures import (
    BAD_LINE,
    Body,
    Event,
    capture_files,
    event_line,
    parse_attributes,
    parse_event,
    read_events,
)

# The example of the developer guide, with the keys that its other pages add.
LINE = (
    '{"captureData":{"endpointInput":{"observedContentType":"image/jpeg","mode":"INPUT",'
    '"data":"/9j/4AAQSkZJRg==","encoding":"BASE64"},"endpointOutput":{"observedContentType":'
    '"application/json","mode":"OUTPUT","data":"{\\"label\\":\\"car\\",\\"score\\":0.93}",'
    '"encoding":"JSON"}},"eventMetadata":{"eventId":"74b0dd56-e7c8-368e-94b1-14a138a96000",'
    '"inferenceId":"cam3-000017","customAttributes":["camera=3;site=north"],'
    '"inferenceTime":"2026-11-30T07:30:50Z"},"eventVersion":"0"}'
)
TIME = datetime(2026, 11, 30, 7, 30, 50, tzinfo=UTC)


def test_the_guides_example_is_read() -> None:
    event = parse_event(LINE)
    assert event.id == "74b0dd56-e7c8-368e-94b1-14a138a96000"
    assert event.name == event.inference_id == "cam3-000017"
    assert event.time == TIME
    assert event.attributes == {"camera": "3", "site": "north"}
    assert event.input is not None
    assert event.output is not None
    assert event.input.content() == base64.b64decode("/9j/4AAQSkZJRg==")
    assert event.output.json() == {"label": "car", "score": 0.93}


@pytest.mark.parametrize("size", range(9))
def test_the_size_of_a_body_is_that_of_its_content(size: int) -> None:
    content = bytes(range(size))
    body = Body("image/png", base64.b64encode(content).decode(), "BASE64")
    assert body.num_bytes == len(body.content()) == size
    assert Body("text/csv", "\u00e9" * size, "CSV").num_bytes == 2 * size


def test_an_event_is_written_as_it_is_read() -> None:
    assert json.loads(event_line(parse_event(LINE))) == json.loads(LINE)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("text/csv; charset=utf-8", "text/csv"), ("Image/JPEG", "image/jpeg"), (None, ""), (3, "")],
)
def test_parameters_of_content_types_are_ignored(kind: Any, expected: str) -> None:
    content = json.loads(LINE)
    content["captureData"]["endpointOutput"]["observedContentType"] = kind
    event = parse_event(json.dumps(content))
    assert event.output is not None
    assert event.output.content_type == expected


def test_parameters_of_content_types_are_kept_beside() -> None:
    content = json.loads(LINE)
    kind = "Application/X-Tensors; head=17;a=b"
    content["captureData"]["endpointInput"]["observedContentType"] = kind
    body = parse_event(json.dumps(content)).input
    assert body is not None
    assert (body.content_type, body.parameters) == ("application/x-tensors", "head=17;a=b")
    assert body.observed_type == "application/x-tensors;head=17;a=b"
    written = json.loads(event_line(parse_event(json.dumps(content))))
    assert written["captureData"]["endpointInput"]["observedContentType"] == body.observed_type


def test_json_captured_as_base64_is_read_the_same() -> None:
    """An answer whose content type is on no list is captured as base64 by SageMaker."""
    body = Body("text/html", base64.b64encode(b'{"label": "car"}').decode(), "BASE64")
    assert body.json() == {"label": "car"}
    with pytest.raises(BadInput, match="a body of text/html in CSV: not JSON"):
        Body("text/html", "<p>", "CSV").json()
    with pytest.raises(BadInput, match="is no base64"):
        Body("image/png", "\u00e9", "BASE64").content()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("camera=3;site=north", {"camera": "3", "site": "north"}),
        (["camera=3", "site=north"], {"camera": "3", "site": "north"}),
        (["camera=3.0\n, site = north"], {"camera": "3", "site": "north"}),
        ("trace-77", {}),
        (None, {}),
        ([["camera=3"]], {}),
        ({"camera": 3}, {}),
    ],
)
def test_custom_attributes_are_a_text_or_a_list(value: Any, expected: dict[str, str]) -> None:
    assert parse_attributes(value) == expected


def _with(**changes: Any) -> str:
    content = json.loads(LINE)
    content["eventMetadata"] |= changes
    return json.dumps(content)


BAD = [
    "{",
    "[]",
    "{}",
    "null",
    _with(eventId=3),
    _with(eventId=""),
    _with(inferenceTime="tomorrow"),
    LINE.replace('"BASE64"', '"ROT13"'),
    LINE.replace('"/9j/4AAQSkZJRg=="', "7"),
    "[" * 100_000,
    LINE[:200],  # torn by a crash
    "\u0000\u0000",
]


def test_bad_lines_are_counted_and_the_others_read(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("\n".join([*BAD, "", LINE]))
    remarks = Remarks()
    assert [event.id for event in read_events(file, remarks)] == [parse_event(LINE).id]
    assert remarks.to_dict()[BAD_LINE]["count"] == len(BAD)


def test_long_lines_are_left_out_without_being_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captures, "MAX_LINE", 1000)
    file, remarks = tmp_path / "a.jsonl", Remarks()
    file.write_text("x" * 20_000_000 + "\n" + LINE + "\n")
    tracemalloc.start()
    assert len(list(read_events(file, remarks))) == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000
    assert remarks.to_dict()[BAD_LINE]["count"] == 1


def test_memory_is_flat(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("".join(_with(eventId=f"{n}", pad="x" * 5000) + "\n" for n in range(4000)))
    tracemalloc.start()
    assert sum(1 for _ in read_events(file, Remarks())) == 4000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000 < file.stat().st_size


def test_files_are_found_by_hour_but_not_half_written_ones(tmp_path: Path) -> None:
    for name in ("a/b/2026/11/30/07/2.jsonl", "a/b/2026/11/30/06/1.jsonl", "x/.tmp.jsonl", "x/y"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert [file.name for file in capture_files(tmp_path)] == ["1.jsonl", "2.jsonl"]
    with pytest.raises(BadInput, match="no such folder"):
        capture_files(tmp_path / "none")


@pytest.mark.parametrize("error", [PermissionError, FileNotFoundError])
def test_a_folder_that_may_not_be_read_is_no_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    (tmp_path / "07").mkdir()
    (tmp_path / "1.jsonl").touch()
    real = os.scandir

    def scandir(place: Any) -> Any:
        if str(place).endswith("07"):
            raise error(errno.EACCES, "Permission denied", str(place))
        return real(place)

    monkeypatch.setattr(os, "scandir", scandir)
    if error is FileNotFoundError:  # somebody has removed it in between
        assert [file.name for file in capture_files(tmp_path)] == ["1.jsonl"]
    else:
        with pytest.raises(BadInput, match=r"07: cannot be read \(Permission denied\)"):
            capture_files(tmp_path)


def test_a_plain_event_has_its_own_id_as_name() -> None:
    event = Event("e1", TIME)
    assert event.name == "e1"
    assert parse_event(event_line(event)) == event
