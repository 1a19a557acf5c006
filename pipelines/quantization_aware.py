"""Quantisation-aware fine-tuning: a network is trained on with INT8 simulated, where that broke."""

import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from regrow.data.config import DATA_FILE
from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.files import file_hash
from regrow.limits import NUM_EPOCHS, refuse_beyond
from regrow.logs import log
from regrow.models.checkpoint import load_provenance, save
from regrow.models.modes import copied
from regrow.models.onnx.simulation import simulation_of
from regrow.models.optimization import Optimization
from regrow.models.record.provenance import made_from
from regrow.models.task import Task
from regrow.text import plural
from regrow.training.distillation import DistillationPenalty
from regrow.training.fit import Fit
from regrow.training.trainer import fine_tune_

TUNED = "int8.ckpt"
SHARE = 0.1  # of the training's own learning rate


@dataclass(frozen=True, slots=True)
class FineTuning:
    """Settings of the fine-tuning that follows where INT8 breaks the budget.

    Args:
        epochs: Passes over the training images.
        lr: Learning rate at its peak; None is a tenth of the optimizer's own.
        fit: How it is trained; the epochs and the precision are those of the fine-tuning.
        optimization: The optimizer; None is that of the checkpoint.
        seed: The random seed of order, augmentation and dropout.
        checkpoint: The checkpoint of the network in float.
        command_line: The command, for the provenance of the network that comes of it.

    Raises:
        BadInput: If epochs or learning rate are out of range.
    """

    epochs: int
    lr: float | None
    fit: Fit
    optimization: Optimization | None
    seed: int
    checkpoint: Path
    command_line: str

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.epochs < 0:
            raise BadInput(f"qat_epochs is {self.epochs}, it must be 0 or more")
        refuse_beyond(NUM_EPOCHS, qat_epochs=self.epochs)
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise BadInput(f"qat_lr is {self.lr}, it must be > 0, or null")


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was fine-tuned, for the report.

    Args:
        epochs: Passes over the training images.
        lr: Learning rate at its peak.
        num_simulated: Number of INT8 layers of the graph that were simulated.
        left: The names of those that were not.
        checkpoint: The name of the file of the fine-tuned network.
    """

    epochs: int
    lr: float
    num_simulated: int
    left: tuple[str, ...]
    checkpoint: str

    def in_words(self) -> str:
        """Return what was done, in a sentence or two of the report."""
        words = (
            f"The network was fine-tuned for {plural(self.epochs, 'epoch')} at a learning rate of "
            f"{self.lr:g} with {plural(self.num_simulated, 'layer')} in simulated INT8, distilled "
            f"from the network in float; {self.checkpoint} holds it."
        )
        if self.left:
            words += " Not simulated, since no layer of the network was found for them, are "
            words += f"{', '.join(self.left)}."
        return words


def fine_tuned(
    task: Task, graph: Path, made: Path, data: GrowingData, tuning: FineTuning
) -> tuple[Task, Tuned]:
    """Return a copy of a network, fine-tuned so that INT8 costs it less; write it as `int8.ckpt`.

    Each layer that the graph computes in INT8 is simulated, batch norms use their running
    statistics, and the network in float is the teacher.

    Args:
        task: The network in float, on the CPU and in single precision; it is not changed.
        graph: Its ONNX file.
        made: That file in INT8; `int8.ckpt` is written beside it.
        data: The data.
        tuning: The settings.

    Raises:
        BadInput: If no layer can be simulated, or the training diverges.
    """
    simulation = simulation_of(task, onnx.load(graph), onnx.load(made))
    if not simulation.num_simulated:
        raise BadInput(
            f"qat_epochs: none of the INT8 layers was found in the network "
            f"({', '.join(simulation.left)}), so none can be simulated; set it to 0"
        )
    own = tuning.optimization or task.optimization
    optimization = replace(own, lr=SHARE * own.lr if tuning.lr is None else tuning.lr)
    work = copied(task)
    work.optimization, work.compile_net = optimization, False
    work.forget_momenta_()
    log.info(f"INT8 breaks the budget: fine-tuning, {plural(tuning.epochs, 'epoch')}")
    # Bfloat16 has no room for all numbers of a grid of 8 bits and a zero point.
    fit = replace(tuning.fit, epochs=tuning.epochs, precision="32-true")
    with simulation.on(work):
        fine_tune_(
            work,
            data,
            fit,
            made.parent,
            seed=tuning.seed,
            penalties=[DistillationPenalty(task)],
        )
    checkpoint = tuning.checkpoint
    parent, snapshot = load_provenance(checkpoint), data.snapshot
    work.provenance = made_from(file_hash(checkpoint), parent, snapshot, tuning.command_line)
    save(made.with_name(TUNED), work)
    _copy_data_file(checkpoint, made.parent)
    return work, Tuned(
        tuning.epochs, optimization.lr, simulation.num_simulated, simulation.left, TUNED
    )


def _copy_data_file(checkpoint: Path, run: Path) -> None:
    """Copy the settings of the data to where the fine-tuned checkpoint is, if they are known."""
    known = checkpoint.with_name(DATA_FILE)
    if known.is_file() and not (run / DATA_FILE).exists():
        shutil.copyfile(known, run / DATA_FILE)
