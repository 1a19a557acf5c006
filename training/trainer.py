"""Training by Lightning's Trainer with regrow's callbacks, the same for every command."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from pytorch_lightning.callbacks import (
    EarlyStopping,
    EMAWeightAveraging,
)
from pytorch_lightning.loggers import TensorBoardLogger
from torch import nn

from regrow.data.batches.sampling import counter_seed
from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.models.checkpoint import read, save
from regrow.models.optimization import state_by_name
from regrow.models.task import Penalty, Task
from regrow.training.callbacks import PredictionImages, Throughput
from regrow.training.checkpointing import RunCheckpoint, SaveWhenStopped
from regrow.training.class_weights import weigh_classes_
from regrow.training.evaluation import not_finite
from regrow.training.fit import Fit
from regrow.training.progress_bar import RunProgress
from regrow.training.reloading import load_weights_
from regrow.training.stages import furthest
from regrow.training.state import CheckState, RunCheckpointIO, restoring
from regrow.training.unfinished import Unfinished

Logs = Literal["full", "state", "none"]
MOMENTA = "momenta"  # where a finished round of training keeps what its optimizer remembered
# Arguments of Lightning's Trainer that a user may give besides those that regrow leaves alone.
FREE_ARGUMENTS = {
    "log_every_n_steps",
    "num_sanity_val_steps",
    "enable_model_summary",
    "limit_val_batches",
}
# What the libraries say at every start, and nobody can act on.
NOISE = (
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",
    "The '\\w+' does not have many workers",
    "Checkpoint directory .* exists and is not empty",
    "The number of training batches .* is smaller than the logging interval",
)


class StoppableTrainer(Trainer):
    """A trainer that SIGTERM stops after the current batch, of training or of validation.

    Several processes finish a validation first: they gather its scores together.
    """

    @property
    def received_sigterm(self) -> bool:
        """Whether to stop now."""
        gathers = self.validating and self.world_size > 1
        return super().received_sigterm and not gathers


class Diverged(BadInput):
    """A training that has left NaN or infinity in the weights."""


class RefuseNaN(Callback):
    """End a training whose weights are NaN or infinite, before it is scored or saved."""

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the weights before they are scored."""
        self._check(pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the weights where nothing is scored."""
        self._check(pl_module)

    def _check(self, task: Any) -> None:
        name = not_finite(task.net)
        if name is not None:
            raise Diverged(
                f"training has left NaN or infinity in {name}: lower the optimizer's lr, or clip "
                "gradients; what was saved before stays as it was"
            )


def refuse_kind(task: Task, data: GrowingData) -> None:
    """Refuse data whose labels are of another kind than the task's.

    Raises:
        BadInput: If they are.
    """
    if task.kind != data.kind:
        raise BadInput(f"{type(task).__name__} needs {task.kind}, the data has {data.kind}")


def make_trainer(
    task: Task,
    fit: Fit,
    run: Path,
    *,
    logs: Logs = "full",
    watchers: Sequence[Callback] = (),
    done: int | None = None,
) -> Trainer:
    """Return the Trainer of a run, whose checkpoints are `best.ckpt` and `last.ckpt`.

    Args:
        task: The network that will be trained.
        fit: Settings of the training.
        run: The run's folder.
        logs: `state` leaves out TensorBoard, scores and `best.ckpt`; `none` leaves no file at all,
            as recovery needs.
        watchers: Further callbacks, such as one that moves masks.
        done: The steps that a run that goes on has taken; what TensorBoard has of later ones, from
            before it was killed, is dropped. None for a new run.

    Raises:
        BadInput: If Lightning refuses what `fit` asks for.
    """
    _hush()
    if logs == "full" and fit.epochs < 1:
        raise BadInput(f"fit.epochs is {fit.epochs}, it must be at least 1")
    is_logged, is_saved = logs == "full", logs != "none"
    default_precision = "bf16-mixed" if fit.device.type == "cuda" else "32-true"
    options: dict[str, Any] = {
        "max_epochs": fit.epochs,
        "accelerator": fit.accelerator,
        "devices": fit.devices,
        "strategy": fit.strategy,
        "precision": fit.precision or default_precision,
        "gradient_clip_val": fit.clip,
        "callbacks": [*_callbacks(task, fit, run, logs), *watchers],
        "logger": _logger(run, done) if is_logged else False,
        "plugins": [RunCheckpointIO()],
        "default_root_dir": run,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
        "enable_checkpointing": is_saved,
        "log_every_n_steps": 10,
    }
    if not is_logged and fit.patience is None:
        options["limit_val_batches"] = 0  # nobody would look
    decided = sorted(fit.trainer.keys() & ((options.keys() - FREE_ARGUMENTS) | {"max_steps"}))
    if decided:
        raise BadInput(f"fit.trainer.{decided[0]}: regrow decides it, by the options of fit")
    try:
        return StoppableTrainer(**{**options, **fit.trainer})
    except (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError) as error:
        line = " ".join(str(error).split())
        raise BadInput(f"fit: Lightning's Trainer cannot be made of it: {line}") from error


def _callbacks(task: Task, fit: Fit, run: Path, logs: Logs) -> list[Callback]:
    """Return the callbacks of every run, in the order in which Lightning calls them."""
    is_logged, is_saved = logs == "full", logs != "none"
    chosen_by = f"val/{task.chosen_by}"
    callbacks: list[Callback] = [CheckState(), RunProgress(says_epochs=is_saved), RefuseNaN()]
    if is_logged:
        best = RunCheckpoint(
            run, filename="best", monitor=chosen_by, mode="max", enable_version_counter=False
        )
        callbacks += [best, Throughput()]
        if fit.images:
            callbacks.append(PredictionImages(fit.images))
    if is_saved:
        callbacks.append(RunCheckpoint(run, filename="last", enable_version_counter=False))
        callbacks += [SaveWhenStopped(run), Unfinished()]
    if fit.patience is not None:
        callbacks.append(EarlyStopping(chosen_by, patience=fit.patience, mode="max"))
    if fit.ema is not None:
        callbacks.append(EMAWeightAveraging(decay=fit.ema))
    return callbacks


def _logger(run: Path, done: int | None) -> TensorBoardLogger:
    return TensorBoardLogger(run, name="tensorboard", version="", purge_step=done)


def train(
    task: Task,
    data: GrowingData,
    trainer: Trainer,
    run: Path,
    *,
    seed: int = 0,
    resume: Path | None = None,
) -> None:
    """Train a network in place, and load the weights of its best epoch.

    Args:
        task: The network; it ends in evaluation mode, with the weights of `best.ckpt`, on the
            device that trained it.
        data: The data, its labels in the order of the task's classes.
        trainer: The trainer, from `make_trainer`.
        run: The run's folder; `best.ckpt`, `last.ckpt` and `tensorboard/` are written there.
        seed: Seed of dropout; order and augmentation follow the data's own.
        resume: A checkpoint of this run to go on from.
    """
    seed_everything(seed, verbose=False)
    task.seed = seed
    weigh_classes_(task, data)
    task.train()
    with restoring(trainer, resume), _same_scale(task):
        trainer.fit(task, datamodule=data, ckpt_path=resume, weights_only=True)
    kept = kept_checkpoint(run)
    if kept is not None:
        load_weights_(task, kept)
    data.trainer = None  # whatever trained, one process scores all images
    task.eval().to(trainer.strategy.root_device)


def kept_checkpoint(run: Path) -> Path | None:
    """Return the checkpoint whose weights a run ends with; None if it has left none."""
    return next((run / n for n in ("best.ckpt", "last.ckpt") if (run / n).is_file()), None)


def fine_tune_(
    task: Task,
    data: GrowingData,
    fit: Fit,
    run: Path,
    *,
    seed: int = 0,
    round_: int = 0,
    penalties: Sequence[Penalty] = (),
    state: Path | None = None,
) -> None:
    """Fine-tune a network in place, without logs.

    The optimizer goes on with the momenta of the task, and leaves its own there.

    Args:
        task: The network; it ends in evaluation mode, on the device where it was.
        data: The data, its labels in the order of the task's classes.
        fit: Settings of the training.
        run: A folder for what Lightning may write.
        seed: Seed of dropout and the like.
        round_: Which round of training it is: each has an order and augmentation of its own.
        penalties: Further terms of the loss, beside those of the task, for this time alone.
        state: A folder where the state of this training is kept, and from where it goes on, or is
            read if it was finished; by default it is not kept.
    """
    device = task.mean.device
    if not fit.epochs:
        return
    finished = state / "finished.ckpt" if state else None
    if finished is not None and finished.is_file():
        load_weights_(task.eval(), finished)
        task.momenta = read(finished).get(MOMENTA, {})
        return
    seed = counter_seed(seed, round_) % 2**32
    seed_everything(seed, verbose=False)
    task.seed = seed
    trainer = make_trainer(task, fit, state or run, logs="state" if state else "none")
    stopped = furthest(state) if state else None
    weigh_classes_(task, data)
    task.train()
    with (
        data.another_order(round_),
        _joined(task, penalties),
        restoring(trainer, stopped),
        _same_scale(task),
    ):
        trainer.fit(task, datamodule=data, ckpt_path=stopped, weights_only=True)
    task.momenta = state_by_name(trainer.optimizers[0], task.net)
    task.eval().to(device)  # Lightning leaves it on the CPU
    if finished is not None:
        save(finished, task, {MOMENTA: task.momenta})


@contextmanager
def _same_scale(task: Task) -> Iterator[None]:
    """Keep the mean and the deviation of images: an average of equal numbers may be another."""
    scale = {name: value.clone() for name, value in task.named_buffers(recurse=False)}
    yield
    for name, value in scale.items():
        task.get_buffer(name).copy_(value)


@contextmanager
def _joined(task: Task, penalties: Sequence[Penalty]) -> Iterator[None]:
    own = task.penalties
    task.penalties = nn.ModuleList([*own, *penalties])
    try:
        yield
    finally:
        task.penalties = own


def _hush() -> None:
    for message in NOISE:
        warnings.filterwarnings("ignore", message)
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
