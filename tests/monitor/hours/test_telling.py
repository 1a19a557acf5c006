"""What is said of an hour: one line that says what was found, and one for each odd thing."""

from datetime import UTC, datetime
from typing import Any

from regrow.data.checks.remarks import Remarks
from regrow.monitor.files.times import EARLIEST
from regrow.monitor.hours.telling import (
    EARLY_LABELS,
    FUTURE_LABELS,
    LATE_LABELS,
    lines_of,
    moved_scores,
    remark_labels,
)


def report(**own: Any) -> dict[str, Any]:
    return {
        "hour": "2026-11-30T07:00:00Z",
        "message": "Completed: nothing has changed in 5 pictures",
        "remarks": {},
        "label_remarks": {},
        "missing_hours": {"count": 0, "first": None},
        "quality": None,
    } | own


def test_what_moved_is_told_apart_and_bias_is_no_score() -> None:
    pictures = [{"kind": "warn", "name": name} for name in ("brightness", "width")]
    answers = [{"kind": "warn", "name": name} for name in ("confidence", "projection_0", "boxes")]
    others = [
        {"kind": "warn", "name": "DPPL camera=3", "facet": "camera"},
        {"kind": "act", "name": "loss"},
        {"kind": "data", "name": "brightness", "check": "completeness_check"},
    ]
    found = moved_scores([others[0], *answers[:1], *pictures, *others[1:], *answers[1:]])
    assert found == {"the pictures": pictures, "the model's answers": answers}


FIRST = "2026-11-30T07:00:00Z: Completed: nothing has changed in 5 pictures"


def test_a_plain_hour_is_one_line() -> None:
    assert lines_of(report()) == [FIRST]


def test_everything_odd_is_counted_with_its_first_names() -> None:
    told = report(
        missing_hours={"count": 1, "first": "2026-11-30T06:00:00Z"},
        remarks={"events captured twice, counted once": {"count": 1, "first": ["e1"]}},
        label_remarks={"labels given twice": {"count": 1234, "first": ["a", "b"]}},
    )
    assert lines_of(told) == [
        FIRST,
        "  1 hour before had no captures, from 2026-11-30T06:00:00Z on",
        "  1 event captured twice, counted once: e1",
        "  1,234 labels given twice: a, b, ...",
    ]


def test_labels_are_told_by_id_hour_and_score() -> None:
    quality = {
        "name": "accuracy", "num_labels": 30, "value": 0.9, "interval": [0.8, 0.96],
        "num_by_inference_id": 20,
        "hours": {"2026-11-30T05:00:00Z": 10, "2026-11-30T06:00:00Z": 20},
    }  # fmt: skip
    (_, line) = lines_of(report(quality=quality))
    assert line == (
        "  30 labels of 2 hours, from 2026-11-30T05:00:00Z on: 20 by inferenceId, 10 by eventId; "
        "accuracy 0.9000 (0.8000 to 0.9600)"
    )
    none = {"name": "accuracy", "num_labels": 0, "value": None, "interval": None}
    assert lines_of(report(quality=none))[1:] == ["  no label fits a captured answer"]


def hour(day: int, number: int = 7) -> datetime:
    return datetime(2026, 11, day, number, tzinfo=UTC)


def test_files_of_labels_that_no_hour_is_judged_for_are_counted() -> None:
    two = {"a.jsonl": "ab", "b.jsonl": "cd"}
    came = {own: two for own in (hour(9), hour(10), hour(12), hour(20), hour(20, 9), hour(20, 10))}
    remarks, now = Remarks(), datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
    remark_labels(came, hour(11), hour(13), now, [hour(10)], remarks)
    counts = {kind: own["count"] for kind, own in remarks.to_dict().items()}
    # Of the 9th, the 12th, and of ten o'clock; those of the hour that runs will be judged.
    assert counts == {EARLY_LABELS: 2, LATE_LABELS: 2, FUTURE_LABELS: 2}
    assert remarks.to_dict()[FUTURE_LABELS]["first"] == ["2026-11-20T10:00:00Z"]
    remarks = Remarks()
    remark_labels(came, None, EARLIEST, now, [], remarks)
    assert remarks.count(EARLY_LABELS) == 10
