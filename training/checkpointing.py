"""Callbacks that save checkpoints: the best, the last, and where a run was stopped."""

import math
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor

from regrow.errors import BadInput
from regrow.models.checkpoint import read
from regrow.training.lightning_internals import (
    OneFileCheckpoint,
    callbacks_of,
    restart_validation_,
)
from regrow.training.reloading import is_of

# In the state of a checkpoint's callback: at which step it wrote its file.
LAST_STEP = "last_global_step_saved"


class RunCheckpoint(OneFileCheckpoint):
    """A checkpoint of a run, which remembers its best score and the step of its file.

    Where validation is not that of each whole epoch, Lightning's own leaves out the end of one.
    """

    _task: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remember the network, whose best file may lie there already."""
        super().setup(trainer, pl_module, stage)
        self._task = pl_module

    def state_dict(self) -> dict[str, Any]:
        """Return the state, with the step of the last file."""
        return {**super().state_dict(), LAST_STEP: self.saved_step}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save; of the run's state whatever is not in its file yet, validated or not."""
        super().on_train_epoch_end(trainer, pl_module)
        if self.monitor is None:
            self.save_unless_saved(trainer)

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        for logger in trainer.loggers:
            logger.experiment.flush()  # type: ignore[attr-defined] # a kill loses no point before
        super()._save_checkpoint(trainer, filepath)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best score alone; that of a file which is gone or torn counts no more."""
        step = state_dict.get(LAST_STEP, 0)
        self.saved_step = step if isinstance(step, int) else 0
        score = state_dict.get("best_model_score")
        if self.monitor is None:
            self.best_model_path = str(self.file)
        elif score is not None and self._is_own(self.file):
            is_number = isinstance(score, Tensor) and score.numel() == 1 and not score.isnan().any()
            if not is_number:
                raise ValueError("the best score of its run is no number")
            self.take_best_(score.detach().float().reshape(()))

    def offer_(self, score: float) -> None:
        """Let the file that is there be the best so far; of equal scores a trained one is kept.

        Args:
            score: Its score, a number.
        """
        self.take_best_(torch.nextafter(torch.tensor(score), torch.tensor(-math.inf)))

    def _is_own(self, file: Path) -> bool:
        """Whether a file is whole and of the network that is trained."""
        try:
            return self._task is not None and is_of(self._task, read(file))
        except BadInput:
            return False


class SaveWhenStopped(Callback):
    """Write `last.ckpt` when SIGTERM ends the run, as the first Ctrl-C of a command does."""

    def __init__(self, run: Path) -> None:
        self.path = run / "last.ckpt"

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Save at SIGTERM; after anything else the state may be half a step."""
        if not isinstance(exception, SIGTERMException):
            return
        if trainer.validating:
            _validate_anew_(trainer, pl_module)
        trainer.save_checkpoint(self.path)


def _validate_anew_(trainer: Trainer, module: LightningModule) -> None:
    """Let the checkpoint of a stopped validation be one whose first batch had just begun.

    Lightning's own goes on with the next batch, without the scores of those before.
    """
    for callback in callbacks_of(trainer):
        if isinstance(callback, WeightAveraging):
            callback.on_validation_epoch_end(trainer, module)  # or weights and average were swapped
    restart_validation_(trainer)
