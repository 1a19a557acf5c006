"""Contestants as measured: their scores on all splits, and what their networks cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

import torch

from regrow.models.cost import Cost, measure, peak_memory
from regrow.models.latency import latency_ms
from regrow.models.task import Task
from regrow.pipelines.experiments.contestants import DENSE, ComputeTrial, Contestant
from regrow.pipelines.experiments.equal_compute import EqualCompute
from regrow.pipelines.experiments.standings import Standing
from regrow.pipelines.experiments.trials import of_each
from regrow.training.evaluation import Evaluation


@dataclass(frozen=True, slots=True)
class Costs:
    """The costs of a contestant's network, that of the first seed.

    Args:
        cost: Parameters, multiply-accumulates, file size, and the latency of one image.
        batch_ms: Time of a batch, in milliseconds.
        memory: The most memory that a batch needs, in bytes.
    """

    cost: Cost
    batch_ms: float
    memory: int


@dataclass(frozen=True, slots=True)
class Measured(Standing):
    """The standing of one contestant: `train`, `val`, `gap` and `test`, and its costs.

    Args:
        name: Its name.
        figures: Its scores and the gap between the first two, one a seed.
        evidence: What test images showed, one a seed.
        contestant: The contestant.
        trials: Its trials, one a seed.
        costs: What its network costs.
        score: The name of the scores.
        num_images: Number of test images.
    """

    contestant: Contestant
    trials: tuple[ComputeTrial, ...]
    costs: Costs
    score: str
    num_images: int

    @property
    def spent(self) -> float:
        """Return the share of the budget that it spent, averaged over seeds."""
        return fmean(trial.share_spent for trial in self.trials)


def standing(
    contestant: Contestant,
    trials: Sequence[ComputeTrial],
    tests: Sequence[Evaluation],
    costs: Costs,
) -> Measured:
    """Return the standing of a contestant.

    Args:
        contestant: The contestant.
        trials: Its trials, one a seed.
        tests: Its evaluations on test images, one a seed.
        costs: What its network costs.
    """
    figures = {
        "train": [trial.train for trial in trials],
        "val": [trial.val for trial in trials],
        "gap": [trial.train - trial.val for trial in trials],
        "test": [test.value for test in tests],
    }
    evidence = {"test": [test.evidence for test in tests]}
    score, num_images = tests[0].name, tests[0].num_images
    return Measured(
        contestant.name, figures, evidence, contestant, tuple(trials), costs, score, num_images
    )


def measure_all(
    setup: EqualCompute,
    contestants: Sequence[Contestant],
    trials: Mapping[str, Sequence[ComputeTrial]],
) -> list[Measured]:
    """Score all networks on test images, and measure those of the first seed side by side.

    Args:
        setup: What all shared.
        contestants: The contestants, all trained.
        trials: Their trials by name, one a seed.
    """
    seeds = [trial.seed for trial in trials[DENSE]]
    tests = of_each(setup.evaluate, contestants, seeds, "test images")
    tasks = {one.name: setup.load(one.name, seeds[0]) for one in contestants}
    images = tasks[DENSE].example_images(setup.data.batch_size)
    singles, batches = _times(tasks, images[:1]), _times(tasks, images)

    def costs(name: str) -> Costs:
        cost = replace(measure(tasks[name]), latency_ms=singles[name])
        return Costs(cost, batches[name], peak_memory(tasks[name], images))

    return [
        standing(one, trials[one.name], tests[one.name], costs(one.name)) for one in contestants
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
