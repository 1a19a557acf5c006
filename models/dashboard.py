"""What a run shows while it goes and afterwards: progress, throughput, pictures, settings."""

import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter, summary
from torchvision.utils import make_grid

from regrow.data.module import GrowingData
from regrow.data.partial_labels import plain_targets
from regrow.models.modes import evaluating
from regrow.models.pictures import draw, picture, save_picture
from regrow.models.task import Task
from regrow.progress import is_drawing
from regrow.text import printable


class PredictionImages(Callback):
    """Show the first validation images in TensorBoard, truth beside prediction.

    Args:
        num_images: How many images.
        every_n_epochs: After which epochs: all, every second, and so on.
    """

    def __init__(self, num_images: int = 8, every_n_epochs: int = 1) -> None:
        self.num_images, self.every_n_epochs = num_images, every_n_epochs
        self._pairs: list[Tensor] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin again."""
        self._pairs = []

    @torch.no_grad()
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Predict on the first images, with the very weights that are being validated."""
        missing = self.num_images - sum(len(pairs) for pairs in self._pairs)
        if missing <= 0 or not self._is_due(trainer) or not isinstance(pl_module, Task):
            return
        images, targets = batch[0][:missing], plain_targets(batch[1])[:missing]
        with trainer.precision_plugin.val_step_context():
            predictions = pl_module.predict(pl_module(images))
        drawn = draw(images, predictions, targets, pl_module.classes, pl_module.kind)
        self._pairs.append(drawn)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the picture into TensorBoard."""
        writer = _writer(trainer.logger)
        if self._pairs and writer is not None:
            pairs = torch.cat(self._pairs)
            grid = make_grid(pairs, nrow=2, padding=4, pad_value=255)
            writer.add_image("val/predictions", grid, _step(trainer))
        self._pairs = []

    def _is_due(self, trainer: Trainer) -> bool:
        if not trainer.is_global_zero or trainer.sanity_checking or _writer(trainer.logger) is None:
            return False
        return (trainer.current_epoch + 1) % self.every_n_epochs == 0


class Throughput(Callback):
    """Measure training images a second in each epoch, without its first batch and validation.

    Attributes:
        images_per_second: Of the last epoch, all processes together; None before its end.
    """

    def __init__(self) -> None:
        self.images_per_second: float | None = None
        self._since: float | None = None
        self._seconds, self._num_images = 0.0, 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin again; the clock starts after the first batch."""
        self._since, self._seconds, self._num_images = None, 0.0, 0

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count the images of a batch."""
        if trainer.is_last_batch and pl_module.device.type == "cuda":
            torch.cuda.synchronize(pl_module.device)  # once an epoch: the work counted is done
        now = time.perf_counter()
        if self._since is not None:
            self._seconds += now - self._since
            self._num_images += len(batch[0])
        self._since = now

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take validation off the clock."""
        if self._since is not None:
            self._since = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the epoch's rate."""
        if self._seconds > 0:
            self.images_per_second = self._num_images * trainer.world_size / self._seconds
            for logger in trainer.loggers:
                values = {"train/images_per_second": self.images_per_second}
                logger.log_metrics(values, step=_step(trainer))


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
        """Draw again."""
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
        """Name the epoch."""
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
        """Say the epoch where no validation does."""
        if not trainer.num_val_batches or not sum(map(float, trainer.num_val_batches)):
            self._say_epoch(trainer, "")

    def _say_epoch(self, trainer: Trainer, scores: str) -> None:
        if self._is_enabled and self.says_epochs and not self.console.is_terminal:
            epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
            self.console.print(f"{epoch}{scores}{self._left(trainer)}", soft_wrap=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the full bar behind."""
        self._stop()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
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


@torch.no_grad()
def save_prediction_picture(task: Task, data: GrowingData, path: Path, num_images: int = 8) -> None:
    """Write a picture of the first validation images, truth beside prediction.

    Args:
        task: The network; it is left as it was.
        data: Its data, labels in the order of its classes.
        path: The PNG file.
        num_images: How many images at most.
    """
    images, targets = next(iter(data.val_dataloader()))
    images, targets = images[:num_images], plain_targets(targets)[:num_images]
    with evaluating(task):
        predictions = task.predict(task(images.to(task.mean.device)))
    save_picture(path, picture(images, predictions, targets, task.classes, task.kind))


def _step(trainer: Trainer) -> int:
    """Give the step that Lightning logs under: the last one that was taken, from 0.

    A run that goes on draws anew what is later than that, and nothing else.
    """
    return max(trainer.global_step - 1, 0)


def _batches(trainer: Trainer) -> tuple[int | None, int]:
    """Give how many batches a run has, None for endless, and how many are done."""
    batches, epochs = trainer.num_training_batches, trainer.max_epochs
    total = int(epochs * batches) if epochs is not None and epochs > 0 else None
    return total, max(int(trainer.current_epoch * batches) + trainer.fit_loop.batch_idx + 1, 0)


def common_hparams(command: str, task: Task, epochs: int, lr: float) -> dict[str, Any]:
    """Return the settings that runs of every command have, by the same names.

    Args:
        command: What was done, such as `train`.
        task: The network.
        epochs: How long it was trained, each time.
        lr: The learning rate.
    """
    return {"command": command, "net": task.net_name, "epochs": epochs, "lr": lr}


def log_hparams(
    logger: Logger | None, hparams: Mapping[str, Any], scores: Mapping[str, float], step: int = 0
) -> None:
    """Put the settings and final scores of a run into TensorBoard's HParams tab.

    Args:
        logger: The run's logger; nothing happens without one.
        hparams: Settings, nested as they may be; lists and None are shown as text.
        scores: Final scores by name.
        step: Where the scores stand among the run's other figures.
    """
    writer = _writer(logger)
    if writer is not None:
        write_hparams(writer, hparams, scores, step)


def write_hparams(
    writer: SummaryWriter, hparams: Mapping[str, Any], scores: Mapping[str, float], step: int = 0
) -> None:
    """Put the settings and final scores of a run into TensorBoard's HParams tab.

    Commands have different settings, and TensorBoard takes its columns from the first run that
    lists some: those of others stay blank. Where no run does, it shows the columns of all.

    Args:
        writer: What writes the run's other figures.
        hparams: Settings, nested as they may be; lists and None are shown as text.
        scores: Final scores by name.
        step: Where the scores stand among the run's other figures.
    """
    values = {
        # Of text that is no UTF-8 its files cannot be written.
        printable(name): value if type(value) in (int, float) else printable(str(value))
        for name, value in flat(hparams).items()
    }
    for name, score in scores.items():
        writer.add_scalar(name, score, step)
    _, started, ended = summary.hparams(values, {})
    for part in (started, ended):
        writer._get_file_writer().add_summary(part)
    writer.flush()


def flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Give nested settings by dotted name, such as `data.batch_size`.

    Args:
        settings: Mappings within mappings; the arguments of a class, below `init_args`, count as
            settings of what the class is given for.
        prefix: What all names begin with.
    """
    if not isinstance(settings, Mapping) or not settings:
        return {prefix: settings}
    found: dict[str, Any] = {}
    for name, value in settings.items():
        inner = prefix if name == "init_args" else f"{prefix}.{name}" if prefix else name
        found |= flat(value, inner)
    return found


def _writer(logger: Logger | None) -> SummaryWriter | None:
    return logger.experiment if isinstance(logger, TensorBoardLogger) else None
