"""Ground truth is read as SageMaker has it, and the hour of its labels from its folders."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from regrow.data.checks.remarks import Remarks
from regrow.monitor.files.ground_truth import (
    BAD_LINE,
    Label,
    labelled_hour,
    parse_label,
    read_labels,
)

# The example of the developer guide.
LINE = (
    '{"groundTruthData":{"data":"1","encoding":"CSV"},'
    '"eventMetadata":{"eventId":"cam3-000017"},"eventVersion":"0"}'
)


def _with(**truth: Any) -> str:
    content = json.loads(LINE)
    content["groundTruthData"] |= truth
    return json.dumps(content)


def test_the_guides_example_is_read() -> None:
    assert parse_label(LINE) == Label("cam3-000017", "1", "CSV")
    assert parse_label(_with(probability=0.25)).probability == 0.25


def test_bad_lines_are_counted(tmp_path: Path) -> None:
    bad = [
        "{", "[]", "{}", LINE.replace('"cam3-000017"', "7"), _with(data=1), _with(encoding="XML"),
        _with(probability=0), _with(probability=True), _with(probability="x"),
    ]  # fmt: skip
    (tmp_path / "a.jsonl").write_text("\n".join([*bad, LINE]))
    remarks = Remarks()
    assert [label.id for label in read_labels(tmp_path / "a.jsonl", remarks)] == ["cam3-000017"]
    assert remarks.to_dict()[BAD_LINE]["count"] == len(bad)


@pytest.mark.parametrize(
    ("name", "hour"),
    [
        ("prefix/2026/11/30/07/a.jsonl", datetime(2026, 11, 30, 7, tzinfo=UTC)),
        ("2026/11/30/07/a.jsonl", datetime(2026, 11, 30, 7, tzinfo=UTC)),
        ("a.jsonl", None),
        ("2026/13/30/07/a.jsonl", None),
        ("2026/11/30/24/a.jsonl", None),
        ("0001/01/01/00/a.jsonl", None),
        ("9999/12/31/23/a.jsonl", None),
    ],
)
def test_the_hour_is_that_of_the_folders(name: str, hour: datetime | None) -> None:
    assert labelled_hour(name) == hour
