"""Labels find their answers, and are bet on in the order of the pictures, each once."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regrow.data.checks.remarks import Remarks
from regrow.errors import BadInput
from regrow.monitor.alarms.risk import STAKES, RiskDetector
from regrow.monitor.baseline import Baseline
from regrow.monitor.files.captures import Event
from regrow.monitor.files.ground_truth import Label
from regrow.monitor.hours import labelling
from regrow.monitor.hours.labelling import LATE, TWICE, UNFIT, UNKNOWN, USED, Labelled, bet_
from regrow.monitor.quality import Quality

HOUR = datetime(2026, 11, 30, 7, tzinfo=UTC)
START = HOUR.timestamp()
LIMIT = 0.25
Row = tuple[float, int, str, float, float | None]


def file_of(path: Path, *rows: tuple[str, str]) -> Path:
    lines = [
        json.dumps({"groundTruthData": {"data": data}, "eventMetadata": {"eventId": own}})
        for own, data in rows
    ]
    path.write_text("\n".join(lines))
    return path


def test_the_last_label_of_an_id_counts_in_the_order_of_the_files(tmp_path: Path) -> None:
    first = file_of(tmp_path / "z", ("a", "dark"), ("b", "dark"), ("a", "light"))
    second = file_of(tmp_path / "y", ("b", "light"))
    remarks = Remarks()
    found = labelling.gather([first, second], remarks)
    assert {name: label.data for name, label in found.items()} == {"a": "light", "b": "light"}
    assert remarks.count(TWICE) == 2
    assert labelling.gather([second, first], Remarks())["b"].data == "dark"


def test_too_many_labels_are_refused_and_repeated_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelling, "MAX_LABELS", 2)
    twice = file_of(tmp_path / "a", *[("a", "dark"), ("b", "dark")] * 3)
    assert len(labelling.gather([twice], Remarks())) == 2
    more = file_of(tmp_path / "b", ("c", "dark"))
    with pytest.raises(BadInput, match=r"b: more than 2 labels in one hour; split them$"):
        labelling.gather([twice, more], Remarks())


def answer(baseline: Baseline, label: str = "dark", **own: Any) -> dict[str, Any]:
    scores = {"dark": 0.75, "light": 0.25}
    one = {"label": label, "score": 0.75, "scores": scores}
    return {"model": baseline.model, "predictions": [one]} | own


def test_labels_are_joined_by_the_clients_id_first(
    baseline: Baseline, event: Callable[..., Event]
) -> None:
    events = [
        event(None, answer(baseline), id="e1", inference_id="cam1", time=HOUR),
        event(None, answer(baseline), id="e2", inference_id="cam2", time=HOUR + timedelta(hours=1)),
        event(None, answer(baseline), id="e3", inference_id="cam1", time=HOUR),  # a second cam1
        event(None, answer(baseline), id="e4", time=HOUR + timedelta(minutes=59)),
    ]
    labels = {
        name: Label(name, data, "CSV", probability)
        for name, data, probability in (
            ("cam1", "light", None), ("e1", "dark", None), ("e2", "dark", 0.5),
            ("e4", "1", None), ("gone", "dark", None),
        )
    }  # fmt: skip
    remarks = Remarks()
    made = labelling.join(labels, events, baseline, remarks)
    rows = [(row[2], row[3], row[4]) for row in made.rows]
    assert rows == [("e1", 1.0, None), ("e2", 0.0, 0.5), ("e4", 1.0, None)]
    assert made.matched == {"cam1", "e2", "e4"}
    assert remarks.count(UNKNOWN) == 2
    assert made.hours == {HOUR: 2, HOUR + timedelta(hours=1): 1}
    assert made.quality.to_dict(4)["num_labels"] == 3
    assert made.quality.to_dict(4)["value"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"model": "f" * 64}, "e: the answer is of another model, ffffffffffff"),
        ({"predictions": []}, "e: an answer of 0 predictions, and one label"),
        ({"predictions": [{"label": "dark"}] * 2}, "e: an answer of 2 predictions, and one label"),
    ],
)
def test_answers_that_no_label_can_be_about_are_told(
    baseline: Baseline, event: Callable[..., Event], own: dict[str, Any], said: str
) -> None:
    remarks = Remarks()
    labels = {"e": Label("e", "dark", "CSV")}
    made = labelling.join(labels, [event(None, answer(baseline, **own))], baseline, remarks)
    assert (made.rows, made.matched) == ([], {"e"})
    assert remarks.count(UNFIT) == 1
    assert remarks.count(UNKNOWN) == 0
    assert said in " ".join(remarks.lines)


def wealth(steps: Sequence[np.ndarray]) -> list[float]:
    """Return the mean wealth after each step, given each bet's factor: M <- L max(M, 1)."""
    own, means = np.zeros(len(STAKES)), []
    for factors in steps:
        own = factors * np.maximum(own, 1)
        means.append(float(own.mean()))
    return means


def factors(loss: float) -> np.ndarray:
    return np.asarray(1 + STAKES / LIMIT * (loss - LIMIT))


def bet(
    rows: list[Row], used: set[str], judged: list[str], counts: dict[datetime, int]
) -> tuple[list[float], Remarks]:
    labelled = Labelled(Quality("labels", ["a", "b"]), rows=rows)
    logs = bet_(labelled, RiskDetector(LIMIT), used, judged, counts)
    return np.exp(logs).tolist(), labelled.remarks


def test_plain_labels_are_bet_on_in_the_order_of_time_and_each_once() -> None:
    rows: list[Row] = [
        (START + 9, 1, "late", 0.0, None),
        (START + 5, 2, "second", 1.0, None),
        (START + 5, 1, "first", 0.5, None),
        (START + 1, 7, "known", 1.0, None),
        (START, 3, "begin", 0.25, None),
    ]
    found, remarks = bet(rows, {"known"}, [], {})
    assert found == pytest.approx(wealth([factors(loss) for loss in (0.25, 0.5, 1.0, 0.0)]))
    assert remarks.count(USED) == 1


def test_an_hour_of_sampled_labels_is_one_step_weighed_by_probability() -> None:
    later, old = HOUR + timedelta(hours=1), HOUR - timedelta(hours=1)
    rows: list[Row] = [
        (later.timestamp(), 1, "d", 0.0, 1.0),
        (START + 2, 1, "c", 1.0, 0.5),
        (START, 1, "a", 0.5, 0.25),
        (START + 1, 1, "b", 1.0, None),
        (old.timestamp(), 1, "z", 1.0, 0.5),
    ]
    judged = ["2026-11-30T06:00:00Z"]
    found, remarks = bet(rows, set(), judged, {HOUR: 4})
    hour = factors(0.5 / 0.25) * factors(1.0 / 0.5) * factors(0.0) ** 2
    assert found == pytest.approx(wealth([factors(1.0), hour, factors(0.0)]))
    assert remarks.count(LATE) == 1
    assert judged == [f"2026-11-30T0{n}:00:00Z" for n in (6, 7, 8)]


def test_no_labels_are_no_step() -> None:
    judged: list[str] = []
    assert bet([], set(), judged, {HOUR: 9})[0] == []
    assert bet([(START, 1, "a", 1.0, 0.5)], {"a"}, judged, {HOUR: 9})[0] == []
    assert judged == []
