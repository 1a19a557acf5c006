"""Ways to retrain: on which images each trains, for how long, and from which weights."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from regrow.data.module import GrowingData
from regrow.data.sample import Digits
from regrow.errors import BadInput
from regrow.incremental.growth import Growth
from regrow.incremental.memory import store_memory
from regrow.models.checkpoint import load, save
from regrow.models.classification import Classification
from regrow.models.task import Task
from regrow.pipelines.experiments.strategies import (
    NEW_ONLY,
    PARENT,
    REPLAY,
    SCRATCH,
    WARM,
    Retraining,
    RetrainingTrial,
    Strategy,
)
from regrow.pipelines.experiments.trials import run_one
from regrow.training.evaluation import evaluate
from regrow.training.fit import Fit

OLD, ALL, MEMORY = 40, 60, 10


def make_task(classes: list[str], size: tuple[int, int]) -> Task:
    return Classification(classes, size, net_args={"width": 4}).eval()


@pytest.fixture
def calls() -> list[dict[str, Any]]:
    """Return the list of what a training was asked for."""
    return []


@pytest.fixture
def make(tmp_path: Path, calls: list[dict[str, Any]]) -> Callable[..., Retraining]:
    """Return a maker of setups whose networks are not trained: their head says `0` always."""
    before = GrowingData(Digits("young"), max_images=OLD)
    after = GrowingData(Digits(), max_images=ALL)

    def train(make: Any, data: GrowingData, *, fit: Fit, run: Path, **options: Any) -> Any:
        calls.append({"data": data, "epochs": fit.epochs, "run": run, **options})
        task = make(data.classes, data.size)
        with torch.no_grad():
            task.net.get_submodule(task.output_layers()[0]).weight.zero_()
            task.net.get_submodule(task.output_layers()[0]).bias.copy_(
                torch.arange(len(data.classes)) == 0
            )
        save(run / "best.ckpt", task)
        if "replay" in options:
            store_memory(data, options["replay"], run)
        return SimpleNamespace(figures={"seconds": 1.5})

    def make(**changed: Any) -> Retraining:
        given = {
            "make": make_task,
            "before": before,
            "after": after,
            "fit": Fit(epochs=10, devices=1, accelerator="cpu"),
            "share": 0.5,
            "memory": MEMORY,
            "growth": Growth(new_rows="mean"),
            "folder": tmp_path / "run",
            "command": "the command",
            "run_training": train,
        }
        return Retraining(**{**given, **changed})

    return make


def names(data: GrowingData) -> set[str]:
    return {data.snapshot.items[place].name for place in data.snapshot.indices("train")}


@pytest.mark.parametrize("share", [0, -0.5, 1.5])
def test_a_share_of_the_steps_is_more_than_none_and_at_most_all(make, share: float) -> None:
    with pytest.raises(BadInput, match=rf"share is {share}, it must lie in \(0, 1\]"):
        make(share=share)


def test_the_parent_trains_on_old_images_and_keeps_a_memory(make, calls) -> None:
    setup = make()
    trial = run_one(setup, PARENT, 3)
    (call,) = calls
    assert names(call["data"]) == names(setup.before)
    assert call["data"].seed == call["seed"] == 3
    assert (call["epochs"], call["replay"]) == (10, MEMORY)
    assert not call.keys() & {"warm_start", "growth", "allow_forgetting"}
    assert call["command_line"] == "the command"
    assert trial == RetrainingTrial("parent", 3, 10 * OLD, 1.5)
    assert setup.before.seed == setup.after.seed == 0, "the data itself is not changed"


def test_from_scratch_trains_on_all_images_with_fresh_weights(make, calls) -> None:
    setup = make()
    trial = run_one(setup, SCRATCH, 0)
    assert names(calls[0]["data"]) == names(setup.after)
    assert not calls[0].keys() & {"warm_start", "growth", "allow_forgetting", "replay"}
    assert trial == RetrainingTrial("scratch", 0, 10 * ALL, 1.5)


@pytest.mark.parametrize(
    ("strategy", "extra", "forgets", "parent"),
    [
        (WARM, 0, False, "alone/2/best.ckpt"),
        (REPLAY, MEMORY, False, "runs/parent_2/best.ckpt"),
        (NEW_ONLY, 0, True, "alone/2/best.ckpt"),
    ],
)
def test_warm_starts_have_a_share_of_the_steps(
    make, calls, strategy: Strategy, extra: int, forgets: bool, parent: str
) -> None:
    setup = make()
    run_one(setup, PARENT, 2)
    trial = run_one(setup, strategy, 2)
    call = calls[-1]
    later = names(setup.after) if strategy == WARM else names(setup.after.later_than(setup.before))
    assert names(call["data"]) == later
    count = len(later) + extra
    assert call["epochs"] == round(0.5 * 10 * ALL / count)
    assert trial.images == call["epochs"] * count
    assert call["allow_forgetting"] == forgets == strategy.forgets
    assert call["growth"] == Growth(new_rows="mean")
    assert call["warm_start"] == setup.folder / parent
    # Beside no memory, unless it is to be replayed.
    assert (call["warm_start"].parent / "memory").exists() == strategy.has_memory
    again, kept = (load(path) for path in (call["warm_start"], setup.checkpoint(PARENT, 2)))
    for one, other in zip(again.net.parameters(), kept.net.parameters(), strict=True):
        assert torch.equal(one, other)


def test_there_is_one_epoch_at_least(make) -> None:
    assert make().epochs(WARM, 10**6) == 1


def test_a_network_misses_the_images_of_a_class_that_it_lacks(make) -> None:
    setup = make()
    run_one(setup, PARENT, 0)
    found = setup.evaluate(PARENT, 0)
    assert list(found.per_class) == setup.after.classes
    assert found.num_images == len(setup.after.snapshot.indices("test"))
    assert found.per_class["0"] == 1
    assert found.per_class["8"] == found.per_class["9"] == 0
    # On images of before it says what the network itself does.
    own = evaluate(load(setup.checkpoint(PARENT, 0)), setup.before.copy().test_dataloader())
    assert own.per_class["0"] == 1


def test_a_trial_of_the_form_before_is_read(make) -> None:
    setup = make()
    first = run_one(setup, SCRATCH, 1)
    file = setup.file(SCRATCH, 1)
    assert file == setup.folder / "runs" / "scratch_1" / "trained.json"
    values = json.loads(file.read_text())
    values["strategy"] = values.pop("candidate")
    file.write_text(json.dumps(values))
    assert run_one(setup, SCRATCH, 1) == first


def test_ages_are_those_of_the_test_images_of_now(make) -> None:
    setup = make()
    ages = setup.ages()
    assert ages.split == "test"
    assert len(ages.ages) == len(setup.after.snapshot.indices("test"))
    assert set(ages.ages) == {"old", "new"}
