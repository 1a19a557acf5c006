"""The folders of hours are found, and others are none of them."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from regrow.errors import BadInput
from regrow.monitor.examples import Example, to_text
from regrow.monitor.hours.folders import (
    done_hours,
    hour_folder,
    read_examples,
    read_labelled,
    read_report,
    refusing_damage,
)

HOUR = datetime(2026, 11, 30, 7, tzinfo=UTC)


def test_only_whole_hours_count(tmp_path: Path) -> None:
    for name in (
        "2026/11/30/07",
        "2026/11/30/.06.tmp/06",
        "2026/13/01/00",
        "2026/1/1/1",
        "a/b/c/d",
    ):
        place = tmp_path / "hours" / name
        place.mkdir(parents=True)
        (place / "report.json").touch()
    (tmp_path / "hours/2026/11/30/08").mkdir()
    assert done_hours(tmp_path) == [HOUR]
    assert hour_folder(tmp_path, HOUR) == tmp_path / "hours/2026/11/30/07"
    assert done_hours(tmp_path / "none") == []


WHOLE = {
    "hour": "2026-11-30T07:00:00Z",
    "status": "Completed",
    "message": "Completed: nothing has changed in 3 pictures",
    **dict.fromkeys(("alarms", "violations"), []),
    **dict.fromkeys(("counts", "distances", "scores", "inputs", "remarks", "missing_hours"), {}),
}
HALF = [json.dumps({**WHOLE, name: None}) for name in WHOLE]


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"hour": 1}', *HALF])
def test_a_damaged_report_is_refused_with_the_way_out(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "report.json").write_text(text)
    with pytest.raises(BadInput, match=r"report\.json: .*; remove this hour's folder, it is made"):
        read_report(tmp_path)


def test_a_whole_report_is_read(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(WHOLE))
    assert read_report(tmp_path) == WHOLE


def test_what_a_file_holds_amiss_is_one_line_with_the_way_out(tmp_path: Path) -> None:
    said = r"r\.json: damaged; remove this hour's folder"
    with pytest.raises(BadInput, match=said), refusing_damage(tmp_path / "r.json"):
        raise KeyError("count")
    with pytest.raises(OSError, match="disk"), refusing_damage(tmp_path / "r.json"):
        raise OSError("disk")


def test_examples_and_labelled_events_are_read_back(tmp_path: Path) -> None:
    made = [Example("a", {"x": 1.0}, b"jpeg")]
    (tmp_path / "e.json").write_text(to_text(made))
    assert read_examples(tmp_path / "e.json") == tuple(made)
    (tmp_path / "e.json").write_text("[3]")
    assert read_examples(tmp_path / "e.json") == ()
    assert read_labelled(tmp_path / "l.json") == []
    (tmp_path / "l.json").write_text(json.dumps(["a", "b"]))
    assert read_labelled(tmp_path / "l.json") == ["a", "b"]
    for text in ("{}", "{"):
        (tmp_path / "l.json").write_text(text)
        with pytest.raises(BadInput, match=r"l\.json: .*; remove this hour's folder"):
            read_labelled(tmp_path / "l.json")
