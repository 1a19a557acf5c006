"""The skeleton of a comparison: its folder, what a resumed one may change, and its report."""

import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from regrow.data.images.decoding import decode
from regrow.data.module import GrowingData
from regrow.data.sample import Digits
from regrow.errors import BadInput
from regrow.models.classification import Classification
from regrow.pipelines.experiments.comparison import Chart, Comparison
from regrow.reporting.charts import Point

SETTINGS = {"fit": {"epochs": 4}, "num_seeds": 2, "data": {"root": "here"}}


def comparison(run: Path, resume: bool = False, num_seeds: int = 2, **changed) -> Comparison:
    settings = SETTINGS | {"num_seeds": num_seeds} | changed
    return Comparison(run, resume, num_seeds, settings, "the command")


@pytest.mark.parametrize(
    ("num_seeds", "said"), [(0, "num_seeds is 0, it must be at least 1"), (10**9, "num_seeds")]
)
def test_a_number_of_seeds_that_cannot_be_is_refused(
    num_seeds: int, said: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=said):
        comparison(tmp_path / "run", num_seeds=num_seeds).check()
    assert not (tmp_path / "run").exists()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").touch()
    with pytest.raises(BadInput, match="holds files that are no run"):
        comparison(tmp_path).check()


def test_nothing_to_resume_is_refused_and_nothing_made(tmp_path: Path) -> None:
    one = comparison(tmp_path / "run", resume=True)
    one.check()
    with pytest.raises(BadInput, match="has no comparison to resume; start it without --resume"):
        one.begin(images="abc")
    assert not (tmp_path / "run").exists()


def test_a_resumed_comparison_repeats_its_settings_and_images(tmp_path: Path) -> None:
    run = tmp_path / "run"
    comparison(run).begin(images="abc")
    comparison(run, resume=True, num_seeds=3, data={"root": "there"}).begin(images="abc")
    for changed, images, said in (
        ({"fit": {"epochs": 5}}, "abc", r"--resume cannot change fit\.epochs from 4 to 5"),
        ({}, "abd", "--resume cannot change images from abc to abd"),
    ):
        with pytest.raises(BadInput, match=said):
            comparison(run, resume=True, **changed).begin(images=images)
    assert json.loads((run / "settings.json").read_text())["fit.epochs"] == 4


def test_a_new_comparison_moves_an_earlier_one_aside(tmp_path: Path) -> None:
    run = tmp_path / "run"
    comparison(run).begin(images="abc")
    comparison(run).begin(images="abd")
    assert json.loads((run / "settings.json").read_text())["images"] == "abd"
    assert json.loads((tmp_path / "run-1" / "settings.json").read_text())["images"] == "abc"


def test_the_report_says_on_what_and_ends_with_a_picture(tmp_path: Path) -> None:
    data = GrowingData(Digits(), max_images=8)
    task = Classification(data.classes, data.size, net_args={"width": 4})
    one = comparison(tmp_path / "run")
    one.begin()
    report = one.new_report("A title", task, data, torch.device("cpu"), "2 more")
    assert report.figures["task"] == "classification"
    assert report.figures["classes"] == data.classes
    assert report.figures["data"]["hash"] == data.snapshot.hash
    assert report.figures["data"]["diff"] == "2 more"
    assert report.figures["seeds"] == [0, 1]
    report.set_score("accuracy", 0.5)
    chart = Chart("picture", "group", "time", "What it shows", [Point("a", 1.0, 0.5, 0.4, 0.6)])
    one.finish(report, chart, {"test": {"a": [0.25, 0.75]}})
    assert json.loads((tmp_path / "run" / "report.json").read_text())["command"] == "the command"
    assert decode(tmp_path / "run" / "picture.png").shape == (620, 1100, 3)
    assert "What it shows" in (tmp_path / "run" / "report.md").read_text()
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    shown = [(event.step, event.value) for event in events.Scalars("test/a")]
    assert shown == [(0, 0.25), (1, 0.75)]
    assert events.Tags()["images"] == ["group/picture"]
