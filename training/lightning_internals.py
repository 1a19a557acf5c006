"""All uses of Lightning beyond its documented interface, in one place.

Checked on Lightning 2.6.6. Another version needs a look at each of these; the tests of
resuming compare weights bit for bit, and notice what has changed.
"""

from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint, WeightAveraging
from torch import Tensor, nn


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """Return the callbacks of a trainer, which sets them while it is made."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return callbacks


def loop_state(trainer: Trainer) -> dict[str, Any]:
    """Return the counters of a training run as a checkpoint has them."""
    return trainer.fit_loop.state_dict()


def batches_done(trainer: Trainer) -> int:
    """Return how many batches of this epoch a training has gone through."""
    return trainer.fit_loop.batch_idx + 1


def is_within_step(trainer: Trainer) -> bool:
    """Whether the step of the optimizer that a training is in needs further batches."""
    return trainer.fit_loop._should_accumulate()


def averaged(callback: Callback) -> nn.Module | None:
    """Return the network that a callback averages into; None if it keeps none, or not yet."""
    average = callback._average_model if isinstance(callback, WeightAveraging) else None
    return None if average is None else average.module


def restart_validation_(trainer: Trainer) -> None:
    """Reset the loop of a validation to its first batch, in place."""
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    progress.reset()
    progress.increment_ready()
    progress.increment_started()


class OneFileCheckpoint(ModelCheckpoint):
    """A checkpoint of one file, which is replaced and never removed.

    Lightning's own takes from a checkpoint which files it removes later. Here the file follows from
    the run's folder, which may have been moved or copied since, and no checkpoint has a say in it.
    Lightning's own forgets at which step it saved last, too.
    """

    @property
    def state_key(self) -> str:
        """Return the name of its state in a checkpoint, which is that of Lightning's own."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    @property
    def file(self) -> Path:
        """Return the file."""
        return Path(str(self.dirpath)) / f"{self.filename}{self.FILE_EXTENSION}"

    @property
    def saved_step(self) -> int:
        """Return the step of the last save; 0 if there was none."""
        return self._last_global_step_saved

    @saved_step.setter
    def saved_step(self, step: int) -> None:
        self._last_global_step_saved = step

    def save_unless_saved(self, trainer: Trainer) -> None:
        """Save the checkpoint, unless the file has this step already."""
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_topk_checkpoint(trainer, {})

    def take_best_(self, score: Tensor) -> None:
        """Register the file that is there as the best, with its score."""
        self.best_model_path = self.kth_best_model_path = str(self.file)
        self.best_model_score = self.kth_value = self.current_score = score
        self.best_k_models = {str(self.file): score}

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        self.saved_step = trainer.global_step  # the file itself is to say so
        super()._save_checkpoint(trainer, filepath)

    def _remove_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        """Remove nothing, whatever Lightning would."""
