"""Contestants as measured: scores, gaps, what was spent, and times that are shared."""

import pytest
import torch

from regrow.metrics.evidence import CorrectEvidence
from regrow.models.classification import Classification
from regrow.models.cost import Cost
from regrow.pipelines.experiments.contestants import ComputeTrial, Contestant, Phase
from regrow.pipelines.experiments.measured import Costs, Measured, _times, standing
from regrow.training.evaluation import Evaluation

COSTS = Costs(Cost(1, 1), 1.0, 1)


def measured(train: list[float], val: list[float], right: list[list[int]]) -> Measured:
    phases = (Phase("training", 2, 10, 30), Phase("measuring", 0, 5, 20))
    pairs = enumerate(zip(train, val, strict=True))
    trials = [ComputeTrial("it", seed, one, other, 800, phases) for seed, (one, other) in pairs]
    tests = []
    for own in right:
        evidence = CorrectEvidence()
        evidence.update(torch.tensor([[1.0, 0.0]] * len(own)), 1 - torch.tensor(own))
        tests.append(Evaluation("accuracy", sum(own) / len(own), {}, {}, evidence, len(own)))
    return standing(Contestant("it"), trials, tests, COSTS)


def test_a_standing_has_gaps_and_what_was_spent() -> None:
    one = measured([0.9, 0.8], [0.6, 0.7], [[1, 0], [1, 1]])
    assert one.figures["gap"] == pytest.approx([0.3, 0.1])
    assert one.figures["test"] == [0.5, 1.0]
    assert one.spent == 0.5  # (10 * 30 + 5 * 20) / 800
    assert (one.name, one.score, one.num_images) == ("it", "accuracy", 2)


def test_standings_are_compared_in_each_figure() -> None:
    mine = measured([0.9, 0.8], [0.6, 0.7], [[1, 1, 0, 1], [1, 1, 1, 1]])
    other = measured([0.9, 0.9], [0.5, 0.4], [[1, 0, 0, 1], [1, 0, 1, 0]])
    found = mine.against(other)
    assert {name: one.mean for name, one in found.items()} == pytest.approx(
        {"train": -0.05, "val": 0.2, "gap": -0.25, "test": 0.375}
    )
    assert found["val"].by_image is None
    low, high = found["test"].by_image or (0, 0)
    assert low < 0.375 < high


def test_networks_of_one_architecture_share_their_time() -> None:
    def task(width: int) -> Classification:
        return Classification(["a", "b"], (16, 16), net_args={"width": width}).eval()

    tasks = {"dense": task(8), "dropout": task(8), "scratch": task(4)}
    times = _times(tasks, tasks["dense"].example_images(2))
    assert list(times) == ["dense", "dropout", "scratch"]
    assert times["dense"] == times["dropout"] > 0
    assert times["scratch"] > 0
