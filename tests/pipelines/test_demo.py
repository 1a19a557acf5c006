"""The demo joins the reports of its steps in one, each figure from the step that measured it."""

import os
import sys
from pathlib import Path

import pytest
import yaml

from regrow.errors import BadInput
from regrow.pipelines import commands, demo
from regrow.reporting.report import Report


def step(folder: Path, name: str, **figures: object) -> Report:
    report = Report(folder / name, title=name, command=name, task="detection", classes=[name])
    report.set(**figures)
    return report


def test_each_figure_is_of_the_step_that_measured_it(tmp_path: Path) -> None:
    before = {"score": 0.75, "params": 200, "macs": 4000, "latency_ms": 2.0, "bytes": 800}
    after = {"score": 0.5, "params": 100, "macs": 1000, "latency_ms": 1.0, "bytes": 400}
    score = {"name": "map", "value": 0.875, "images": "val", "num_images": 7}
    data = {"hash": "ab", "diff": {"text": "+9 images, +2 classes"}}
    grown = step(tmp_path, "grow", score=score, data=data, parent="cd", per_class={"x": 1})
    other = {"name": "map", "value": 0.25, "images": "test", "num_images": 3}
    pruned = step(tmp_path, "prune", score=other, parent="ef", before=before, after=after)
    pruned.set(budget={"is_met": True}, data={"hash": "no", "diff": None})
    exported = step(tmp_path, "export", onnx={"score": 0.125}, parent="gh")
    report = demo._report(tmp_path, "the command", grown, pruned, exported)
    figures = report.figures
    assert (figures["task"], figures["classes"]) == ("detection", ["prune"])
    assert (figures["score"], figures["data"], figures["parent"]) == (score, data, "cd")
    assert (figures["before"], figures["after"]) == (before, after)
    assert (figures["budget"], figures["onnx"]) == ({"is_met": True}, {"score": 0.125})
    assert (figures["grown_per_class"], figures["command"]) == ({"x": 1}, "the command")
    page = report.to_markdown()
    assert page.startswith("# The whole loop: detection\n")
    assert "(+9 images, +2 classes), pruned" in page
    assert "Dense, it reaches map 0.8750 on validation images." in page
    assert "-25.00 points" in page
    links = [f"[its own report]({name}/report.md)" for name in ("train", "grow", "prune", "export")]
    places = [page.index(link) for link in links]
    assert places == sorted(places)
    assert "prune/predictions.png" in page


@pytest.mark.parametrize("task", ["classification", "detection", "segmentation"])
def test_the_configs_of_the_steps_fit_together(task: str) -> None:
    config = f"--config={demo.CONFIGS / task}"
    young, _ = commands.read_training([f"{config}.yaml", f"{config}_young.yaml"])
    grown, _ = commands.read_training([f"{config}.yaml"])
    before, after = young["data"].source, grown["data"].source
    assert type(before) is type(after)
    assert (before.stage, after.stage) == ("young", "grown")
    assert young["data"].size == grown["data"].size
    smaller = yaml.safe_load((demo.CONFIGS / f"{task}_prune.yaml").read_text())
    assert "checkpoint" not in smaller, "the demo names its own"


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    letter = tmp_path / "demo-segmentation" / "letter.txt"
    letter.parent.mkdir()
    letter.touch()
    with pytest.raises(BadInput) as refused:
        demo.run_demo("segmentation", tmp_path)
    assert str(refused.value) == (
        f"{letter.parent} holds files that are no run of regrow's; give another run folder"
    )
    assert [*tmp_path.rglob("*.*")] == [letter]
    with pytest.raises(BadInput, match="task"):
        demo.demo(["--task=detect", f"--runs={tmp_path}"])


def test_tensorboard_is_named_as_it_can_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = tmp_path / "an environment" / "bin" / "tensorboard"
    beside.parent.mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", str(beside.with_name("python")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert demo._tensorboard() == "tensorboard", "there is none, so its name must do"
    beside.touch()
    beside.chmod(0o755)
    assert demo._tensorboard() == "'an environment/bin/tensorboard'"
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path), str(beside.parent)]))
    assert demo._tensorboard() == "tensorboard"
