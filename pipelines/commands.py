"""The command lines of the pipelines: words are read into a call, and the call is made."""

import sys
from collections.abc import Sequence
from typing import Any

from regrow.cli import parse
from regrow.data.config import DATA_CHOICES
from regrow.errors import CheckFailed
from regrow.guard import command
from regrow.incremental.gating.gate import Gate
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.segmentation import Segmentation
from regrow.pipelines.export import run_export
from regrow.pipelines.prune import run_pruning
from regrow.pipelines.pruning.front import FRONT
from regrow.pipelines.pruning.inputs import PROGRESS
from regrow.pipelines.pruning.job import Train
from regrow.pipelines.recipes.command_line import with_recipe
from regrow.pipelines.train import NO_OPTIONS, run_training
from regrow.prune.criteria import (
    ActivationGradient,
    ConsumerMagnitude,
    Fisher,
    Lamp,
    Magnitude,
    NormScale,
    Random,
    Taylor,
)
from regrow.reporting.report import Report
from regrow.reporting.run_folder import advised
from regrow.training.distillation import Distillation
from regrow.training.stages import EARLIER
from regrow.training.trainer import fine_tune_

TASKS = [Classification, Detection, Segmentation]
CRITERIA = [
    Taylor,
    Magnitude,
    ConsumerMagnitude,
    Fisher,
    NormScale,
    Lamp,
    ActivationGradient,
    Random,
]


# How the options of a training are read, from words or from a mapping.
TRAINING: dict[str, Any] = {
    "skip": NO_OPTIONS,
    "choices": {
        "task": TASKS,
        "growth.distillation": [Distillation],
        "gate": [Gate],
        **DATA_CHOICES,
    },
}


def train(args: Sequence[str] | None = None) -> Report:
    """Train a network, or warm-start it from a checkpoint on data that has grown.

    Raises:
        CheckFailed: If the gate is shut; all files are there all the same.
    """
    with with_recipe(sys.argv[1:] if args is None else args, read_training) as words:
        values, settings = read_training(words)
    return train_as_read(values, settings, command("train", args))


def read_training(words: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the options of a training: the arguments of `run_training`, and the same as plain data.

    Args:
        words: The command line, which names all that a training needs.

    Raises:
        BadInput: If there is no such option, or one is missing.
    """
    return parse(run_training, words, description=train.__doc__ or "", **TRAINING)


def train_as_read(values: dict[str, Any], settings: dict[str, Any], line: str) -> Report:
    """Train with options that have been read; tell how to go on after a stop, and judge the gate.

    Args:
        values: The arguments of `run_training`.
        settings: The same as plain data.
        line: The command that a person can type for this.

    Raises:
        CheckFailed: If the gate is shut; all files are there all the same.
    """
    saved, goes_on = ("last.ckpt", *EARLIER), values["resume"] is not None
    with advised(values["run"], "" if goes_on else line, saved, "--resume auto"):
        report = run_training(**values, settings=settings, command_line=line)
    gate = report.figures.get("gate", {})
    if gate.get("reasons"):
        stays = f"; {gate['served']} stays" if gate["served"] else ""
        raise CheckFailed(f"not to be served: {'; '.join(gate['reasons'])}{stays}")
    return report


def prune(args: Sequence[str] | None = None, train: Train = fine_tune_) -> Report:
    """Make a network smaller under an accuracy budget.

    Args:
        args: The words after the command's name; None reads those of the process.
        train: Fine-tunes a cut network, as `run_pruning` takes it.
    """
    values, settings = parse(
        run_pruning,
        args,
        description=prune.__doc__ or "",
        skip=["settings", "command_line", "train", "begin"],
        choices={"criterion": CRITERIA, **DATA_CHOICES},
    )
    line = command("prune", args)
    with advised(
        values["run"], "" if values["resume"] else line, [PROGRESS, FRONT], "--resume true"
    ):
        return run_pruning(**values, settings=settings, command_line=line, train=train)


def export(args: Sequence[str] | None = None) -> Report:
    """Write a checkpoint as ONNX, and verify it in ONNX Runtime on held-out images."""
    values, _ = parse(
        run_export,
        args,
        description=export.__doc__ or "",
        skip=["command_line"],
        positional={"checkpoint": "The network, dense or pruned."},
        choices=DATA_CHOICES,
    )
    return run_export(**values, command_line=command("export", args))
