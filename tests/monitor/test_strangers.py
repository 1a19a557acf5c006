"""Captures and labels of strangers: odd values anywhere are counted, never an error."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regrow.data.checks.remarks import Remarks
from regrow.data.images.conversion import Decoding
from regrow.errors import BadInput
from regrow.monitor.baseline import BASELINE, Baseline
from regrow.monitor.bias.constraints import BiasConstraints
from regrow.monitor.bias.facets import Subject
from regrow.monitor.bias.judging import BiasRules, judge_bias
from regrow.monitor.bias.outcomes import outcome_of
from regrow.monitor.bias.state import BiasState
from regrow.monitor.files.captures import BAD_LINE, Event, event_line, read_events
from regrow.monitor.files.extracts import PART, Extract
from regrow.monitor.files.ground_truth import Label, read_labels
from regrow.monitor.files.statistics import statistics
from regrow.monitor.hours.collecting import Blocks, HourCollector
from regrow.monitor.hours.labelling import join
from regrow.monitor.hours.state import STATE, State
from regrow.monitor.rows import measure
from regrow.monitor.truths import loss_of, parse_truth

RUNS = {"dark": {"size": [2, 2], "counts": [0, 3, 1]}, "light": {"size": [2, 2], "counts": [3, 1]}}
ANSWERS: dict[str, Any] = {
    "labels": {"label": "dark", "score": 0.7, "scores": {"dark": 0.7, "light": 0.3}},
    "boxes": {"objects": [{"label": "dark", "score": 0.7, "box": [0, 0, 5, 5]}]},
    "masks": {"mask": "", "classes": ["dark", "light"], "shares": {"dark": 0.5, "light": 0.5}},
    "runs": {"masks": RUNS, "classes": ["dark", "light"], "shares": {"dark": 0.5, "light": 0.5}},
}
CLASSES = ("dark", "light")
TIME = datetime(2026, 11, 30, 7, tzinfo=UTC)
Mutated = Callable[[Any, int], Any]


def collect_(collector: HourCollector, lines: list[Any], file: Path) -> Remarks:
    """Collect lines by way of a file, and return what is remarked of them."""
    text = "\n".join(map(json.dumps, lines))
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    remarks = Remarks()
    for one in read_events(file, remarks):
        collector.add(one)
    collector.finish()
    json.dumps(statistics(collector.summary), allow_nan=False)
    return remarks


@pytest.mark.parametrize("kind", ANSWERS)
def test_odd_captures_are_collected_without_an_error(
    baseline: Baseline,
    event: Callable[..., Event],
    png: Callable[[np.ndarray], bytes],
    tmp_path: Path,
    mutated_plain: Mutated,
    kind: str,
) -> None:
    answer = {"model": baseline.model, "predictions": [ANSWERS[kind]]}
    content = png(np.zeros((4, 4, 3), np.uint8))
    lines = []
    for seed in range(300):
        odd = mutated_plain(answer, seed) if seed % 2 else answer
        line = json.loads(event_line(event(content, odd, id=f"e{seed}", attributes={"a": "b"})))
        lines.append(line if seed % 2 else mutated_plain(line, seed))
    own = "masks" if kind == "runs" else kind
    rules = BiasRules(Subject(own, CLASSES, "dark"), BiasConstraints("dark"), smallest=1)
    collector = HourCollector(baseline, Blocks("a"), Decoding(), subject=rules.subject)
    remarks = collect_(collector, lines, tmp_path / "a.jsonl")
    assert 100 < collector.num_events < 300
    assert remarks or collector.remarks
    assert sum(len(records) for records in collector.in_order()) == collector.num_pictures
    assert collector.by_facet is not None
    assert len(collector.by_facet) > 50
    found = judge_bias(TIME, collector.by_facet, None, rules, BiasState(), (9.0, 9.0))
    json.dumps([found.parts, found.report], allow_nan=False)


@pytest.mark.parametrize("kind", ["labels", "boxes", "masks"])
def test_odd_extracts_are_collected_without_an_error(
    baseline: Baseline,
    event: Callable[..., Event],
    png: Callable[[np.ndarray], bytes],
    tmp_path: Path,
    mutated_plain: Mutated,
    kind: str,
) -> None:
    answer = {"model": baseline.model, "predictions": [ANSWERS[kind]]}
    plain = event(png(np.zeros((4, 4, 3), np.uint8)), answer)
    extract = Extract(tuple(measure(plain)[0]), "", None).to_dict()
    lines = []
    for seed in range(300):
        one = replace(plain, id=f"e{seed}", input=plain.input if seed % 3 else None)
        lines.append(json.loads(event_line(one)) | {PART: mutated_plain(extract, seed)})
    subject = Subject(kind, CLASSES, "dark")
    collector = HourCollector(baseline, Blocks(), Decoding(), subject=subject)
    remarks = collect_(collector, lines, tmp_path / "a.jsonl")
    assert remarks.count(BAD_LINE) == 300 - collector.num_events > 100
    assert collector.num_events > 20


def test_odd_values_in_the_files_of_a_monitor_are_damage_in_one_line(
    probed: Path, tmp_path: Path, mutated_plain: Mutated
) -> None:
    baseline = Baseline.read(probed)
    about = json.loads((probed / BASELINE).read_text()) | {"examples": []}
    summary, network = about["summary"]["features"], about["network"]
    about["summary"]["features"] = {name: summary[name] for name in ("brightness", "bytes")}
    state = State(baseline).to_dict()
    found, told = set(), list[str]()
    for seed in range(120):
        odd = mutated_plain(about, seed) if seed % 2 else mutated_plain(network, seed)
        content = odd if seed % 2 else about | {"network": odd}
        for file, given, read in (
            (probed / BASELINE, content, lambda: Baseline.read(probed)),
            (tmp_path / STATE, mutated_plain(state, seed), lambda: _read_state(tmp_path, baseline)),
        ):
            file.write_text(json.dumps(given), encoding="utf-8", errors="surrogatepass")
            try:
                found.add(type(read()))
            except BadInput as error:
                told.append(str(error))
    assert found == {Baseline, State}
    assert len(told) > 40
    assert all(str(tmp_path) in line for line in told)


def _read_state(folder: Path, baseline: Baseline) -> State:
    return State.read(folder / STATE, baseline)


@pytest.mark.parametrize(
    ("kind", "truth"),
    [
        ("labels", '"dark"'),
        ("boxes", {"objects": [{"label": "dark", "box": [0, 0, 5, 5]}]}),
        ("boxes", {"annotations": [{"category_id": 0, "bbox": [0, 0, 5, 5]}]}),
        ("masks", {"mask": ""}),
        ("runs", {"masks": RUNS}),
    ],
)
def test_odd_truths_and_answers_are_refused_in_one_line(
    mutated_plain: Mutated, kind: str, truth: Any
) -> None:
    kinds = set()
    for seed in range(300):
        odd = mutated_plain(truth, seed) if seed % 2 else truth
        answer = ANSWERS[kind] if seed % 2 else mutated_plain(ANSWERS[kind], seed)
        label = Label("e", odd if isinstance(odd, str) else json.dumps(odd), "JSON")
        try:
            found = parse_truth(label, "masks" if kind == "runs" else kind, CLASSES)
            loss = loss_of(answer, found, CLASSES)
            kinds.add(0 <= loss <= 1)
            counts = outcome_of(answer, found, loss, "dark", CLASSES)
            kinds.add(min(counts.tp, counts.fp, counts.fn, counts.tn) >= 0)
        except BadInput:
            kinds.add(BadInput)
    assert kinds <= {True, BadInput}
    assert BadInput in kinds


def test_odd_labels_are_joined_without_an_error(
    baseline: Baseline, event: Callable[..., Event], tmp_path: Path, mutated_plain: Mutated
) -> None:
    line = {
        "groundTruthData": {"data": "dark", "encoding": "CSV", "probability": 0.5},
        "eventMetadata": {"eventId": "e"},
    }
    file = tmp_path / "a.jsonl"
    odd = [json.dumps(mutated_plain(line, seed)) for seed in range(300)]
    file.write_text("\n".join(odd), encoding="utf-8", errors="surrogatepass")
    remarks = Remarks()
    labels = {label.id: label for label in read_labels(file, remarks)}
    answer = {"model": baseline.model, "predictions": [ANSWERS["labels"]]}
    made = join(labels, [event(None, answer)], baseline, remarks)
    assert remarks
    assert made.quality.to_dict(1)["num_labels"] == len(made.rows) <= 1
