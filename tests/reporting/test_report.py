import json
import math
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from regrow import files
from regrow.models.segmentation import Segmentation
from regrow.reporting.report import (
    Report,
    as_json,
    as_text,
    before_after_rows,
    before_after_table,
    markdown_table,
    side,
)

BEFORE = {"score": 0.98, "params": 1000, "macs": 2_000_000, "latency_ms": 2.0, "bytes": 4096}
AFTER = {"score": 0.97, "params": 400, "macs": 1_000_000, "latency_ms": 1.5, "bytes": None}


def _report(run: Path) -> Report:
    return Report(
        run, title="Training", command="python x.py", task="detection", classes=["a", "b"]
    )


def test_a_report_of_a_task_names_it_and_its_classes(tmp_path: Path) -> None:
    task = Segmentation(["road", "sky"], (32, 32))
    report = Report.of(task, tmp_path, "Training", "python x.py")
    report.write()
    figures = _read(tmp_path)
    assert (figures["task"], figures["classes"]) == ("segmentation", ["road", "sky"])
    assert (figures["command"], report.title) == ("python x.py", "Training")
    assert task.name == "segmentation"


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _read(run: Path) -> dict[str, Any]:
    return json.loads((run / "report.json").read_text(), parse_constant=_refuse)


def test_json_has_the_keys_that_others_rely_on(tmp_path: Path) -> None:
    report = _report(tmp_path)
    report.set_score("map50", 0.75)
    report.set(data={"hash": "ab", "diff": "+4 images"}, parent="cd", seeds=[0], seconds=1.5)
    report.set(budget={"max_drop": 0.01, "is_met": None, "interval": [-0.1, 0.1]})
    report.add_before_after(BEFORE, AFTER, "map50")
    report.write()
    figures = _read(tmp_path)
    assert figures["command"] == "python x.py"
    assert figures["task"] == "detection"
    assert figures["classes"] == ["a", "b"]
    assert figures["score"] == {"name": "map50", "value": 0.75}
    assert figures["data"] == {"hash": "ab", "diff": "+4 images"}
    assert figures["parent"] == "cd"
    assert figures["before"] == BEFORE
    assert figures["after"] == AFTER
    assert figures["budget"]["is_met"] is None
    assert figures["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert figures["device"]
    assert (figures["seconds"], figures["seeds"]) == (1.5, [0])


def test_keys_are_there_before_anything_is_known(tmp_path: Path) -> None:
    _report(tmp_path).write()
    figures = _read(tmp_path)
    assert figures["score"] is None
    assert figures["data"] == {"hash": None, "diff": None}
    assert figures["parent"] is None


@dataclass(frozen=True)
class Record:
    value: float
    path: Path


def test_plain_gives_what_json_can_hold() -> None:
    value = {
        1: math.nan,
        "inf": [math.inf, -math.inf, 1.0],
        "record": Record(0.5, Path("a/b")),
        "tensor": torch.tensor([1.0, math.nan]),
        "number": np.float32(0.25),
        "count": torch.tensor(3),
        "tuple": (True, None),
    }
    assert as_json(value) == {
        "1": None,
        "inf": [None, None, 1.0],
        "record": {"value": 0.5, "path": "a/b"},
        "tensor": [1.0, None],
        "number": 0.25,
        "count": 3,
        "tuple": [True, None],
    }


def test_nan_becomes_null_even_if_put_in_directly(tmp_path: Path) -> None:
    report = _report(tmp_path)
    report.figures["loss"] = math.nan
    report.write()
    assert _read(tmp_path)["loss"] is None


def test_change_is_in_points_for_scores_and_a_share_for_costs() -> None:
    rows = {row[0]: row[1:] for row in before_after_rows(BEFORE, AFTER, "accuracy")}
    assert rows["accuracy"] == ["0.98", "0.97", "-1.00 points"]
    assert rows["parameters"] == ["1,000", "400", "-60.0 %"]
    assert rows["MACs"] == ["2,000,000", "1,000,000", "-50.0 %"]
    assert rows["latency, ms"] == ["2", "1.5", "-25.0 %"]
    assert rows["file size, bytes"] == ["4,096", "-", ""]


def test_side_has_all_keys() -> None:
    assert side(0.5) == {
        "score": 0.5, "params": None, "macs": None, "latency_ms": None, "bytes": None
    }  # fmt: skip


def test_terminal_shows_the_same_table() -> None:
    out = StringIO()
    Console(file=out, width=100).print(before_after_table(BEFORE, AFTER, "accuracy", "Pruned"))
    text = out.getvalue()
    for cell in ("Pruned", "accuracy", "-1.00 points", "2,000,000", "-50.0 %"):
        assert cell in text


def test_page_has_verdict_tables_and_pictures_in_order(tmp_path: Path) -> None:
    report = _report(tmp_path)
    report.say("The best model reaches 0.75.")
    report.say("It is new.")
    report.add_table("Steps", ["step", "score"], [[1, 0.5], [2, 0.25]], note="On 10 images.")
    report.add_picture(tmp_path / "predictions.png", "Truth and prediction")
    report.add_section("Notes", "Nothing.")
    report.write()
    page = (tmp_path / "report.md").read_text()
    parts = [
        "# Training\n",
        "The best model reaches 0.75. It is new.\n",
        "## Steps\n\nOn 10 images.\n\n| step | score |\n| --- | --- |\n| 1 | 0.5 |\n| 2 | 0.25 |\n",
        "![Truth and prediction](<predictions.png>)",
        "## Notes\n\nNothing.",
        "| command | `python x.py` |",
    ]
    places = [page.index(part) for part in parts]
    assert places == sorted(places)


def test_per_class_scores_show_gain_loss_new_and_renamed(tmp_path: Path) -> None:
    report = _report(tmp_path)
    report.add_per_class(
        {"hound": 0.5, "cat": 0.75, "ant": 0.0, "none": math.nan},
        {"hound": 0.75, "cat": 0.5, "ant": 0.9, "none": math.nan},
        "recall",
        {"hound": "dog", "cat": "cat", "none": "none"},
    )
    report.write()
    figures = _read(tmp_path)["per_class"]
    assert figures["hound"] == {"before": 0.5, "after": 0.75, "change": 0.25}
    assert figures["cat"]["change"] == -0.25
    assert figures["ant"] == {"before": None, "after": 0.9, "change": None}
    assert figures["none"] == {"before": None, "after": None, "change": None}
    page = (tmp_path / "report.md").read_text()
    assert "| hound | 0.5 | 0.75 | +25.00 points | was dog |" in page
    assert "| cat | 0.75 | 0.5 | -25.00 points |  |" in page
    assert "| ant | - | 0.9 | - | new |" in page


def test_a_bar_or_line_break_in_a_cell_stays_there() -> None:
    lines = markdown_table(["name"], [["a|b\nc"]]).splitlines()
    assert lines == ["| name |", "| --- |", "| a\\|b c |"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (math.nan, "-"), (True, "yes"), (False, "no"), (1234567, "1,234,567"),
     (0.123456, "0.1235"), ("x", "x")],
)  # fmt: skip
def test_values_are_shown_for_people(value: Any, text: str) -> None:
    assert as_text(value) == text


def test_failed_write_leaves_the_old_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = _report(tmp_path)
    report.write()
    old = (tmp_path / "report.json").read_bytes()

    def torn(path: Path, write: Any) -> None:
        class Full:
            def write(self, data: bytes) -> int:
                raise OSError("no space left")

        write(Full())

    monkeypatch.setattr(files, "write_atomic", torn)
    report.set_score("map50", 0.9)
    with pytest.raises(OSError, match="no space left"):
        report.write()
    assert (tmp_path / "report.json").read_bytes() == old
    assert {p.name for p in tmp_path.iterdir()} == {"report.json", "report.md"}


def test_a_call_from_python_is_told_where_the_command_stands(tmp_path: Path) -> None:
    made = Report(tmp_path, title="A", command="", task="classification", classes=["a"])
    assert "| command | a call from Python |" in made.to_markdown()
