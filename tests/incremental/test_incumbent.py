"""The old network holds `best.ckpt` until an epoch scores as much."""

import math
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Trainer

from regrow.data.module import GrowingData
from regrow.incremental.incumbent import Incumbent
from regrow.incremental.parent import Parent
from regrow.models.checkpoint import load
from regrow.models.classification import Classification
from regrow.models.record.provenance import Provenance
from regrow.training.checkpointing import RunCheckpoint


def make_task(*classes: str, always: int | None = None) -> Classification:
    """Return a network, which names one class whatever it sees where that is asked for."""
    torch.manual_seed(0)
    task = Classification(classes, (16, 16), net_args={"width": 2})
    if always is not None:
        with torch.no_grad():
            task.net.head.weight.zero_()
            task.net.head.bias.copy_(torch.arange(len(classes)) == always)
    return task


def test_it_is_scored_as_the_network_that_is_about_to_be_trained(
    data: GrowingData, tmp_path: Path
) -> None:
    # Of the eight validation images, four are a.
    incumbent = Incumbent.of(make_task("a", "b", always=0), None, Parent(tmp_path / "x"), data)
    assert incumbent.scores["accuracy"] == 0.5
    assert incumbent.value == 0.5


def test_it_is_a_copy_from_before_where_old_weights_were_changed(
    data: GrowingData, tmp_path: Path
) -> None:
    # The copy of z, which is a now, gets a row for b; what is trained is something else.
    task, copied = make_task("a", "b"), make_task("z", "x")
    with torch.no_grad():
        copied.net.head.bias[0] = 99.0
    incumbent = Incumbent.of(task, copied, Parent(tmp_path / "x", {"z": "a"}, ["x"]), data)
    assert incumbent.task is copied
    assert copied.classes == ["a", "b"]
    assert copied.net.head.bias[0] == 99.0
    assert incumbent.value == 0.5  # a, always


def test_the_value_is_the_score_by_which_the_best_is_chosen(
    data: GrowingData, tmp_path: Path
) -> None:
    task = make_task("a", "b", always=0)
    task.choose_by_(task.even_score)
    incumbent = Incumbent.of(task, None, Parent(tmp_path / "x"), data)
    assert incumbent.value == incumbent.scores[task.even_score]
    assert f"until one reaches {task.even_score} {incumbent.value:.4f}, best.ckpt" in incumbent.said


def test_its_file_holds_its_weights_scores_and_where_the_run_comes_from(tmp_path: Path) -> None:
    first, trained = make_task("a", "b", always=1), make_task("a", "b")
    own, trained.provenance = first.provenance, Provenance(data="hash of the data")
    Incumbent(first, {"accuracy": 0.5, "top5": 0.75}, 0.5).write(tmp_path, trained)
    found = load(tmp_path / "best.ckpt")
    assert torch.equal(found.net.head.bias, torch.tensor([0.0, 1.0]))
    assert found.provenance.data == "hash of the data"
    assert found.provenance.scores == {"val/accuracy": 0.5, "val/top5": 0.75}
    assert first.provenance is own
    assert trained.provenance == Provenance(data="hash of the data")


@pytest.fixture
def best(tmp_path: Path) -> RunCheckpoint:
    return RunCheckpoint(tmp_path, filename="best", monitor="val/accuracy", mode="max")


def offered(incumbent: Incumbent, best: RunCheckpoint, tmp_path: Path) -> None:
    last = RunCheckpoint(tmp_path, filename="last")
    trainer = Trainer(
        callbacks=[best, last], logger=False, accelerator="cpu", default_root_dir=tmp_path
    )
    incumbent.offer_(trainer)
    assert last.best_model_score is None


def test_of_equal_scores_the_trained_network_is_kept(best: RunCheckpoint, tmp_path: Path) -> None:
    offered(Incumbent(make_task("a", "b"), {"accuracy": 0.5}, 0.5), best, tmp_path)
    trainer = Trainer(logger=False, accelerator="cpu", default_root_dir=tmp_path)
    below = torch.tensor(0.5) - 2**-20
    assert best.check_monitor_top_k(trainer, torch.tensor(0.5))
    assert not best.check_monitor_top_k(trainer, below)


def test_no_score_replaces_nothing(best: RunCheckpoint, tmp_path: Path) -> None:
    task = make_task("a", "b")
    incumbent = Incumbent(task, {"accuracy": math.nan}, math.nan)
    incumbent.write(tmp_path, task)
    offered(incumbent, best, tmp_path)
    assert not (tmp_path / "best.ckpt").exists()
    assert (best.best_model_score, best.best_k_models) == (None, {})


def test_first_epochs_are_announced() -> None:
    said = Incumbent(make_task("a", "b"), {"accuracy": 0.625}, 0.625).said
    assert said == (
        "the optimizer begins anew and its learning rate rises again, so the first epochs may "
        "score less; until one reaches accuracy 0.6250, best.ckpt is the old network as it came "
        "(epoch 0)"
    )
