"""The monitor reads what the writer of captures has written."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from exchanges import TIME, told
from regrow.data.checks.remarks import Remarks
from regrow.deploy.capture.writer import CaptureWriter
from regrow.monitor.files.captures import capture_files, read_events


def test_the_monitor_reads_every_field(tmp_path: Path, make: Callable[..., CaptureWriter]) -> None:
    writer = make()
    writer(
        told(
            inference_id="cam3-000017",
            custom_attributes="camera=3;site=north",
            response_type="application/json; charset=utf-8",
        )
    )
    writer(told(event_id="next", time=TIME + 3600, response_type="", response_body=b"\x00"))
    writer.close()
    remarks = Remarks()
    events = [e for file in capture_files(tmp_path) for e in read_events(file, remarks)]
    first, second = events
    assert remarks.to_dict() == {}
    assert (first.name, second.name) == ("cam3-000017", "next")
    assert first.attributes == {"camera": "3", "site": "north"}
    assert first.time == datetime(2026, 11, 30, 7, 34, 10, tzinfo=UTC)
    assert first.input is not None
    assert first.input.content() == b"\xff\xd8\xff\xe0"
    assert first.output is not None
    assert first.output.json() == {"label": "car"}
    assert second.output is not None
    assert second.output.content() == b"\x00"
