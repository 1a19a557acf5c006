"""Ways to retrain compared: all strategies at all seeds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from regrow.data.module import GrowingData
from regrow.data.snapshot import diff
from regrow.incremental.growth import Growth
from regrow.incremental.memory import check_replay
from regrow.models.task import Task
from regrow.pipelines.experiments import trials
from regrow.pipelines.experiments.comparison import Comparison
from regrow.pipelines.experiments.retraining_page import chart, fill, parts_of, standing
from regrow.pipelines.experiments.strategies import PARENT, SCRATCH, WARM_STARTS, Retraining
from regrow.reporting.lock import releases_folders
from regrow.reporting.report import Report
from regrow.training.fit import Fit
from regrow.training.trainer import refuse_kind


@releases_folders
def run_retraining(
    task: Callable[[list[str], tuple[int, int]], Task],
    before: GrowingData,
    data: GrowingData,
    strategies: list[Literal["warm", "replay", "new-only"]] | None = None,
    fit: Fit = Fit(devices=1),
    growth: Growth = Growth(),
    share: float = 0.4,
    memory: float = 0.01,
    num_seeds: int = 3,
    run: Path = Path("runs/compare_retraining"),
    resume: bool = False,
    settings: dict[str, Any] | None = None,
    command_line: str = "",
) -> Report:
    """Compare ways to retrain on data that has grown: networks, a picture and a report.

    Args:
        task: The task and its network.
        before: Old data, which the old network is trained on.
        data: All data there is now, old and new. Test images are scored once, when all networks
            are trained.
        strategies: Strategies to compare with training from scratch; all of them by default.
        fit: Training from scratch: how long and on what.
        growth: Warm starts: how they begin, and how often old and new images are drawn.
        share: Compute of a warm start, as a share of the images that training from scratch goes
            through, in (0, 1].
        memory: Memory of `replay`: a share of the old training images, or their number.
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
    comparison.check()
    first = task(data.classes, data.size)
    refuse_kind(first, data)
    refuse_kind(first, before)
    data.keep_splits_(before.manifest().to_dict())
    setup = Retraining(
        make=task,
        before=before,
        after=data,
        fit=fit,
        share=share,
        memory=memory,
        growth=growth,
        folder=run,
        allow=(first.net_package,),  # the user has named it
        command=command_line,
    )
    data.test_dataloader()  # says at once that there are no test images
    data.refuse_unscored()
    check_replay(before, memory)
    comparison.begin(images=data.snapshot.hash, images_before=before.snapshot.hash)
    chosen = [WARM_STARTS[name] for name in dict.fromkeys(strategies or WARM_STARTS)]
    candidates = [PARENT, SCRATCH, *chosen]
    found = trials.run(setup, candidates, comparison.seeds)
    tests = trials.of_each(setup.evaluate, candidates, comparison.seeds, "test images")
    ages = setup.ages()
    parts, known = parts_of(ages), set(before.classes)
    standings = [standing(c, found[c.name], tests[c.name], parts, known) for c in candidates]
    changes = str(diff(before.manifest(), data.manifest()))
    report = comparison.new_report("Ways to retrain", first, data, fit.device, changes)
    fill(report, setup, standings, ages)
    scores = {one.name: [test.value for test in one.tests] for one in standings}
    comparison.finish(report, chart(standings), {"retrain_test": scores})
    return report
