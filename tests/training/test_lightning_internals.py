"""What is used of Lightning beyond its documented interface does what it is used for."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint

from regrow.training.lightning_internals import (
    OneFileCheckpoint,
    averaged,
    batches_done,
    callbacks_of,
    is_within_step,
    loop_state,
    restart_validation_,
)

pytestmark = [
    # Lightning 2.6 with torch 2.15.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning"),
    # The loaders of these tests have no workers.
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]
FitLine = Callable[..., Trainer]


class AfterBatch(Callback):
    """Asks something of the trainer after each batch."""

    def __init__(self, ask: Callable[[Trainer], Any]) -> None:
        self.ask, self.told = ask, []

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.told.append(self.ask(trainer))


def test_callbacks_are_those_that_were_given(fit_line: FitLine) -> None:
    own = AfterBatch(lambda trainer: None)
    assert own in callbacks_of(fit_line(own))


def test_batches_are_counted_within_the_epoch(fit_line: FitLine) -> None:
    asked = AfterBatch(batches_done)
    fit_line(asked, epochs=2)
    assert asked.told == [1, 2, 3, 4, 5, 6] * 2


def test_a_step_of_four_batches_is_unfinished_until_the_fourth_or_the_last(
    fit_line: FitLine,
) -> None:
    asked = AfterBatch(is_within_step)
    fit_line(asked, accumulate_grad_batches=4)
    assert asked.told == [True, True, True, False, True, False]


def test_counters_are_those_of_a_checkpoint(fit_line: FitLine, tmp_path: Path) -> None:
    trainer = fit_line(epochs=2)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)["loops"]["fit_loop"]
    assert loop_state(trainer) == saved
    assert saved["epoch_progress"]["current"]["completed"] == 2


def test_the_average_is_there_once_there_is_one(fit_line: FitLine, line: LightningModule) -> None:
    average = EMAWeightAveraging(decay=0.5)
    assert averaged(average) is None
    assert averaged(AfterBatch(batches_done)) is None
    asked = AfterBatch(lambda trainer: averaged(average).get_parameter("weight").item())
    fit_line(asked, average)
    found = averaged(average)
    assert type(found) is type(line)
    assert found is not line
    # The callback before it sees the average as it was after the batch before.
    weights = [-1, -3, -6, -10, -15]
    by_hand = [0.0, float(weights[0])]
    for weight in weights[1:]:
        by_hand.append((by_hand[-1] + weight) / 2)
    assert asked.told == by_hand


def test_a_restarted_validation_is_at_its_first_batch(fit_line: FitLine) -> None:
    class Restarting(Callback):
        counts: Any = None

        def on_validation_batch_end(self, trainer: Trainer, *args: Any) -> None:
            if args[3] == 2:
                restart_validation_(trainer)
                state = loop_state(trainer)["epoch_loop.val_loop.batch_progress"]
                self.counts = dict(state["current"])

    restarting = Restarting()
    fit_line(restarting)
    assert restarting.counts == {"ready": 1, "started": 1, "processed": 0, "completed": 0}


class Renamed(OneFileCheckpoint):
    pass


@pytest.mark.parametrize("kind", [OneFileCheckpoint, Renamed])
def test_the_state_has_the_name_of_lightnings_own(
    kind: type[OneFileCheckpoint], tmp_path: Path
) -> None:
    for options in ({}, {"monitor": "val/ModelCheckpoint", "mode": "max"}):
        own, theirs = kind(tmp_path, **options), ModelCheckpoint(tmp_path, **options)
        assert own.state_key == theirs.state_key


def test_the_file_follows_from_folder_and_name(tmp_path: Path) -> None:
    assert OneFileCheckpoint(tmp_path, "last").file == tmp_path / "last.ckpt"


def test_a_step_is_saved_once(fit_line: FitLine, tmp_path: Path) -> None:
    class Counting(OneFileCheckpoint):
        steps: tuple[int, ...] = ()

        def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
            super()._save_checkpoint(trainer, filepath)
            self.steps += (trainer.global_step,)
            assert filepath == str(self.file)

    checkpoint = Counting(tmp_path, "last", enable_version_counter=False, every_n_epochs=99)
    assert checkpoint.saved_step == 0
    asked = AfterBatch(lambda trainer: [checkpoint.save_unless_saved(trainer) for _ in range(2)])
    trainer = fit_line(asked, checkpoint, enable_checkpointing=True)
    assert checkpoint.steps == (1, 2, 3, 4, 5, 6)
    assert checkpoint.saved_step == 6
    checkpoint.saved_step = 0
    for _ in range(2):
        checkpoint.save_unless_saved(trainer)
    assert checkpoint.steps == (1, 2, 3, 4, 5, 6, 6)
    assert torch.load(checkpoint.file, weights_only=True)["global_step"] == 6


def test_the_best_is_the_file_that_is_there_and_none_is_removed(
    fit_line: FitLine, tmp_path: Path
) -> None:
    other = tmp_path / "other.ckpt"
    other.write_bytes(b"")
    best = OneFileCheckpoint(
        tmp_path / "run", "best", monitor="val/accuracy", mode="max", enable_version_counter=False
    )
    best.take_best_(torch.tensor(0.3))
    assert (best.best_model_path, best.best_model_score) == (str(best.file), torch.tensor(0.3))
    # Of the scores 0.25, 0.5 and 0.75 the first is worse than that.
    asked = AfterBatch(lambda trainer: best.file.exists())
    trainer = fit_line(asked, best, epochs=3, enable_checkpointing=True)
    assert asked.told == [False] * 12 + [True] * 6
    assert best.best_model_score == 0.75
    best._remove_checkpoint(trainer, str(other))
    assert other.exists()
