"""A training job in a SageMaker container, as one run of the pipelines."""

from collections.abc import Sequence
from inspect import signature
from pathlib import Path

import regrow.configs
from regrow.cli import read
from regrow.deploy.sagemaker.hosting import HOST, Hosting
from regrow.deploy.sagemaker.options import TrainingCall
from regrow.deploy.sagemaker.training_job import run_container, stop_with_parent
from regrow.guard import command
from regrow.pipelines.commands import TRAINING, train_as_read
from regrow.pipelines.export import run_export
from regrow.pipelines.serve import run_server
from regrow.pipelines.train import NO_OPTIONS, run_training
from regrow.reporting.report import Report

CONFIGS = Path(regrow.configs.__file__).parent
MAX_BODY = 2**24  # bytes, where the platform does not say
OPTIONS = [name for name in signature(run_training).parameters if name not in NO_OPTIONS]


def train_job(args: Sequence[str] | None = None) -> None:
    """Train as the platform asks; words are ignored, since its toolkit repeats hyperparameters."""
    stop_with_parent()
    run_container(_train, _export, CONFIGS, OPTIONS)


def serve_endpoint(args: Sequence[str] | None = None) -> None:
    """Serve the model of an endpoint or a batch transform, as the platform puts it."""
    hosting = Hosting.from_environment()
    run_server(
        hosting.model,
        HOST,
        hosting.port,
        models=hosting.models,
        max_body=hosting.max_body or MAX_BODY,
        fixed={"/execution-parameters": hosting.execution_parameters()},
    )


def _train(call: TrainingCall) -> Report:
    values, settings = read(run_training, call.options, base=call.base, **TRAINING)
    return train_as_read(values, settings, command("train", call.words()))


def _export(checkpoint: Path, run: Path) -> Report:
    line = command("export", [str(checkpoint), f"--run={run}"])
    return run_export(checkpoint, run=run, command_line=line)
