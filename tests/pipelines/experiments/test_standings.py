"""Standings: their means, how they differ in each figure, and the table of that."""

import pytest
import torch

from regrow.metrics.differences import Difference
from regrow.metrics.evidence import CorrectEvidence
from regrow.pipelines.experiments.standings import (
    HOW,
    Standing,
    add_differences,
    differences_from,
    plain,
    point,
    rows_of,
)
from regrow.reporting.report import Report


def evidence(right: list[int]) -> CorrectEvidence:
    """Return the evidence of images that are right or wrong."""
    found = CorrectEvidence()
    found.update(torch.tensor([[1.0, 0.0]] * len(right)), 1 - torch.tensor(right))
    return found


def standing(name: str, val: list[float], right: list[list[int]]) -> Standing:
    figures = {"val": val, "test": [sum(own) / len(own) for own in right]}
    return Standing(name, figures, {"test": [evidence(own) for own in right]})


MINE = standing("mine", [0.6, 0.7], [[1, 1, 0, 1], [1, 1, 1, 1]])
OTHER = standing("other", [0.5, 0.4], [[1, 0, 0, 1], [1, 0, 1, 0]])


def test_a_standing_has_means_over_seeds() -> None:
    assert MINE.mean("val") == pytest.approx(0.65)
    assert MINE.mean("test") == 0.875


def test_standings_are_compared_in_each_figure() -> None:
    found = MINE.against(OTHER)
    assert {name: one.mean for name, one in found.items()} == pytest.approx(
        {"val": 0.2, "test": 0.375}
    )
    assert found["val"].by_image is None
    low, high = found["test"].by_image or (0, 0)
    assert low < 0.375 < high


def test_figures_that_one_side_lacks_are_not_compared() -> None:
    fewer = Standing("fewer", {"val": [0.5, 0.5], "new": [1.0, 1.0]}, {})
    assert list(fewer.against(MINE)) == ["val"]
    assert list(MINE.against(fewer)) == ["val"]


def test_each_other_is_compared_with_the_base() -> None:
    found = differences_from(OTHER, [MINE, OTHER])
    assert list(found) == ["mine", "other"]
    assert found["mine"]["val"].mean == pytest.approx(0.2)
    assert found["other"]["val"].mean == 0


FOUND = {
    "a": {
        "test": Difference(0.012, (0.01, 0.014), (0.002, 0.022)),
        "val": Difference(-0.5, None),
    },
    "b": {"val": Difference(0.0, (-0.1, 0.1))},
}


def test_a_row_has_points_intervals_and_the_verdict() -> None:
    rows = [
        ["a", "test", "+1.20 points", "[+1.00, +1.40]", "[+0.20, +2.20]", "higher"],
        ["a", "val", "-50.00 points", "[-]", "[-]", "undecided"],
        ["b", "val", "+0.00 points", "[-10.00, +10.00]", "[-]", "undecided"],
    ]
    assert rows_of(FOUND) == rows
    words = {"val": "validation", "test": "test images"}
    assert [row[:2] for row in rows_of(FOUND, words)] == [
        ["a", "validation"],
        ["a", "test images"],
        ["b", "validation"],
    ]


def test_the_table_is_explained_where_no_other_words_are_given(tmp_path) -> None:
    report = Report(tmp_path, title="t", command="", task="", classes=[])
    add_differences(report, "Against it", FOUND, {"test": "test"})
    add_differences(report, "Against that", FOUND, {"test": "test"}, note="")
    page = report.to_markdown()
    assert page.count("Student's t") == HOW.count("Student's t") == 1
    assert page.count("| a | test | +1.20 points | ") == 2


def test_plain_differences_hold_their_verdict() -> None:
    assert plain(FOUND)["a"]["test"] == {
        "mean": 0.012,
        "by_seed": (0.01, 0.014),
        "by_image": (0.002, 0.022),
        "verdict": "higher",
    }


def test_a_point_spans_the_seeds() -> None:
    one = point("it", 3.0, [0.5, 0.25, 0.75])
    assert (one.name, one.x, one.y, one.low, one.high) == ("it", 3.0, 0.5, 0.25, 0.75)
