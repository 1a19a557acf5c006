"""Labels find their answers, and are bet on in the order of the pictures, each once."""

import json
from collections import Counter
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
from regrow.monitor.hours.labelling import LATE, TWICE, UNFIT, UNKNOWN, USED, Labelled, Row, bet_
from regrow.monitor.quality import Quality

HOUR = datetime(2026, 11, 30, 7, tzinfo=UTC)
START = HOUR.timestamp()
LIMIT = 0.25


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
    rows = [(row.id, row.loss, row.probability) for row in made.rows]
    assert {row.block for row in made.rows} == {None}
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
    rows: Sequence[tuple[Any, ...]],
    used: set[str],
    judged: list[str],
    counts: dict[datetime, int],
    **own: Any,
) -> tuple[list[float], Remarks]:
    made = [Row(*row) for row in rows]
    labelled = Labelled(Quality("labels", ["a", "b"]), rows=made, **own)
    logs = bet_(labelled, RiskDetector(LIMIT), used, judged, counts)
    return np.exp(logs).tolist(), labelled.remarks


def test_plain_labels_are_bet_on_in_the_order_of_time_and_each_once() -> None:
    rows = [
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
    rows = [
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


def test_a_block_is_one_step_by_its_mean_loss_where_it_ends() -> None:
    rows = [
        (START, 1, "a", 1.0, None, "cam 1"),
        (START + 1, 2, "b", 0.5, None, "cam 2"),
        (START + 2, 3, "c", 0.0, None, "cam 1"),
        (START + 3, 4, "d", 0.75, None, "event d"),
        (START + 4, 5, "e", 0.25, None, "cam 1"),
    ]
    found, _ = bet(rows, set(), [], {})
    mean = (1.0 + 0.0 + 0.25) / 3
    assert found == pytest.approx(wealth([factors(loss) for loss in (0.5, 0.75, mean)]))
    found, remarks = bet(rows, {"cam 1", "b"}, [], {})
    assert found == pytest.approx(wealth([factors(0.75)]))
    assert remarks.count(USED) == 4
    labelled = Labelled(Quality("labels", ["a", "b"]), rows=[Row(*row) for row in rows])
    assert labelled.bet_on() == ["a", "b", "c", "cam 1", "cam 2", "d", "e", "event d"]


def test_sampled_pictures_of_a_block_estimate_the_mean_of_all_of_it() -> None:
    rows = [
        (START, 1, "a", 1.0, 0.5, "cam 1"),
        (START + 1, 2, "b", 0.5, 0.25, "cam 1"),
        (START + 2, 3, "c", 1.0, 0.5, "cam 2"),
    ]
    sizes = {HOUR: Counter({"cam 1": 8, "cam 2": 4, "cam 3": 9})}
    found, _ = bet(rows, set(), [], {HOUR: 21}, sizes=sizes)
    hour = factors((1 / 0.5 + 0.5 / 0.25) / 8) * factors((1 / 0.5) / 4) * factors(0.0)
    assert found == pytest.approx(wealth([hour]))


@pytest.mark.parametrize("probability", [None, 0.5])
def test_frames_that_are_all_alike_are_no_evidence_of_a_loss_above_the_limit(
    probability: float | None,
) -> None:
    """Of videos of 50 frames one in four is wrong from end to end, as the limit allows."""
    draw, peaks = np.random.default_rng(0), {True: -np.inf, False: -np.inf}
    for is_blocked in peaks:
        detector, judged = RiskDetector(LIMIT), list[str]()
        for number in range(300):
            loss, hour = float(draw.random() < LIMIT), HOUR + timedelta(hours=number)
            block = f"video {number}" if is_blocked else None
            is_labelled = np.ones(50, bool) if probability is None else draw.random(50) < 0.5
            rows = [
                Row(hour.timestamp() + n, n, f"{number} {n}", loss, probability, block)
                for n in np.flatnonzero(is_labelled)
            ]
            sizes = {hour: Counter({block: 50})} if block else {}
            made = Labelled(Quality("labels", ["a", "b"]), rows=rows, sizes=sizes)
            logs = bet_(made, detector, set(), judged, {hour: 50})
            peaks[is_blocked] = max(peaks[is_blocked], logs.max(initial=-np.inf))
    assert peaks[True] < np.log(1000) < peaks[False]


def test_labels_are_joined_with_their_blocks_and_how_many_pictures_these_have(
    baseline: Baseline, event: Callable[..., Event]
) -> None:
    times = [HOUR, HOUR + timedelta(seconds=59), HOUR + timedelta(hours=1)]
    events = [event(None, answer(baseline), id=f"e{n}", time=own) for n, own in enumerate(times)]
    labels = {"e1": Label("e1", "dark", "CSV", 0.5)}

    def block_of(own: Event) -> str:
        return f"{own.time:%H:%M}"

    made = labelling.join(labels, events, baseline, Remarks(), None, block_of)
    assert [row.block for row in made.rows] == ["07:00"]
    assert made.sizes == {HOUR: {"07:00": 2}, times[2]: {"08:00": 1}}
    plain = {"e1": Label("e1", "dark", "CSV")}
    assert labelling.join(plain, events, baseline, Remarks(), None, block_of).sizes == {}


def test_no_labels_are_no_step() -> None:
    judged: list[str] = []
    assert bet([], set(), judged, {HOUR: 9})[0] == []
    assert bet([(START, 1, "a", 1.0, 0.5)], {"a"}, judged, {HOUR: 9})[0] == []
    assert judged == []
