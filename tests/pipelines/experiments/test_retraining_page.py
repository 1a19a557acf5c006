"""The page of ways to retrain: scores on parts of the test images, worked by hand."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from regrow.incremental.gating.ages import Ages
from regrow.metrics.evidence import CorrectEvidence
from regrow.pipelines.experiments.retraining_page import (
    Retrained,
    chart,
    fill,
    parts_of,
    standing,
)
from regrow.pipelines.experiments.strategies import (
    PARENT,
    SCRATCH,
    WARM,
    RetrainingTrial,
    Strategy,
)
from regrow.reporting.report import Report
from regrow.training.evaluation import Evaluation

# Six test images of now: the class of each, and what the old data had of it. The second of class b
# was there before, when b was no class.
LABELS = torch.tensor([0, 0, 0, 1, 1, 0])
AGES = Ages("test", ("old", "old", "new", "old", "relabelled", "trained"))


def evaluation(*right: int) -> Evaluation:
    evidence, flags = CorrectEvidence(), torch.tensor(right)
    guesses = torch.where(flags == 1, LABELS, 1 - LABELS)
    evidence.update(torch.eye(2)[guesses], LABELS)
    per_class = {name: float(flags[n == LABELS].float().mean()) for n, name in enumerate("ab")}
    return Evaluation("accuracy", sum(right) / len(right), per_class, {}, evidence, len(right))


def retrained(
    strategy: Strategy, images: list[int], *tests: Evaluation, ages: Ages = AGES
) -> Retrained:
    pairs = enumerate(images)
    trials = [RetrainingTrial(strategy.name, seed, count, 2.5) for seed, count in pairs]
    return standing(strategy, trials, tests, parts_of(ages), {"a"})


def all_three(ages: Ages = AGES) -> list[Retrained]:
    return [
        retrained(PARENT, [50, 50], *[evaluation(1, 1, 0, 0, 0, 1)] * 2, ages=ages),
        retrained(
            SCRATCH,
            [1000, 3000],
            evaluation(1, 0, 1, 1, 1, 1),
            evaluation(1, 1, 1, 1, 0, 0),
            ages=ages,
        ),
        retrained(
            WARM,
            [500, 1500],
            evaluation(1, 1, 1, 1, 1, 1),
            evaluation(1, 1, 1, 1, 1, 0),
            ages=ages,
        ),
    ]


def setup(before: str = "a", after: str = "ab") -> Any:
    def data(classes: str, count: int) -> Any:
        indices = {"train": list(range(count))}
        return SimpleNamespace(
            classes=[*classes], snapshot=SimpleNamespace(indices=indices.__getitem__)
        )

    return SimpleNamespace(before=data(before, 20), after=data(after, 1030))


def page_of(standings: list[Retrained], tmp_path: Path, ages: Ages = AGES, **classes: str):
    report = Report(tmp_path, title="t", command="", task="", classes=[])
    fill(report, setup(**classes), standings, ages)
    return report.figures, report.to_markdown()


def test_parts_are_images_of_before_later_ones_and_all() -> None:
    assert parts_of(AGES) == {
        "early": [True, True, False, True, False, False],
        "late": [False, False, True, False, True, False],
        "all": [True] * 6,
    }


def test_images_of_before_do_not_test_classes_that_came_later() -> None:
    one = retrained(SCRATCH, [10], evaluation(1, 0, 1, 0, 0, 1))
    # Of the early ones, that of class b does not count.
    assert one.figures == {"early": [0.5], "late": [0.5], "all": [0.5]}
    assert one.evidence["early"][0].num_images == 2
    assert one.images == 10


def test_a_part_without_images_has_no_score(tmp_path: Path) -> None:
    ages = replace(AGES, ages=("new",) * 6)
    standings = all_three(ages)
    assert list(standings[0].figures) == ["late", "all"]
    figures, page = page_of(standings, tmp_path, ages)
    assert figures["num_images"] == {"early": 0, "late": 6, "all": 6}
    assert list(figures["against_scratch"]["warm"]) == ["late", "all"]
    assert "of before |" not in page
    assert "Classes, test images of before" not in page


def test_the_figures_are_those_of_the_standings(tmp_path: Path) -> None:
    figures, _ = page_of(all_three(), tmp_path)
    assert figures["score"] == {"name": "accuracy", "value": pytest.approx(4.5 / 6)}
    assert figures["num_images"] == {"early": 3, "late": 2, "all": 6}
    assert list(figures["strategies"]) == ["parent", "scratch", "warm"]
    assert figures["strategies"]["parent"]["compute"] is None
    assert figures["strategies"]["scratch"] == {
        "scores": {"early": [0.5, 1], "late": [1, 0.5], "all": pytest.approx([5 / 6, 4 / 6])},
        "compute": 1,
        "seconds": [2.5, 2.5],
    }
    assert figures["strategies"]["warm"]["compute"] == 0.5
    found = figures["against_scratch"]
    assert list(found) == ["parent", "warm"]
    assert found["warm"]["early"]["mean"] == pytest.approx(0.25)
    assert found["warm"]["late"]["mean"] == pytest.approx(0.25)
    assert found["parent"]["all"]["mean"] == pytest.approx(-0.25)
    assert found["warm"]["all"]["verdict"] == "undecided"


def test_the_page_says_what_grew_and_what_each_cost(tmp_path: Path) -> None:
    _, page = page_of(all_three(), tmp_path)
    assert "From 20 to 1,030 training images, 1 new class (b); 2 seeds." in page
    said = "Against training from scratch, the old network as it is has +25.00 points on test"
    assert said in page
    assert "warm (the old weights, history and new images), with 50 % of the training" in page
    assert "1 test images are among those that the old network was trained on" in page
    assert "\n| parent | the old network as it is | 1 | 0 | 0.5 | 0 % |" in page
    assert "\n| warm | test images of before | +25.00 points |" in page
    # Class a on images of before: 1 for the parent, (1/2 + 2/2) / 2 from scratch.
    assert "\n| a | 1 | 0.75 | 1 |" in page
    assert page.count("Student's t") == 1


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("ab", "ab", "From 20 to 1,030 training images; 2 seeds."),
        ("a", "abc", "training images, 2 new classes (b, c); 2 seeds."),
    ],
)
def test_new_classes_are_counted(before: str, after: str, said: str, tmp_path: Path) -> None:
    assert said in page_of(all_three(), tmp_path, before=before, after=after)[1]


def test_the_chart_shows_score_against_thousands_of_images() -> None:
    found = {point.name: point for point in chart(all_three()).points}
    assert found["parent"].x == 0
    assert (found["scratch"].x, found["warm"].x) == (2, 1)
    assert found["scratch"].y == pytest.approx(4.5 / 6)
    assert (found["scratch"].low, found["scratch"].high) == pytest.approx((4 / 6, 5 / 6))
