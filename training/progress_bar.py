"""The progress bar of a training, and its line an epoch where there is no terminal."""

import sys
import time
from datetime import timedelta
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from regrow.progress import is_drawing
from regrow.training.lightning_internals import batches_done


class RunProgress(ProgressBar):
    """One bar for a whole run, with the time left; without a terminal, a line an epoch.

    Within the bar of something larger it draws nothing.

    Args:
        console: Where it is drawn; None is the process's stderr.
        says_epochs: Print those lines; else it is silent where there is no terminal.
    """

    def __init__(self, console: Console | None = None, *, says_epochs: bool = True) -> None:
        super().__init__()
        self.console = console or Console(file=sys.stderr)
        self.says_epochs = says_epochs
        self._is_enabled = True
        self._progress: Progress | None = None
        self._started, self._num_batches = 0.0, 0

    def disable(self) -> None:
        """Draw nothing, as Lightning asks of all processes but the first."""
        self._is_enabled = False

    def enable(self) -> None:
        """Draw the bar again."""
        self._is_enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar, at the batch where a resumed run goes on."""
        self._started, self._num_batches = time.monotonic(), 0
        if not (self._is_enabled and self.console.is_terminal) or is_drawing():
            return
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("batches"),
            TimeRemainingColumn(),
            TextColumn("left"),
            TextColumn("{task.fields[scores]}"),
            console=self.console,
        )
        total, done = _batches(trainer)
        self._progress.add_task("training", total=total, completed=done, scores="")
        self._progress.start()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the number of the epoch."""
        self._update(description=f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count a batch; the bar redraws itself a few times a second."""
        self._num_batches += 1
        self._update(advance=1)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the scores, which wait for the device only here."""
        shown = {n: float(v) for n, v in trainer.callback_metrics.items() if n.startswith("val/")}
        scores = "  ".join(f"{name} {value:.4f}" for name, value in shown.items())
        self._update(scores=scores)
        self._say_epoch(trainer, f"  {scores}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the epoch's line where there is no validation."""
        if not trainer.num_val_batches or not sum(map(float, trainer.num_val_batches)):
            self._say_epoch(trainer, "")

    def _say_epoch(self, trainer: Trainer, scores: str) -> None:
        if self._is_enabled and self.says_epochs and not self.console.is_terminal:
            epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            self.console.print(f"{epoch}{scores}{self._left(trainer)}", soft_wrap=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the bar, and leave it full."""
        self._stop()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Stop the bar, so that the terminal is free."""
        self._stop()

    def _update(self, **values: Any) -> None:
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], **values)

    def _left(self, trainer: Trainer) -> str:
        total, done = _batches(trainer)
        if total is None or not self._num_batches:
            return ""
        spent = time.monotonic() - self._started
        left = timedelta(seconds=round(spent / self._num_batches * max(total - done, 0)))
        return f"  {left} left"

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _batches(trainer: Trainer) -> tuple[int | None, int]:
    """Return how many batches a run has, None for endless, and how many are done."""
    batches, epochs = trainer.num_training_batches, trainer.max_epochs
    total = int(epochs * batches) if epochs is not None and epochs > 0 else None
    return total, max(int(trainer.current_epoch * batches) + batches_done(trainer), 0)
