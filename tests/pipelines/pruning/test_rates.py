"""A grid of learning rates: the copy that scores best goes on, whatever the others do."""

import json
from math import nan
from pathlib import Path

import pytest
import torch

from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.metrics.budget import Budget
from regrow.models.checkpoint import load, save
from regrow.models.classification import Classification
from regrow.models.latency import Clock
from regrow.models.optimization import Optimization
from regrow.models.task import Task
from regrow.pipelines.prune import run_pruning
from regrow.pipelines.pruning.rates import RateGrid
from regrow.training.fit import Fit
from regrow.training.trainer import Diverged


def small() -> Classification:
    torch.manual_seed(0)
    return Classification(["a", "b"], (16, 16), net_args={"width": 8})


def bias(task: Task) -> torch.Tensor:
    return task.net.get_parameter("head.bias").detach()


@torch.no_grad()
def marked(task: Task, rate: float, name: str) -> None:
    """Leave the rate in a weight, and in the momenta; a rate of 9 diverges."""
    assert name == repr(rate)
    if rate == 9:
        raise Diverged("NaN")
    bias(task).fill_(rate)
    task.momenta = {"head.bias": {"step": rate}}


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ({0.1: 0.5, 0.2: 0.75, 0.3: 0.25}, 0.2),
        ({0.1: 0.5, 0.2: 0.5}, 0.1),  # of equal ones the first
        ({0.1: nan, 0.2: 0.0}, 0.2),
        ({0.1: -2.0, 9.0: 1.0}, 0.1),
        ({9.0: 1.0, 0.3: nan, 0.1: -1.0}, 0.1),
    ],
)
def test_the_copy_with_the_best_score_goes_on(
    tmp_path: Path, scores: dict[float, float], best: float
) -> None:
    task = small()
    before = bias(task).clone()

    def score(trial: Task) -> float:
        assert trial is not task
        assert torch.equal(bias(task), before), "each copy begins with the network as it was"
        return scores[round(float(bias(trial)[0]), 6)]

    RateGrid([*scores], tmp_path).train_(task, 1, marked, score)
    assert torch.equal(bias(task), torch.full_like(before, best))
    assert task.momenta == {"head.bias": {"step": best}}


def test_a_grid_of_which_each_rate_diverges_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"lr_grid: training diverges at each of \[9\.0, 0\.5\]"):
        RateGrid([9.0, 0.5], tmp_path).train_(small(), 1, marked, lambda _: nan)


@pytest.mark.parametrize(
    ("rates", "said"),
    [
        ([], r"lr_grid is \[\]; give learning rates"),
        ([0.1, 0.0], "each > 0"),
        ([nan], "each > 0"),
        ([float("inf")], "each > 0"),
        ([0.1, 0.1], "a rate is given twice"),
        ([1 / n for n in range(1, 10_003)], "lr_grid"),
    ],
)
def test_rates_that_cannot_be_are_refused(tmp_path: Path, rates: list[float], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        RateGrid(rates, tmp_path)


def test_a_run_is_that_of_its_best_rate_and_tells_all(tmp_path: Path, data: GrowingData) -> None:
    file = tmp_path / "dense.ckpt"
    save(file, small())
    options = {
        "clock": Clock(runtime="torch", rounds=1),
        "num_steps": 1,
        "budget": Budget(1.0),
        "recovery": Fit(epochs=1, devices=1),
        "search": None,
    }
    rates = [1e-5, 3e-2]
    run = tmp_path / "grid"
    figures = run_pruning(file, data, run=run, lr_grid=rates, **options).figures
    alone = {}
    for rate in rates:
        single = tmp_path / repr(rate)
        report = run_pruning(
            file, data, run=single, optimization=Optimization(lr=rate), **options
        ).figures
        alone[rate] = report["steps"][0]["score"]
    (step,) = figures["rates"]
    assert step["step"] == 1
    assert {one["lr"]: one["score"] for one in step["scores"]} == alone
    best = max(rates, key=lambda rate: alone[rate])
    kept, expected = (load(folder / "pruned.ckpt").net for folder in (run, tmp_path / repr(best)))
    pairs = zip(kept.state_dict().values(), expected.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    page = (run / "report.md").read_text()
    assert "1e-05" in page.partition("## Learning rates")[2].replace("0.00001", "1e-05")
    assert json.loads((run / "report.json").read_text())["rates"] == figures["rates"]
    assert not (run / "rates.json").exists()
