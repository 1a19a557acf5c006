"""A damaged state of a training run is one line that names the file, and a sound one goes on."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.models.checkpoint import load
from regrow.models.classification import Classification
from regrow.models.optimization import Optimization
from regrow.training.fit import Fit
from regrow.training.reloading import load_weights_
from regrow.training.state import restoring
from regrow.training.trainer import make_trainer, train

Payload = dict[str, Any]
FIT = Fit(epochs=2, images=0, accelerator="cpu", devices=1, patience=3)


def _task(width: int = 2, optimizer: str = "adamw") -> Classification:
    torch.manual_seed(0)
    optimization = Optimization(optimizer, lr=0.01)  # type: ignore[arg-type]
    return Classification(
        ["a", "b"], (16, 16), net_args={"width": width}, optimization=optimization
    )


@pytest.fixture
def stopped(tmp_path: Path, data: GrowingData) -> Path:
    """Return the folder of a run after one of two epochs."""
    run, task = tmp_path / "stopped", _task()
    fit = Fit(epochs=1, images=0, accelerator="cpu", devices=1, patience=3)
    train(task, data, make_trainer(task, fit, run), run)
    return run


def _early(payload: Payload) -> Payload:
    return next(v for key, v in payload["callbacks"].items() if "EarlyStopping" in key)


def _best(payload: Payload) -> Payload:
    return next(v for key, v in payload["callbacks"].items() if "val/accuracy" in key)


def _memory(payload: Payload) -> Payload:
    return payload["optimizer_states"][0]["state"][2]


def _loop(payload: Payload, name: str) -> Payload:
    return payload["loops"]["fit_loop"][name]


DAMAGES: dict[str, Callable[[Payload], Any]] = {
    "no version": lambda p: p.pop("pytorch-lightning_version"),
    "a version of text": lambda p: p.update({"pytorch-lightning_version": "x"}),
    "an old version": lambda p: p.update({"pytorch-lightning_version": "1.0.0"}),
    "a version of numbers": lambda p: p.update({"pytorch-lightning_version": 2.6}),
    "no loop": lambda p: p["loops"].pop("fit_loop"),
    "a loop of a list": lambda p: p["loops"].update(fit_loop=[1]),
    "no progress": lambda p: p["loops"]["fit_loop"].pop("epoch_progress"),
    "no count": lambda p: _loop(p, "epoch_progress")["current"].pop("completed"),
    "a count of text": lambda p: _loop(p, "epoch_progress")["current"].update(processed=".."),
    "a count of a tensor": lambda p: _loop(p, "epoch_progress")["total"].update(
        ready=torch.zeros(2)
    ),
    "a count below zero": lambda p: _loop(p, "epoch_loop.batch_progress")["current"].update(
        ready=-1
    ),
    "a count without end": lambda p: _loop(p, "epoch_progress")["current"].update(
        ready=2**62, started=2**62, processed=2**62, completed=2**62
    ),
    "counts in disorder": lambda p: _loop(p, "epoch_progress")["current"].update(completed=7),
    "an epoch beyond the run": lambda p: _loop(p, "epoch_progress")["current"].update(
        ready=9, started=9, processed=9, completed=9
    ),
    "a method of a count": lambda p: _loop(p, "epoch_progress")["current"].update(reset=5),
    "a loader of text": lambda p: _loop(p, "state_dict").update(combined_loader=["x"]),
    "steps of a list": lambda p: _loop(p, "epoch_loop.state_dict").update(_batches_that_stepped=[]),
    "a state of a list": lambda p: p["loops"]["fit_loop"].update({"epoch_loop.state_dict": [1]}),
    "early stopping of text": lambda p: _early(p).update(wait_count="x"),
    "early stopping without patience": lambda p: _early(p).pop("patience"),
    "early stopping for no reason": lambda p: _early(p).update(stopping_reason=77),
    "a best score of text": lambda p: _early(p).update(best_score="x"),
    "a best score of nothing": lambda p: _best(p).update(best_model_score=torch.tensor(torch.nan)),
    "a callback of a list": lambda p: p["callbacks"].update(dict.fromkeys(p["callbacks"], [1])),
    "no optimizer": lambda p: p["optimizer_states"].clear(),
    "two optimizers": lambda p: p["optimizer_states"].append({}),
    "an optimizer of a list": lambda p: p.update(optimizer_states=[[1]]),
    "a moment of another shape": lambda p: _memory(p).update(exp_avg=torch.zeros(2, 2)),
    "a moment of a number": lambda p: _memory(p).update(exp_avg_sq=0),
    "a moment of whole numbers": lambda p: _memory(p).update(
        exp_avg=torch.zeros_like(_memory(p)["exp_avg"], dtype=torch.int64)
    ),
    "no moment": lambda p: _memory(p).pop("exp_avg"),
    "a step of text": lambda p: _memory(p).update(step="x"),
    "a step before the first": lambda p: _memory(p).update(step=torch.tensor(-1.0)),
    "a weight of another precision": lambda p: p["state_dict"].update(
        {"net.head.weight": p["state_dict"]["net.head.weight"].half()}
    ),
    "a weight too many": lambda p: p["optimizer_states"][0]["state"].update({99: {}}),
    "a group of a tensor": lambda p: p["optimizer_states"][0]["param_groups"].__setitem__(
        0, torch.zeros(2)
    ),
    "groups of other weights": lambda p: p["optimizer_states"][0]["param_groups"][0].update(
        params=[0, 0]
    ),
}


def _go_on(stopped: Path, run: Path, data: GrowingData, change: Callable[[Payload], Any]) -> None:
    shutil.copytree(stopped, run)
    payload = torch.load(run / "last.ckpt", weights_only=True)
    change(payload)
    torch.save(payload, run / "last.ckpt")
    task = load(run / "last.ckpt")
    train(task, data, make_trainer(task, FIT, run), run, resume=run / "last.ckpt")


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_one_line(
    damage: str, stopped: Path, tmp_path: Path, data: GrowingData
) -> None:
    with pytest.raises(BadInput) as told:
        _go_on(stopped, tmp_path / "run", data, DAMAGES[damage])
    line = str(told.value)
    assert line.startswith(f"{tmp_path / 'run' / 'last.ckpt'}: ")
    assert "--resume" in line
    assert "--warm-start" in line
    assert "\n" not in line


def test_the_options_of_the_optimizer_are_the_runs_own(
    stopped: Path, tmp_path: Path, data: GrowingData
) -> None:
    def change(payload: Payload) -> None:
        for group in payload["optimizer_states"][0]["param_groups"]:
            group.update(weight_decay=0.9, eps=1.0, amsgrad=True, fused="x", lr=[])

    _go_on(stopped, tmp_path / "sound", data, lambda payload: None)
    _go_on(stopped, tmp_path / "run", data, change)
    one, other = (
        torch.load(tmp_path / name / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("sound", "run")
    )
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "rmsprop"])
def test_each_optimizer_goes_on(optimizer: str, tmp_path: Path, data: GrowingData) -> None:
    task, fit = _task(2, optimizer), Fit(epochs=1, images=0, accelerator="cpu", devices=1)
    train(task, data, make_trainer(task, fit, tmp_path), tmp_path)
    again, last = load(tmp_path / "last.ckpt"), tmp_path / "last.ckpt"
    longer = Fit(epochs=2, images=0, accelerator="cpu", devices=1)
    train(again, data, make_trainer(again, longer, tmp_path), tmp_path, resume=last)
    assert torch.load(last, weights_only=True)["epoch"] == 1


def test_what_goes_wrong_once_training_has_begun_is_left_alone(
    stopped: Path, tmp_path: Path, data: GrowingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise KeyError("a mistake of ours")

    monkeypatch.setattr(Classification, "losses", fail)
    with pytest.raises(KeyError, match="a mistake of ours"):
        _go_on(stopped, tmp_path / "run", data, lambda payload: None)
    trainer = make_trainer(_task(), FIT, tmp_path / "other")
    with pytest.raises(KeyError, match="of a new run"), restoring(trainer, None):
        raise KeyError("of a new run")


def test_a_best_file_of_another_network_counts_no_more(
    stopped: Path, tmp_path: Path, data: GrowingData
) -> None:
    run, other = tmp_path / "run", _task(3)
    shutil.copytree(stopped, run)
    train(other, data, make_trainer(other, FIT, tmp_path / "other"), tmp_path / "other")
    shutil.copyfile(tmp_path / "other" / "best.ckpt", run / "best.ckpt")
    with pytest.raises(BadInput, match=r"best\.ckpt: of another network than that of the run"):
        load_weights_(_task(), run / "best.ckpt")
    task = load(run / "last.ckpt")
    train(task, data, make_trainer(task, FIT, run), run, resume=run / "last.ckpt")
    assert load(run / "best.ckpt").net_args == {"width": 2}
