"""Callbacks that keep checkpoints: the best, the last, and where a run was stopped."""

import math
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import (
    ModelCheckpoint,
    WeightAveraging,
)
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor

from regrow.errors import BadInput
from regrow.models.checkpoint import (
    read,
)
from regrow.training.reloading import is_of

# In the state of a checkpoint's callback: at which step it wrote its file.
LAST_STEP = "last_global_step_saved"


class RunCheckpoint(ModelCheckpoint):
    """A checkpoint of a run: one file, that is replaced and never removed.

    Lightning's own takes from a checkpoint which files it removes later. Here the file follows from
    the run's folder, which may have been moved or copied since, and no checkpoint has a say in it.
    Lightning's own forgets at which step it saved last, too, and where validation is not that of
    each whole epoch it leaves out the end of one.
    """

    _task: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remember the network, whose best file may lie there already."""
        super().setup(trainer, pl_module, stage)
        self._task = pl_module

    @property
    def state_key(self) -> str:
        """Name the state in a checkpoint as Lightning does."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def state_dict(self) -> dict[str, Any]:
        """Give the state, with the step of the last file."""
        return {**super().state_dict(), LAST_STEP: self._last_global_step_saved}

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save; of the run's state whatever is not in its file yet, validated or not."""
        super().on_train_epoch_end(trainer, pl_module)
        if self.monitor is None and not self._should_skip_saving_checkpoint(trainer):
            self._save_topk_checkpoint(trainer, {})

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        for logger in trainer.loggers:
            logger.experiment.flush()  # type: ignore[attr-defined] # a kill loses no point before
        self._last_global_step_saved = trainer.global_step  # the file itself is to say so
        super()._save_checkpoint(trainer, filepath)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best score alone; that of a file which is gone or torn counts no more."""
        step = state_dict.get(LAST_STEP, 0)
        self._last_global_step_saved = step if isinstance(step, int) else 0
        file = Path(str(self.dirpath)) / f"{self.filename}{self.FILE_EXTENSION}"
        score = state_dict.get("best_model_score")
        if self.monitor is None:
            self.best_model_path = str(file)
        elif score is not None and self._is_own(file):
            is_number = isinstance(score, Tensor) and score.numel() == 1 and not score.isnan().any()
            if not is_number:
                raise ValueError("the best score of its run is no number")
            self._take_best(score.detach().float().reshape(()), file)

    def _take_best(self, score: Tensor, file: Path) -> None:
        self.best_model_path = self.kth_best_model_path = str(file)
        self.best_model_score = self.kth_value = self.current_score = score
        self.best_k_models = {str(file): score}

    def offer_(self, score: float) -> None:
        """Let the file that is there be the best so far; of equal scores a trained one is kept.

        Args:
            score: Its score, a number.
        """
        below = torch.nextafter(torch.tensor(score), torch.tensor(-math.inf))
        self._take_best(below, Path(str(self.dirpath)) / f"{self.filename}{self.FILE_EXTENSION}")

    def _remove_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        """Remove nothing, whatever Lightning would."""

    def _is_own(self, file: Path) -> bool:
        """Whether a file is whole and of the network that is trained."""
        try:
            return self._task is not None and is_of(self._task, read(file))
        except BadInput:
            return False


class SaveWhenStopped(Callback):
    """Write `last.ckpt` when SIGTERM ends the run; Ctrl-C leaves that of the last epoch."""

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
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, WeightAveraging):
            callback.on_validation_epoch_end(trainer, module)  # or weights and average were swapped
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    progress.reset()
    progress.increment_ready()
    progress.increment_started()
