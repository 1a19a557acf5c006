"""Dropout compared with pruning on equal compute: all contestants at all seeds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from regrow.data.config import write_data_file
from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.models.task import Task
from regrow.pipelines.experiments import trials
from regrow.pipelines.experiments.comparison import Comparison
from regrow.pipelines.experiments.contestants import enter
from regrow.pipelines.experiments.dropout_page import chart, fill
from regrow.pipelines.experiments.equal_compute import RESULTS, EqualCompute
from regrow.pipelines.experiments.measured import measure_all
from regrow.prune.criteria import Criterion
from regrow.prune.dropout import Dropout, TargetedDropout
from regrow.prune.removal import Channels
from regrow.prune.selection import Selection
from regrow.prune.target import Target
from regrow.reporting.lock import releases_folders
from regrow.reporting.report import Report
from regrow.training.fit import Fit
from regrow.training.trainer import make_trainer, refuse_kind


@releases_folders
def run_comparison(
    task: Callable[[list[str], tuple[int, int]], Task],
    data: GrowingData,
    dropouts: list[Dropout],
    criteria: list[Criterion],
    targeted: TargetedDropout = TargetedDropout(),
    fit: Fit = Fit(devices=1),
    target: Target = Target(),
    selection: Selection = Selection(),
    num_steps: int = 3,
    dense_share: float = 0.5,
    num_seeds: int = 3,
    run: Path = Path("runs/compare"),
    resume: bool = False,
    settings: dict[str, Any] | None = None,
    command_line: str = "",
) -> Report:
    """Compare dropout with pruning at equal compute: networks, a picture and a report.

    Args:
        task: The task and its network.
        data: The images. Validation images choose among dropout rates; test images are scored
            once, when all networks are trained.
        dropouts: Kinds of dropout to compare, each with its rate.
        criteria: Pruning criteria: the ways to rank channels. The architecture that the first one
            leaves is also trained from scratch, and its ranking is also used after targeted
            dropout. Pruning at random is added.
        targeted: Targeted dropout, which prepares a network for the first criterion.
        fit: Training of the dense network: how long and on what. The others get equal compute.
        target: Cost target: what pruned networks come down to.
        selection: Channel selection: which channels may be removed, and in what order.
        num_steps: Pruning steps, with an epoch of training after each but the last.
        dense_share: Share of the epochs before pruning, in (0, 1); the rest of the compute goes
            into recovery.
        num_seeds: Number of seeds, which count from 0; every network is trained once for each.
        run: Run folder; one that exists is moved aside, unless it is resumed.
        resume: Resume the comparison in the run folder: networks that are trained are not trained
            again.
        settings: The settings of the run as plain data.
        command_line: The command, for the report.

    Returns:
        The report, written.

    Raises:
        BadInput: If anything given cannot be used.
    """
    comparison = Comparison(run, resume, num_seeds, settings, command_line)
    contestants = enter(dropouts, targeted, criteria)
    comparison.check()
    first = task(data.classes, data.size)
    refuse_kind(first, data)
    data.order_classes(first.classes)
    if make_trainer(first, fit, run, logs="none").world_size > 1:
        raise BadInput("fit.devices: a comparison runs in one process; set it to 1")
    setup = EqualCompute(
        make=lambda: task(data.classes, data.size),
        data=data,
        fit=fit,
        target=target,
        selection=selection,
        num_steps=num_steps,
        dense_share=dense_share,
        folder=run,
        allow=(first.net_package,),  # the user has named it
        command=command_line,
    )
    Channels(first, target, selection)  # says at once what it cannot reach
    data.test_dataloader()  # says at once that there are no test images
    data.refuse_unscored()
    comparison.begin(images=data.snapshot.hash)
    if settings:
        # Beside the checkpoints, so that they can be pruned on and exported.
        write_data_file(run / RESULTS, settings)
    found = trials.run(setup, contestants, comparison.seeds)
    standings = measure_all(setup, contestants, found)
    report = comparison.new_report("Dropout against pruning", first, data, fit.device)
    fill(report, standings, data.batch_size)
    scores = {
        f"compare_{name}": {one.name: one.figures[name] for one in standings}
        for name in ("train", "val", "test")
    }
    comparison.finish(report, chart(standings, data.batch_size), scores)
    return report
