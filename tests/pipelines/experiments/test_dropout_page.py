"""The page of dropout against pruning: figures worked by hand, and the sentences around them."""

from pathlib import Path

import pytest
import torch

from regrow.metrics.evidence import CorrectEvidence
from regrow.models.cost import Cost
from regrow.pipelines.experiments.contestants import ComputeTrial, Contestant, Phase
from regrow.pipelines.experiments.dropout_page import chart, fill
from regrow.pipelines.experiments.measured import Costs, Measured, standing
from regrow.prune.criteria import Magnitude
from regrow.prune.dropout import HeadDropout
from regrow.reporting.report import Report
from regrow.training.evaluation import Evaluation

DENSE = (Phase("training", 4, 40, 100), Phase("measuring", 0, 10, 100))
PRUNED = (Phase("training", 2, 20, 100), Phase("recovery", 1, 60, 50))


def evaluation(*right: int) -> Evaluation:
    evidence = CorrectEvidence()
    evidence.update(torch.tensor([[1.0, 0.0]] * len(right)), 1 - torch.tensor(right))
    return Evaluation("accuracy", sum(right) / len(right), {}, {}, evidence, len(right))


def measured(
    contestant: Contestant,
    phases: tuple[Phase, ...] = DENSE,
    val: float = 0.5,
    seeds: int = 2,
    macs: int = 100,
) -> Measured:
    cuts = (0.25,) if contestant.criterion else ()
    trials = [
        ComputeTrial(contestant.name, seed, 0.75, val, 5000, phases, cuts) for seed in range(seeds)
    ]
    tests = [evaluation(1, 1, 0, seed % 2) for seed in range(seeds)]
    costs = Costs(Cost(2 * macs, macs, 0.5, 4000), macs / 100, 9000)
    return standing(contestant, trials, tests, costs)


def everyone(seeds: int = 2, last: tuple[Phase, ...] = PRUNED) -> list[Measured]:
    def ranked(seed: int) -> Magnitude:
        return Magnitude()

    pruned = Contestant("pruned-magnitude", None, ranked)
    return [
        measured(Contestant("dense"), seeds=seeds),
        measured(Contestant("dropout-0.1", HeadDropout(0.1)), val=0.5, seeds=seeds),
        measured(Contestant("dropout-0.5", HeadDropout(0.5)), val=0.625, seeds=seeds),
        measured(pruned, last, seeds=seeds, macs=50),
        measured(Contestant("pruned-random", None, ranked), last, seeds=seeds, macs=50),
        measured(Contestant("scratch", twin_of="pruned-magnitude"), seeds=seeds, macs=50),
    ]


def page_of(standings: list[Measured], tmp_path: Path) -> tuple[Report, str]:
    report = Report(tmp_path, title="t", command="", task="", classes=[])
    fill(report, standings, 16)
    return report, report.to_markdown()


def test_the_figures_are_those_of_the_standings(tmp_path: Path) -> None:
    report, _ = page_of(everyone(), tmp_path)
    assert report.figures["score"] == {"name": "accuracy", "value": 0.625}
    assert report.figures["num_images"] == 4
    one = report.figures["contestants"]["pruned-magnitude"]
    assert one["kind"] == "pruned"
    assert (one["train"], one["val"], one["gap"], one["test"]) == (0.75, 0.5, 0.25, 0.625)
    assert one["by_seed"] == {
        "train": [0.75, 0.75],
        "val": [0.5, 0.5],
        "test": [0.5, 0.75],
        "compute": [5000, 5000],
        "budget": [5000, 5000],
        "epochs": [3, 3],
        "val_after_cuts": [[0.25], [0.25]],
    }
    assert one["cost"]["macs"] == 50
    assert (one["cost"]["batch_ms"], one["cost"]["memory_bytes"]) == (0.5, 9000)
    others = list(report.figures["contestants"])[1:]
    assert list(report.figures["against_dense"]) == others
    assert list(report.figures["against_scratch"]) == ["pruned-magnitude", "pruned-random"]
    gap = report.figures["against_dense"]["dropout-0.5"]["gap"]
    assert gap["mean"] == pytest.approx(-0.125)


def test_validation_images_choose_among_rates(tmp_path: Path) -> None:
    _, page = page_of(everyone(), tmp_path)
    assert "Of dropout-0.1, dropout-0.5, validation images choose dropout-0.5." in page
    assert "pruned-magnitude has 50.0 % of the MACs and 50.0 % of the parameters" in page
    assert "takes 0.50 of its time for a batch" in page
    assert "pruned-magnitude against pruned-random: +0.00 points" in page


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        (1, "6 contestants, 1 seed, 4 test images"),
        (1, "One seed says nothing of how much chance has to do with it"),
        (2, "6 contestants, 2 seeds, 4 test images"),
        (2, "2 seeds leave 1 degree of freedom: an interval reaches 12.7 standard errors"),
        (3, "3 seeds leave 2 degrees of freedom: an interval reaches 4.3 standard errors"),
    ],
)
def test_the_page_says_how_little_few_seeds_tell(seeds: int, said: str, tmp_path: Path) -> None:
    assert said in page_of(everyone(seeds), tmp_path)[1]


def test_the_account_of_compute_is_in_words(tmp_path: Path) -> None:
    _, page = page_of(everyone(), tmp_path)
    assert "4 epochs at 100 MACs, 10 images measured at 100" in page
    assert "2 epochs at 100 MACs, 1 epoch at 50 MACs" in page
    assert "of which one epoch is 25.0 %" in page
    assert "spent 100.0 to 100.0 % of the budget: equal within one epoch" in page


def test_a_network_without_recovery_and_unequal_compute_are_warned_of(tmp_path: Path) -> None:
    untrained = (Phase("training", 2, 20, 100), Phase("recovery", 0, 0, 50))
    _, page = page_of(everyone(last=untrained), tmp_path)
    assert "Beware: pruned-magnitude, pruned-random had no compute left to train" in page
    assert "beware, pruned-magnitude, pruned-random by more than an epoch" in page


def test_the_chart_shows_score_against_the_time_of_a_batch() -> None:
    found = chart(everyone(), 16)
    assert found.across == "batch of 16, ms"
    first, last = found.points[0], found.points[-1]
    assert (first.name, first.x, first.y, first.low, first.high) == ("dense", 1, 0.625, 0.5, 0.75)
    assert (last.name, last.x) == ("scratch", 0.5)
