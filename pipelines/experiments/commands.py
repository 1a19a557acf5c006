"""The command line of a comparison: dropout against pruning, or ways to retrain."""

from collections.abc import Sequence
from typing import Any

from regrow.cli import names_option, parse
from regrow.data.config import DATA_CHOICES
from regrow.guard import command
from regrow.pipelines.commands import TASKS
from regrow.pipelines.experiments.compare_dropout import run_comparison
from regrow.pipelines.experiments.compare_retraining import run_retraining
from regrow.prune.dropout import DropBlock, HeadDropout, SpatialDropout
from regrow.reporting.report import Report


def compare(args: Sequence[str] | None = None) -> Report:
    """Compare dropout with pruning on equal compute, or ways to retrain when the data has grown."""
    choices = {"task": TASKS, **DATA_CHOICES}
    skip = ["settings", "command_line"]
    about: dict[str, Any] = {"description": compare.__doc__ or "", "skip": skip}
    line = command("compare", args)
    if names_option(args, "before"):
        values, settings = parse(run_retraining, args, choices=choices, **about)
        return run_retraining(**values, settings=settings, command_line=line)
    choices["dropouts"] = [HeadDropout, SpatialDropout, DropBlock]
    values, settings = parse(run_comparison, args, choices=choices, **about)
    return run_comparison(**values, settings=settings, command_line=line)
