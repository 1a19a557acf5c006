"""A training job in a SageMaker container, as one run of the pipelines."""

from collections.abc import Sequence
from inspect import signature
from pathlib import Path

import regrow.configs
from regrow.deploy.sagemaker.training_job import run_container, stop_with_parent
from regrow.pipelines.commands import export, train
from regrow.pipelines.train import NO_OPTIONS, run_training

CONFIGS = Path(regrow.configs.__file__).parent
OPTIONS = [name for name in signature(run_training).parameters if name not in NO_OPTIONS]


def train_job(args: Sequence[str] | None = None) -> None:
    """Train as the platform asks; words are ignored, since its toolkit repeats hyperparameters."""
    stop_with_parent()
    run_container(train, export, CONFIGS, OPTIONS)
