"""A run's best score is that of a file that is whole, and what is stopped is saved as a whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import EMAWeightAveraging
from pytorch_lightning.utilities.exceptions import SIGTERMException

from regrow.models.checkpoint import save
from regrow.models.classification import Classification
from regrow.training.checkpointing import LAST_STEP, RunCheckpoint, SaveWhenStopped

pytestmark = [
    # Lightning 2.6 with torch 2.15.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning"),
    # The loaders of these tests have no workers.
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]
FitLine = Callable[..., Trainer]


def make_task(width: int = 2) -> Classification:
    return Classification(["a", "b"], (16, 16), net_args={"width": width})


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    return Trainer(logger=False, accelerator="cpu", default_root_dir=tmp_path)


@pytest.fixture
def best(trainer: Trainer, tmp_path: Path) -> RunCheckpoint:
    """The checkpoint of a run's best network, whose file lies there."""
    task = make_task()
    save(tmp_path / "best.ckpt", task)
    best = RunCheckpoint(
        tmp_path, filename="best", monitor="val/accuracy", mode="max", enable_version_counter=False
    )
    best.setup(trainer, task, "validate")
    return best


def state() -> dict[str, Any]:
    """Return a state whose paths are those of another machine."""
    score = torch.tensor([0.5], dtype=torch.float64)
    elsewhere = {"best_model_path": "/x/best.ckpt", "best_k_models": {"/x/best.ckpt": score}}
    return {LAST_STEP: 7, "best_model_score": score, "dirpath": "/x", **elsewhere}


def test_the_best_score_is_taken_and_nothing_of_paths(best: RunCheckpoint) -> None:
    best.load_state_dict(state())
    assert (best.saved_step, best.best_model_path) == (7, str(best.file))
    assert best.best_model_score is not None
    assert (best.best_model_score.dtype, best.best_model_score.shape) == (torch.float32, ())
    assert best.best_k_models == {str(best.file): torch.tensor(0.5)}


def test_a_state_says_the_step_of_its_file(best: RunCheckpoint) -> None:
    best.load_state_dict(state())
    assert best.state_dict()[LAST_STEP] == 7
    best.load_state_dict({**state(), LAST_STEP: "7"})
    assert best.saved_step == 0


@pytest.mark.parametrize("damage", ["gone", "torn", "of other widths"])
def test_the_score_of_a_file_that_is_not_there_counts_no_more(
    damage: str, best: RunCheckpoint
) -> None:
    if damage == "gone":
        best.file.unlink()
    elif damage == "torn":
        best.file.write_bytes(best.file.read_bytes()[:3000])
    else:
        save(best.file, make_task(3))
    best.load_state_dict(state())
    assert (best.best_model_score, best.best_k_models) == (None, {})


@pytest.mark.parametrize("score", [0.5, "0.5", torch.tensor(torch.nan), torch.zeros(2)], ids=str)
def test_a_best_score_that_is_no_number_is_refused(score: Any, best: RunCheckpoint) -> None:
    with pytest.raises(ValueError, match="^the best score of its run is no number$"):
        best.load_state_dict({**state(), "best_model_score": score})


def test_an_equal_score_replaces_what_was_offered(best: RunCheckpoint, trainer: Trainer) -> None:
    best.offer_(0.5)
    assert best.check_monitor_top_k(trainer, torch.tensor(0.5))
    assert not best.check_monitor_top_k(trainer, torch.tensor(0.5 - 2**-20))


def test_the_end_of_an_epoch_is_saved_though_validation_is_within_it(
    fit_line: FitLine, tmp_path: Path
) -> None:
    last = RunCheckpoint(tmp_path, filename="last", enable_version_counter=False)
    fit_line(last, enable_checkpointing=True, val_check_interval=4)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 6
    assert saved["state_dict"]["weight"].tolist() == [-21]  # less 1 to 6
    assert saved["callbacks"][last.state_key][LAST_STEP] == 6


class Failing(Callback):
    """Raises an error after the third batch of training or of validation."""

    def __init__(self, error: BaseException, split: str) -> None:
        self.error, self.split = error, split

    def on_train_batch_end(self, *args: Any) -> None:
        if self.split == "train" and args[4] == 2:
            raise self.error

    def on_validation_batch_end(self, *args: Any) -> None:
        if self.split == "val" and args[4] == 2:
            raise self.error


def test_a_run_that_is_stopped_is_saved(fit_line: FitLine, tmp_path: Path) -> None:
    with pytest.raises(SIGTERMException):
        fit_line(SaveWhenStopped(tmp_path), Failing(SIGTERMException(), "train"))
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["state_dict"]["weight"].tolist() == [-6]  # less 1, 2 and 3


def test_a_run_that_fails_is_not(fit_line: FitLine, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        fit_line(SaveWhenStopped(tmp_path), Failing(RuntimeError("a bug"), "train"))
    assert not (tmp_path / "last.ckpt").exists()


def test_a_stopped_validation_begins_anew_with_weights_and_average_in_their_places(
    fit_line: FitLine, line: LightningModule, tmp_path: Path
) -> None:
    average = EMAWeightAveraging(decay=0.5)
    with pytest.raises(SIGTERMException):
        fit_line(average, SaveWhenStopped(tmp_path), Failing(SIGTERMException(), "val"))
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["current_model_state"]["weight"].tolist() == [-21]
    by_hand = -1.0
    for weight in (-3, -6, -10, -15, -21):
        by_hand = (by_hand + weight) / 2
    assert saved["state_dict"]["weight"].tolist() == [by_hand]
    counts = saved["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]["current"]
    assert counts == {"ready": 1, "started": 1, "processed": 0, "completed": 0}
