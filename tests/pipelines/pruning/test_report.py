"""What a pruning run says of itself."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.table import Table

from regrow.metrics.budget import Budget, Verdict
from regrow.models.classification import Classification
from regrow.models.cost import Cost
from regrow.models.masks import mask_weights_
from regrow.pipelines.pruning.report import (
    pruning_report,
    step_in_words,
    table_in_text,
    training_in_words,
    verdict_in_words,
)
from regrow.prune.engine import Result
from regrow.prune.layers import Layer
from regrow.prune.state import Step
from regrow.training.evaluation import Evaluation

STEP = Step(1, 1_200_000, 3_400, 0.0, None, 0.75, True, {"stem": [1]}, {"stem": 3}, 2e-16)


class Told:
    """Times that are told: of the network before and after, in milliseconds."""

    runtime = "PyTorch"

    def __call__(self, task: Classification) -> tuple[float, float]:
        return 2.0, 1.5


def result(**changes: Any) -> Result:
    def scored(value: float) -> Evaluation:
        return Evaluation("accuracy", value, {"a": value, "b": value}, {}, SimpleNamespace(), 40)

    whole = Result(
        task=Classification(["a", "b"], (16, 16), net_args={"width": 4}),
        stopped="target",
        baseline=0.8,
        steps=[STEP],
        before=scored(0.8),
        after=scored(0.775),
        cost_before=Cost(100, 2_000, None, 800),
        cost_after=Cost(60, 900, None, 500),
        verdict=Verdict(True, (-0.05, 0.0), 40, unseen=0.03),
        left_whole={"head": "its rows are classes"},
        branches_left={},
        layers={
            "stem": Layer(4, 3, 0.9, 0.01),
            "one": Layer(4, 3, None, None, group="stem"),
            "norm": Layer(8, 6, 0.5, 0.2),
        },
    )
    return replace(whole, **changes)


def test_a_step_is_a_line() -> None:
    line = "step 1: 1,200,000 MACs, 3,400 parameters, validation score 0.7500"
    assert step_in_words(STEP) == line
    assert step_in_words(replace(STEP, is_kept=False)) == f"{line}, rolled back"
    told = step_in_words(replace(STEP, index=0, masked=0.25, latency=0.618))
    assert told == (
        "as given: 1,200,000 MACs, 3,400 parameters, 25.0 % of them masked, 62 % of the "
        "original latency, validation score 0.7500"
    )


LOST = replace(STEP, index=2, score=0.5, is_kept=False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "The budget is met."),
        ({"verdict": Verdict(False, (-0.5, -0.4), 40)}, "The budget is broken."),
        (
            {"verdict": Verdict("undecided", (-0.1, 0.1), 40, 1500)},
            "Whether the budget of 10 points is met is undecided: 40 test images are too few to "
            "tell; about 1,500 test images with the same change would tell.",
        ),
        (
            {"verdict": Verdict("undecided", (-0.1, 0.1), 40)},
            "Whether the budget of 10 points is met is undecided: 40 test images are too few to "
            "tell; no number of test images with the same change would tell.",
        ),
        (
            {"stopped": "budget", "steps": [STEP, LOST, replace(STEP, index=3, is_final=True)]},
            "The target was not reached: step 2 took accuracy from 0.8000 to 0.5000 on validation "
            "images, more than the budget, and was rolled back. The budget is met.",
        ),
        (
            {"stopped": "exhausted", "steps": []},
            "The target was not reached: no legal cut of what is left comes down to it. Nothing "
            "was removed.",
        ),
    ],
)
def test_how_a_run_ended_in_words(changes: dict, said: str) -> None:
    assert verdict_in_words(result(**changes), Budget(0.1)) == said


def test_a_budget_of_everything_is_called_none() -> None:
    said = "There was no budget: a max_drop of 1 accepts any score, one point is 0.01."
    assert verdict_in_words(result(), Budget(1.0)) == said


def test_the_training_that_one_side_had_more_of_is_told() -> None:
    final = replace(STEP, index=3, is_final=True)
    than = "more than the network it is compared with."
    assert training_in_words(result(steps=[STEP]), 1, 5) == f"It has trained 1 epoch {than}"
    # What was rolled back does not count.
    told = training_in_words(result(steps=[STEP, LOST, final]), 2, 5)
    assert told == f"It has trained 7 epochs {than}"
    assert training_in_words(result(steps=[LOST]), 2, 5) == ""


def report(found: Result, folder: Path, foreseen: str | None = None) -> Any:
    return pruning_report(
        found,
        Budget(0.1),
        Told(),
        run=folder,
        parent="ab12",
        command_line="prune",
        foreseen=foreseen,
    )


def test_the_report_has_the_figures_and_a_table_each(tmp_path: Path) -> None:
    made = report(result(steps=[STEP, replace(STEP, index=2, is_final=True)]), tmp_path)
    figures, page = made.figures, made.to_markdown()
    assert figures["parent"] == "ab12"
    assert figures["budget"]["max_drop"] == 0.1
    assert figures["budget"]["interval"] == [-0.05, 0.0]
    assert (figures["before"]["latency_ms"], figures["after"]["latency_ms"]) == (2.0, 1.5)
    assert (figures["before"]["macs"], figures["after"]["macs"]) == (2_000, 900)
    assert figures["runtime"] == "PyTorch"
    assert "masked" not in figures
    assert "The network keeps 45.0 % of its MACs. On 40 test images" in page
    assert "from 0.8000 to 0.7750; the change is between -0.0500 and +0.0000" in page
    for row in (
        "| 1 | 1,200,000 | 3,400 | 0 | - | 0.75 | yes | 2e-16 |",
        "| 2 (training) | 1,200,000 |",
        "| stem | 4 | 3 | 0.9 | 0.01 |",
        "| one (with stem) | 4 | 3 | - | - |",
        "| norm | 8 | 6 | 0.5 | 0.2 |",
        "| head | its rows are classes |",
    ):
        assert row in page, row
    assert "known before the first step" not in page
    assert (
        "known before the first step: too few images."
        in report(result(), tmp_path, "too few images").to_markdown()
    )


def test_branches_that_stay_have_a_table_where_they_were_looked_for(tmp_path: Path) -> None:
    made = report(result(branches_left={"one": "not the same everywhere"}), tmp_path)
    assert made.figures["branches_left"] == {"one": "not the same everywhere"}
    (told,) = re.findall(r"## Branches that stay\n\n(.*)", made.to_markdown(), re.DOTALL)
    assert "| one | not the same everywhere |" in told
    assert "Branches that stay" not in report(result(), tmp_path).to_markdown()


def test_masked_weights_have_a_table(tmp_path: Path) -> None:
    found = result()
    name = "head.weight"
    weight = found.task.net.get_parameter(name)
    kept = torch.ones_like(weight, dtype=torch.bool)
    kept[:, : weight.shape[1] // 4] = False
    mask_weights_(found.task.net, {name: kept})
    made = report(found, tmp_path)
    assert made.figures["masked"]["by_weight"] == {name: 0.25}
    assert "25.0 % of these weights are zero and stay zero." in made.to_markdown()


def test_a_table_is_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table()
    table.add_column("")
    table.add_column("before [b]")
    table.add_row("accuracy", "0.5")
    text = table_in_text(table)
    assert capsys.readouterr().out == ""
    assert "\x1b" not in text
    lines = text.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [cell.strip() for cell in lines[3].strip("│").split("│")] == ["accuracy", "0.5"]
