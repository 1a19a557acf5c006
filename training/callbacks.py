"""Callbacks that show a run: predicted images and throughput in TensorBoard."""

import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torchvision.utils import make_grid

from regrow.data.module import GrowingData
from regrow.data.targets.partial_labels import plain_targets
from regrow.models.modes import evaluating
from regrow.models.task import Task
from regrow.reporting.pictures import draw, picture, save_picture
from regrow.reporting.tensorboard import _writer


class PredictionImages(Callback):
    """Show the first validation images in TensorBoard, truth beside prediction.

    Args:
        num_images: Number of images.
        every_n_epochs: After which epochs: all, every second, and so on.
    """

    def __init__(self, num_images: int = 8, every_n_epochs: int = 1) -> None:
        self.num_images, self.every_n_epochs = num_images, every_n_epochs
        self._pairs: list[Tensor] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the images of the last epoch."""
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
        """Reset the count; the clock starts after the first batch."""
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


@torch.no_grad()
def save_prediction_picture(task: Task, data: GrowingData, path: Path, num_images: int = 8) -> None:
    """Write a picture of the first validation images, truth beside prediction.

    Args:
        task: The network; it is left as it was.
        data: Its data, labels in the order of its classes.
        path: The PNG file.
        num_images: Largest number of images.
    """
    images, targets = next(iter(data.val_dataloader()))
    images, targets = images[:num_images], plain_targets(targets)[:num_images]
    with evaluating(task):
        predictions = task.predict(task(images.to(task.mean.device)))
    save_picture(path, picture(images, predictions, targets, task.classes, task.kind))


def _step(trainer: Trainer) -> int:
    """Return the step that Lightning logs under: the last one that was taken, from 0.

    A run that goes on draws anew what is later than that, and nothing else.
    """
    return max(trainer.global_step - 1, 0)
