"""A training run, called from Python."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.files import file_hash
from regrow.incremental.gating.gate import Gate
from regrow.models.checkpoint import load, net_state, read, save
from regrow.models.classification import Classification
from regrow.models.optimization import Optimization
from regrow.pipelines.train import run_training
from regrow.training.evaluation import evaluate
from regrow.training.fit import Fit

SMALL = partial(Classification, net_args={"width": 4})
STILL = partial(SMALL, optimization=Optimization(lr=0.0))
ONCE = Fit(epochs=1, devices=1, images=0)


def old_network(file: Path, classes: list[str]) -> Path:
    torch.manual_seed(3)
    save(file, SMALL(classes, (16, 16)))
    return file


def test_the_report_tells_what_the_kept_file_does(tmp_path: Path, data: GrowingData) -> None:
    run = tmp_path / "run"
    report = run_training(SMALL, data, ONCE, run, seed=5, command_line="the command")
    assert json.loads((run / "report.json").read_text()) == report.figures
    kept = load(run / "best.ckpt")
    for split, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        assert report.figures["scores"][split]["value"] == evaluate(kept, loader).value
    assert report.figures["seeds"] == [5]
    assert report.figures["command"] == kept.provenance.command == "the command"
    assert read(run / "last.ckpt")["global_step"] == 24 / 8


def test_the_seed_decides_whatever_was_drawn_before(
    tmp_path: Path, data: GrowingData, assert_equal_weights: Callable[[Path, Path], None]
) -> None:
    for run, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.rand(ord(run))
        run_training(SMALL, data, ONCE, tmp_path / run, seed=seed)
    assert_equal_weights(tmp_path / "a" / "last.ckpt", tmp_path / "b" / "last.ckpt")
    one, other = (net_state(read(tmp_path / run / "last.ckpt")) for run in "ac")
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_a_class_that_yaml_took_for_a_number_is_renamed(tmp_path: Path, data: GrowingData) -> None:
    old = old_network(tmp_path / "old.ckpt", ["b", "1"])
    renamed: Any = {1: "a"}
    report = run_training(STILL, data, ONCE, tmp_path / "run", old, renamed=renamed)
    assert report.figures["classes"] == ["b", "a"]
    assert report.figures["parent"] == file_hash(old)
    # A rate of 0 leaves what the warm start made: both rows, in their order.
    before, after = (net_state(read(file)) for file in (old, tmp_path / "run" / "last.ckpt"))
    assert torch.equal(after["head.weight"], before["head.weight"])


def test_the_gate_names_no_network_that_knows_nothing(tmp_path: Path, data: GrowingData) -> None:
    run, file = tmp_path / "run", tmp_path / "promoted.json"
    report = run_training(STILL, data, ONCE, run, gate=Gate(floor=1.0), promoted=file)
    gate = report.figures["gate"]
    assert (gate["is_passed"], gate["served"]) == (False, None)
    assert gate["reasons"]
    assert not file.exists()
    report = run_training(STILL, data, ONCE, run, gate=Gate(floor=0.0), promoted=file)
    assert report.figures["gate"]["served"] == str(run / "best.ckpt")
    assert json.loads(file.read_text())["checkpoint"] == "run/best.ckpt"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seed": -1}, r"^seed is -1, it must lie in \[0, 2\*\*32\)$"),
        ({"renamed": {"a": "b"}}, "^--renamed is for a warm start; add --warm-start CKPT"),
        ({"sparsity": "regrow", "fit": ONCE, "warm_start": Path("x")}, "needs fit.epochs of 2"),
        ({"replay": 25}, "^replay is 25, more than the 24 training images; lower it, or give a"),
        ({"warm_start": Path("none.ckpt")}, "^none.ckpt: no such checkpoint"),
        ({"resume": "none.ckpt"}, "^none.ckpt: no such checkpoint"),
    ],
)
def test_what_cannot_be_run_is_refused_before_a_folder_is_made(
    tmp_path: Path, data: GrowingData, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        run_training(SMALL, data, run=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_an_earlier_run_stays_where_it_is_if_the_next_is_refused(
    tmp_path: Path, data: GrowingData
) -> None:
    run = tmp_path / "run"
    run_training(SMALL, data, ONCE, run)
    kept = (run / "best.ckpt").read_bytes()
    with pytest.raises(BadInput, match="best.ckpt is part of the run in .*a folder of its own$"):
        run_training(SMALL, data, ONCE, run, run / "best.ckpt")
    assert (run / "best.ckpt").read_bytes() == kept
    assert [file.name for file in tmp_path.iterdir()] == ["run"]
