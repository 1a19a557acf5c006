"""Ways to retrain compared: all at all seeds, with a picture and a report."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

from torch.utils.tensorboard import SummaryWriter

from regrow.data.module import GrowingData
from regrow.data.snapshot import diff
from regrow.errors import BadInput
from regrow.incremental.growth import Growth
from regrow.incremental.memory import check_replay
from regrow.limits import NUM_RUNS, refuse_beyond
from regrow.logs import log
from regrow.models.task import Task
from regrow.pipelines.experiments.retraining_page import fill as fill_retraining
from regrow.pipelines.experiments.retraining_page import points as points_retraining
from regrow.pipelines.experiments.settings import begin_comparison
from regrow.pipelines.experiments.strategies import (
    PARENT,
    SCRATCH,
    Plan,
    Strategy,
    Way,
    ages_now,
    score,
    train_strategy,
)
from regrow.pipelines.train import run_training
from regrow.progress import progress
from regrow.reporting.charts import scatter
from regrow.reporting.lock import releases_folders
from regrow.reporting.pictures import save_picture
from regrow.reporting.report import Report, device_name
from regrow.reporting.run_folder import refuse_run, reopen_run
from regrow.reporting.tensorboard import flat
from regrow.training.fit import Fit
from regrow.training.trainer import refuse_kind


@releases_folders
def run_retraining(
    task: Callable[[list[str], tuple[int, int]], Task],
    before: GrowingData,
    data: GrowingData,
    strategies: list[Literal["warm", "replay", "new-only"]] | None = None,
    fit: Fit = Fit(devices=1),  # noqa: B008 - frozen
    growth: Growth = Growth(),  # noqa: B008 - frozen
    share: float = 0.4,
    memory: float = 0.01,
    num_seeds: int = 3,
    run: Path = Path("runs/compare_retraining"),
    resume: bool = False,
    settings: dict[str, Any] | None = None,
    command_line: str = "",
) -> Report:
    """Retrain in all ways at all seeds, and leave networks, a picture and a report.

    Args:
        task: The task and its network.
        before: The data of the past, which the old network is trained on.
        data: All data there is now: history and new images. Test images are looked at once.
        strategies: The ways to retrain besides from scratch; all by default.
        fit: How long a network trains from scratch, and on what.
        growth: How the others begin, and how often old and new images come.
        share: Share of the images from scratch that the others go through, in (0, 1].
        memory: The memory of `replay`: a share of the old training images, or their number.
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
    if resume:
        reopen_run(run, command_line)
    else:
        refuse_run(run)
    first = task(data.classes, data.size)
    refuse_kind(first, data)
    refuse_kind(first, before)
    names = (first.net_package,)  # the user has named it
    plan = Plan(task, before, data, fit, share, memory, growth, run, names, command_line)
    data.test_dataloader()  # says at once that there are no test images
    data.refuse_unscored()
    check_replay(before, memory)
    values = flat(settings) if settings else {}
    values |= {"images": data.snapshot.hash, "images_before": before.snapshot.hash}
    begin_comparison(run, resume, values, command_line)
    ways: list[Strategy] = [PARENT, SCRATCH, *(strategies or get_args(Way))]
    seeds, trained, tests = list(range(num_seeds)), {}, {}
    jobs = [(way, seed) for seed in seeds for way in ways]
    for way, seed in progress(jobs, "ways to retrain"):
        trained[way, seed] = train_strategy(plan, way, seed, run_training)
    for way, seed in jobs:
        tests[way, seed] = score(plan, way, seed)
    report = Report(
        run,
        title="Ways to retrain",
        command=command_line,
        task=type(first).__name__.lower(),
        classes=data.classes,
    )
    report.set(
        data={
            "hash": data.snapshot.hash,
            "diff": str(diff(before.manifest(), data.manifest())),
            "remarks": data.remarks.to_dict(),
        },
        seconds=round(time.monotonic() - started, 1),
        seeds=seeds,
        device=device_name(fit.device),
    )
    by_way = {way: [tests[way, seed] for seed in seeds] for way in ways}
    runs = {way: [trained[way, seed] for seed in seeds] for way in ways}
    fill_retraining(report, plan, runs, by_way, ages_now(plan))
    picture = scatter(points_retraining(runs, by_way), "training images, thousands", "test score")
    save_picture(run / "score_against_images.png", picture)
    caption = "Mean test score against the training images gone through; lines span the seeds"
    report.add_picture(run / "score_against_images.png", caption)
    with SummaryWriter(str(run / "tensorboard")) as writer:
        for way, seed in jobs:
            writer.add_scalar(f"retrain_test/{way}", tests[way, seed].value, seed)
        writer.add_image("retrain/score_against_images", picture)
    report.write()
    log.info(f"report: {run / 'report.md'}")
    return report
