"""Dropout compared with pruning on equal compute: all contestants at all seeds."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from regrow.data.config import write_data_file
from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.limits import NUM_RUNS, refuse_beyond
from regrow.logs import log
from regrow.models.cost import measure, peak_memory
from regrow.models.latency import latency_ms
from regrow.models.task import Task
from regrow.pipelines.experiments.contestants import DENSE, Contestant, Recipe, Result, enter
from regrow.pipelines.experiments.dropout_page import fill, points
from regrow.pipelines.experiments.equal_compute import compete, trained
from regrow.pipelines.experiments.settings import begin_comparison
from regrow.pipelines.experiments.standings import Standing
from regrow.progress import progress
from regrow.prune.criteria import Criterion
from regrow.prune.dropout import Dropout, TargetedDropout
from regrow.prune.removal import Channels
from regrow.prune.selection import Selection
from regrow.prune.target import Target
from regrow.reporting.charts import scatter
from regrow.reporting.lock import releases_folders
from regrow.reporting.pictures import save_picture
from regrow.reporting.report import Report, device_name
from regrow.reporting.run_folder import refuse_run, reopen_run
from regrow.reporting.tensorboard import flat
from regrow.training.evaluation import evaluate
from regrow.training.fit import Fit
from regrow.training.trainer import make_trainer, refuse_kind


@releases_folders
def run_comparison(
    task: Callable[[list[str], tuple[int, int]], Task],
    data: GrowingData,
    dropouts: list[Dropout],
    criteria: list[Criterion],
    targeted: TargetedDropout = TargetedDropout(),  # noqa: B008 - it keeps no state
    fit: Fit = Fit(devices=1),  # noqa: B008 - frozen
    target: Target = Target(),  # noqa: B008 - frozen
    selection: Selection = Selection(),  # noqa: B008 - frozen
    num_steps: int = 3,
    dense_share: float = 0.5,
    num_seeds: int = 3,
    run: Path = Path("runs/compare"),
    resume: bool = False,
    settings: dict[str, Any] | None = None,
    command_line: str = "",
) -> Report:
    """Train all contestants at all seeds, and leave networks, a picture and a report.

    Args:
        task: The task and its network.
        data: The images. Validation images choose among rates; test images are looked at once.
        dropouts: The kinds of dropout to compare, each with its rate.
        criteria: The ways to rank channels; the network pruned by the first one is also trained
            from scratch, and pruned after targeted dropout. Pruning at random is added.
        targeted: The targeted dropout.
        fit: How long the dense network trains, and on what; the others have as much compute.
        target: The cost that pruned networks come down to.
        selection: Which channels may go, and in what order.
        num_steps: In how many steps they go, with an epoch after each but the last.
        dense_share: Share of the epochs before pruning, in (0, 1); the rest of the compute goes
            into recovery.
        num_seeds: Number of seeds; they count from 0.
        run: The run's folder; one that exists is moved aside, unless it is resumed.
        resume: Go on with the run in that folder; what is done there is not done again.
        settings: The settings of the run as plain data.
        command_line: The command, for the report.

    Returns:
        The report, written.

    Raises:
        BadInput: If anything given cannot be used.
    """
    started = time.monotonic()
    if num_seeds < 1:
        raise BadInput(f"num_seeds is {num_seeds}, it must be at least 1")
    refuse_beyond(NUM_RUNS, num_seeds=num_seeds)
    contestants = enter(dropouts, targeted, criteria)
    if resume:
        reopen_run(run, command_line)
    else:
        refuse_run(run)
    first = task(data.classes, data.size)
    refuse_kind(first, data)
    data.order_classes(first.classes)
    if make_trainer(first, fit, run, logs="none").world_size > 1:
        raise BadInput("fit.devices: a comparison runs in one process; set it to 1")
    recipe = Recipe(
        make=lambda: task(data.classes, data.size),
        data=data,
        fit=fit,
        target=target,
        selection=selection,
        num_steps=num_steps,
        dense_share=dense_share,
        run=run,
        allow=(first.net_package,),  # the user has named it
        command=command_line,
    )
    Channels(first, target, selection)  # says at once what it cannot reach
    data.test_dataloader()  # says at once that there are no test images
    data.refuse_unscored()
    values = (flat(settings) if settings else {}) | {"images": data.snapshot.hash}
    begin_comparison(run, resume, values, command_line)
    if settings:
        # Beside the checkpoints, so that they can be pruned on and exported.
        write_data_file(run / "results", settings)
    seeds = list(range(num_seeds))
    _train_all(recipe, contestants, seeds)
    device = fit.device
    standings = _standings(recipe, contestants, seeds)
    report = Report(
        run,
        title="Dropout against pruning",
        command=command_line,
        task=type(first).__name__.lower(),
        classes=first.classes,
    )
    report.set(
        data={
            "hash": data.snapshot.hash,
            "diff": None,
            "remarks": data.remarks.to_dict(),
        },
        seconds=round(time.monotonic() - started, 1),
        seeds=seeds,
        device=device_name(device),
    )
    fill(report, standings, data.batch_size)
    picture = scatter(points(standings), f"batch of {data.batch_size}, ms", "test score")
    save_picture(run / "score_against_latency.png", picture)
    caption = "Mean test score against the time of a batch; lines span the seeds"
    report.add_picture(run / "score_against_latency.png", caption)
    _log(run, standings, picture)
    report.write()
    log.info(f"report: {run / 'report.md'}")
    return report


def _train_all(recipe: Recipe, contestants: Sequence[Contestant], seeds: Sequence[int]) -> None:
    jobs = [(contestant, seed) for seed in seeds for contestant in contestants]
    started = time.monotonic()
    for number, (contestant, seed) in enumerate(progress(jobs, "contestants"), 1):
        result = compete(recipe, contestant, seed)
        spent = (time.monotonic() - started) / number
        left = timedelta(seconds=round(spent * (len(jobs) - number)))
        log.info(f"{number}/{len(jobs)}  {_in_short(result)}  {left} left")


def _in_short(result: Result) -> str:
    return (
        f"{result.contestant}, seed {result.seed}: training {result.train:.4f}, validation "
        f"{result.val:.4f}, {100 * result.compute / result.budget:.1f} % of the compute"
    )


def _standings(
    recipe: Recipe, contestants: Sequence[Contestant], seeds: Sequence[int]
) -> list[Standing]:
    """Score all networks on test images, and measure those of the first seed side by side."""
    tests = {}
    jobs = [(contestant.name, seed) for contestant in contestants for seed in seeds]
    for name, seed in progress(jobs, "test images"):
        loader = recipe.data.test_dataloader()
        tests[name, seed] = evaluate(trained(recipe, name, seed), loader)
    tasks = {c.name: trained(recipe, c.name, seeds[0]) for c in contestants}
    images = tasks[DENSE].example_images(recipe.data.batch_size)
    singles, batches = _times(tasks, images[:1]), _times(tasks, images)
    return [
        Standing(
            contestant,
            tuple(compete(recipe, contestant, seed) for seed in seeds),
            tuple(tests[contestant.name, seed] for seed in seeds),
            replace(measure(tasks[contestant.name]), latency_ms=singles[contestant.name]),
            batches[contestant.name],
            peak_memory(tasks[contestant.name], images),
        )
        for contestant in contestants
    ]


def _times(tasks: Mapping[str, Task], images: torch.Tensor) -> dict[str, float]:
    """Time each architecture once, in milliseconds, for all networks that have it."""
    shapes = {
        name: tuple((key, tensor.shape) for key, tensor in task.net.state_dict().items())
        for name, task in tasks.items()
    }
    distinct = {shape: tasks[name] for name, shape in shapes.items()}
    with torch.inference_mode():
        calls = [partial(task, images) for task in distinct.values()]
        times = latency_ms(*calls, device=images.device)
    found = dict(zip(distinct, times, strict=True))
    return {name: found[shape] for name, shape in shapes.items()}


def _log(run: Path, standings: Sequence[Standing], picture: torch.Tensor) -> None:
    with SummaryWriter(str(run / "tensorboard")) as writer:
        for standing in standings:
            for result, test in zip(standing.results, standing.tests, strict=True):
                scores = {"train": result.train, "val": result.val, "test": test.value}
                for name, score in scores.items():
                    writer.add_scalar(f"compare_{name}/{standing.name}", score, result.seed)
        writer.add_image("compare/score_against_latency", picture)
