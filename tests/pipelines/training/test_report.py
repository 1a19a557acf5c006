"""The report of a training: how it began, what is served, and the memory that is kept."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from regrow.data.module import GrowingData
from regrow.data.stored import Stored
from regrow.files import file_hash
from regrow.incremental.gating.gate import Gate
from regrow.incremental.history import History
from regrow.incremental.warm_start import WarmStart
from regrow.models.checkpoint import save
from regrow.models.classification import Classification
from regrow.models.record.provenance import Provenance
from regrow.pipelines.lead import Kept
from regrow.pipelines.training.report import (
    judge,
    keep_memory,
    kept_file,
    promote_kept,
    training_report,
)
from regrow.reporting.report import Report
from regrow.training.evaluation import Evaluation, evaluate


@pytest.fixture
def task() -> Classification:
    torch.manual_seed(0)
    task = Classification(["a", "b"], (16, 16), net_args={"width": 4})
    task.provenance = Provenance(data="d" * 64, parent="e" * 64, command="the command")
    return task


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return Report(tmp_path / "run", title="T", command="c", task="labels", classes=["a", "b"])


def network(file: Path, *classes: str) -> Path:
    save(file, Classification([*classes], (16, 16), net_args={"width": 4}))
    return file


def began(parent: Path) -> WarmStart:
    diff = {"text": "+7 images", "num_added": 7}
    names = {"a": "a", "b": "b"}
    history = History(None, 0, [])
    return WarmStart(str(parent), file_hash(parent), {}, [], names, diff, 0.25, 0, history)


def scored(task: Classification, data: GrowingData) -> dict[str, Evaluation]:
    return {"test": evaluate(task, data.test_dataloader())}


def test_the_weights_that_were_scored_are_those_of_the_best_file(tmp_path: Path) -> None:
    assert kept_file(tmp_path) == tmp_path
    for name in ("last.ckpt", "best.ckpt"):
        (tmp_path / name).touch()
        assert kept_file(tmp_path) == tmp_path / name


@pytest.mark.parametrize("is_warm", [False, True])
def test_the_report_tells_how_the_run_began(
    tmp_path: Path, task: Classification, data: GrowingData, is_warm: bool
) -> None:
    if is_warm:
        began(network(tmp_path / "old.ckpt", "a", "b")).write(tmp_path)
    found = {"val": evaluate(task, data.val_dataloader()), **scored(task, data)}
    kept = Kept(tmp_path / "best.ckpt", 2, 3, True, "accuracy")
    report = training_report(task, data, found, tmp_path, kept)
    page, figures = report.to_markdown(), report.figures
    assert page.startswith("# Warm start\n" if is_warm else "# Training\n")
    assert (figures["parent"], figures["data"]["hash"]) == ("e" * 64, "d" * 64)
    assert figures["data"]["diff"] == ({"text": "+7 images", "num_added": 7} if is_warm else None)
    assert ("+7 images" in page) == is_warm
    assert figures["score"]["value"] == found["test"].value
    assert (figures["best_epoch"], figures["command"]) == (2, "the command")


def test_a_fresh_network_is_judged_by_the_floor_of_each_class(
    task: Classification, data: GrowingData, report: Report
) -> None:
    found = scored(task, data)
    worst = min(found["test"].per_class.values())
    assert worst < 1, "it has learned nothing"
    passed = judge(report, task, data, found, None, Gate(floor=worst), ())
    assert passed.is_passed
    refused = judge(report, task, data, found, None, Gate(floor=worst + 0.01), ())
    assert not refused.is_passed


def test_an_open_gate_serves_the_new_network(tmp_path: Path, report: Report) -> None:
    run = tmp_path / "run"
    new, old = network(run / "best.ckpt", "a", "b"), network(tmp_path / "old.ckpt", "a", "c")
    promote_kept(report, run, None, began(old), [], ())
    assert report.figures["gate"] == {"is_passed": True, "reasons": [], "served": str(new)}
    assert json.loads((run / "promoted.json").read_text())["sha256"] == file_hash(new)
    assert "The gate is open." in report.to_markdown()


def test_a_shut_gate_leaves_the_old_network_or_none(tmp_path: Path, report: Report) -> None:
    run, file = tmp_path / "run", tmp_path / "serve" / "promoted.json"
    network(run / "best.ckpt", "a", "b")
    old = network(tmp_path / "old.ckpt", "a", "c")
    file.parent.mkdir()
    promote_kept(report, run, file, began(old), ["one", "two"], ())
    gate = report.figures["gate"]
    assert gate == {"is_passed": False, "reasons": ["one", "two"], "served": str(old)}
    assert json.loads(file.read_text())["checkpoint"] == "../old.ckpt"
    assert "The gate is shut: one; two." in report.to_markdown()
    assert not (run / "promoted.json").exists()
    promote_kept(report, run, None, None, ["one"], ())
    assert report.figures["gate"]["served"] is None
    assert not (run / "promoted.json").exists()


def test_a_memory_is_kept_and_counted(tmp_path: Path, data: GrowingData, report: Report) -> None:
    run = tmp_path / "run"
    keep_memory(data, 0.5, run, None, report)
    kept = Stored().read(run / "memory").items
    # Half of 24 training images, as many of each class; half of 8 validation and test images.
    assert Counter(item.split for item in kept) == {"train": 12, "val": 4, "test": 4}
    assert Counter(i.target for i in kept if i.split == "train") == {"a": 6, "b": 6}
    assert report.figures["memory"] == {"num_images": 12, "folder": str(run / "memory")}
    assert "A memory of 12 training images is kept." in report.to_markdown()
