"""The report of a training leads with images that chose nothing, and says which ones chose."""

import json
from pathlib import Path
from typing import Any

import pytest

from regrow.models.checkpoint import save
from regrow.models.classification import Classification
from regrow.pipelines.lead import Kept, describe_data, describe_remarks, describe_scores, headline
from regrow.reporting.report import Report
from regrow.training.evaluation import Evaluation


def evaluation(value: float, num_images: int) -> Evaluation:
    evidence = Classification(["a", "b"], (16, 16)).make_evidence()
    return Evaluation("accuracy", value, {"a": value}, {"macro": value / 2}, evidence, num_images)


def written(tmp_path: Path, found: dict[str, Evaluation], kept: Kept) -> tuple[dict[str, Any], str]:
    report = Report(tmp_path, title="T", command="c", task="classification", classes=["a", "b"])
    describe_scores(report, found, kept)
    report.write()
    figures = json.loads((tmp_path / "report.json").read_text())
    return figures, (tmp_path / "report.md").read_text()


def test_the_test_score_leads_and_validation_stands_beside_it(tmp_path: Path) -> None:
    found = {"val": evaluation(0.9, 5), "test": evaluation(0.6, 60)}
    kept = Kept(tmp_path / "best.ckpt", 7, 10, True, "macro")
    figures, page = written(tmp_path, found, kept)
    assert figures["score"] == {
        "name": "accuracy", "value": 0.6, "images": "test", "num_images": 60
    }  # fmt: skip
    assert figures["scores"]["val"] == {"name": "accuracy", "value": 0.9, "num_images": 5}
    assert figures["scores"]["test"]["value"] == 0.6
    assert figures["others"] == {"macro": 0.3}
    assert (figures["best_epoch"], figures["epochs"]) == (7, 10)
    assert (
        "The best model of 10 epochs, that of epoch 7, reaches accuracy 0.6000 on 60 test images, "
        "which chose nothing. It reaches 0.9000 on 5 validation images, which chose it, by macro."
    ) in page


def test_without_test_images_the_score_says_that_its_images_chose(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "best.ckpt", 1, 1, True, "accuracy")
    figures, page = written(tmp_path, {"val": evaluation(0.9, 5)}, kept)
    assert figures["score"]["images"] == headline({"val": evaluation(0.9, 5)}) == "val"
    assert (
        "The best model of 1 epoch, that of epoch 1, reaches accuracy 0.9000 on 5 validation "
        "images, which also chose it."
    ) in page


@pytest.mark.parametrize(("state", "epoch"), [({"epoch": 3}, 4), ({}, 0)])
def test_the_epoch_is_that_of_the_file(tmp_path: Path, state: dict[str, int], epoch: int) -> None:
    save(tmp_path / "best.ckpt", Classification(["a", "b"], (16, 16)), state)
    assert Kept.of(tmp_path / "best.ckpt", 9, "accuracy").epoch == epoch


def test_each_class_is_counted_in_each_split_that_there_is(tmp_path: Path) -> None:
    report = Report(tmp_path, title="T", command="c", task="detection", classes=["a", "b"])
    splits = {
        "train": {
            "images": 3,
            "classes": {"a": {"images": 2, "boxes": 1500}, "b": {"images": 0, "boxes": 0}},
        },
        "val": {"images": 1, "classes": {"a": {"images": 1, "boxes": 1}}},
        "test": {"images": 0, "classes": {}},
    }
    describe_data(report, splits)
    report.write()
    page = (tmp_path / "report.md").read_text()
    heads = "| class | training images | training boxes | validation images | validation boxes |"
    assert f"3 training images, 1 validation image.\n\n{heads}" in page
    assert "| a | 2 | 1,500 | 1 | 1 |\n| b | 0 | 0 | 0 | 0 |" in page
    assert json.loads((tmp_path / "report.json").read_text())["data"]["splits"] == splits


def test_remarks_on_the_data_are_a_section_that_the_verdict_names(tmp_path: Path) -> None:
    report = Report(tmp_path, title="T", command="c", task="detection", classes=["a"])
    describe_remarks(report, ["1 box clipped: a.png", "6 links left out: b, ..."])
    report.write()
    page = (tmp_path / "report.md").read_text()
    assert page.count("read as it is written: see How the data was read.") == 1
    section = page.partition("## How the data was read\n\n")[2].partition("\n## ")[0]
    assert section.strip().split("\n\n") == ["1 box clipped: a.png", "6 links left out: b, ..."]


def test_data_read_as_it_is_written_gets_no_remark(tmp_path: Path) -> None:
    report = Report(tmp_path, title="T", command="c", task="detection", classes=["a"])
    describe_remarks(report, [])
    report.write()
    assert "as it is written" not in (tmp_path / "report.md").read_text()
