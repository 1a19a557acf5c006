"""Pruning as the command does it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from regrow.data.errors import BadInput, CheckFailed
from regrow.models.checkpoint import file_hash, load
from regrow.models.cost import count_macs, count_params
from regrow.models.task import Task
from regrow.scripts import export, prune, train

Words = Callable[..., list[str]]
Folder = Callable[..., Path]
SHORT = ["--num_steps=2", "--recovery.epochs=1", "--budget.max_drop=0.5"]


@pytest.fixture
def dense(folder: Folder, words: Words, tmp_path: Path) -> Path:
    """Give the checkpoint of a small trained network."""
    train.run(words(folder(), "dense"))
    return tmp_path / "dense" / "best.ckpt"


def test_pruning_leaves_a_smaller_network_and_a_report(dense: Path, tmp_path: Path) -> None:
    given, run = dense.read_bytes(), tmp_path / "prune"
    report = prune.run([f"--checkpoint={dense}", *SHORT, f"--run={run}"])
    assert dense.read_bytes() == given
    figures = json.loads((run / "report.json").read_text())
    assert figures == report.figures
    small, large = load(run / "pruned.ckpt"), load(dense)
    assert figures["after"]["macs"] == count_macs(small) <= 0.5 * count_macs(large)
    assert figures["before"]["params"] == count_params(large.net)
    assert figures["after"]["params"] == count_params(small.net)
    assert figures["parent"] == small.provenance.parent == file_hash(dense)
    assert figures["budget"]["max_drop"] == 0.5
    assert figures["budget"]["confidence"] == 0.95
    assert figures["budget"]["num_images"] == 24
    low, high = figures["budget"]["interval"]
    change = figures["after"]["score"] - figures["before"]["score"]
    assert low <= change <= high
    assert figures["budget"]["is_met"] is (True if low >= -0.5 else "undecided")
    assert small.classes == ["green", "red"]
    assert not small.training


@pytest.mark.parametrize("criterion", prune.CRITERIA, ids=lambda criterion: criterion.__name__)
def test_every_criterion_ranks(criterion: type, dense: Path, tmp_path: Path) -> None:
    name = f"--criterion={criterion.__module__}.{criterion.__name__}"
    options = ["--num_steps=1", "--recovery.epochs=0", "--budget.max_drop=1"]
    report = prune.run([f"--checkpoint={dense}", name, *options, f"--run={tmp_path / 'prune'}"])
    assert report.figures["after"]["macs"] <= 0.5 * report.figures["before"]["macs"]


def test_tensorboard_shows_score_against_cost(dense: Path, tmp_path: Path) -> None:
    run = tmp_path / "prune"
    report = prune.run([f"--checkpoint={dense}", *SHORT, f"--run={run}"])
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    shown = {e.step: e.value for e in events.Scalars("prune/score_against_kmacs")}
    kept = {step["macs"] // 1000: step["score"] for step in report.figures["steps"]}
    # The given network is the first point of the curve.
    assert kept.items() <= {k: pytest.approx(v) for k, v in shown.items()}.items()
    assert report.figures["before"]["macs"] // 1000 in shown


def test_a_pruned_network_is_pruned_trained_and_exported_again(
    dense: Path, words: Words, folder: Folder, tmp_path: Path
) -> None:
    prune.run([f"--checkpoint={dense}", *SHORT, f"--run={tmp_path / 'one'}"])
    pruned = tmp_path / "one" / "pruned.ckpt"
    again = prune.run([f"--checkpoint={pruned}", *SHORT, f"--run={tmp_path / 'two'}"])
    assert again.figures["before"]["macs"] == count_macs(load(pruned))
    more = folder("more", ("blue", "green", "red"))
    grown = train.run(words(more, "grown", f"--warm-start={pruned}"))
    assert grown.figures["classes"] == ["green", "red", "blue"]
    small = load(tmp_path / "grown" / "best.ckpt")
    assert count_params(small.net) < count_params(load(dense).net) // 2
    exported = export.run([str(tmp_path / "grown" / "best.ckpt"), f"--run={tmp_path / 'export'}"])
    assert exported.figures["onnx"]["max_abs_diff"] < 1e-4
    assert exported.figures["onnx"]["score"] == exported.figures["score"]["value"]
    assert (tmp_path / "export" / "model.onnx").is_file()


def test_a_step_that_loses_everything_is_rolled_back(
    dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget(task: Task, *args: object, **kwargs: object) -> None:
        for parameter in task.net.parameters():
            parameter.data.zero_()

    monkeypatch.setattr(prune, "fine_tune_", forget)
    options = ["--budget.max_drop=0.01", "--num_steps=1"]
    assert prune.main([f"--checkpoint={dense}", *options, f"--run={tmp_path / 'prune'}"]) == 0
    figures = json.loads((tmp_path / "prune" / "report.json").read_text())
    assert figures["stopped"] == "budget"
    assert [step["is_kept"] for step in figures["steps"]] == [False]
    assert figures["after"]["macs"] == figures["before"]["macs"]
    assert figures["after"]["score"] == figures["before"]["score"]
    page = (tmp_path / "prune" / "report.md").read_text()
    assert "The target was not reached: step 1 took accuracy from 1.0000 to 0.5000" in page
    assert "Nothing was removed." in page
    before, after = load(dense), load(tmp_path / "prune" / "pruned.ckpt")
    images = before.example_images(4)
    assert torch.equal(before(images)["logits"], after(images)["logits"])


def test_a_verdict_of_broken_is_exit_code_3(
    dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = prune.prune

    def broken(*args, **kwargs):
        result = original(*args, **kwargs)
        verdict = prune.replace(result.verdict, is_met=False)
        return prune.replace(result, verdict=verdict)

    monkeypatch.setattr(prune, "prune", broken)
    run = tmp_path / "prune"
    with pytest.raises(CheckFailed, match=r"budget of 0\.5 is broken on 24 test images"):
        prune.run([f"--checkpoint={dense}", *SHORT, f"--run={run}"])
    assert (run / "pruned.ckpt").is_file()
    assert json.loads((run / "report.json").read_text())["budget"]["is_met"] is False


def test_what_cannot_be_pruned_is_refused(dense: Path, tmp_path: Path) -> None:
    run = tmp_path / "prune"
    with pytest.raises(BadInput, match=r"no\.ckpt: no such checkpoint"):
        prune.run([f"--checkpoint={tmp_path / 'no.ckpt'}", f"--run={run}"])
    with pytest.raises(BadInput, match=r"target\.macs 0\.0001 is out of reach"):
        prune.run([f"--checkpoint={dense}", "--target.macs=0.0001", f"--run={run}"])
    for option, said in (
        ("num_steps=0", "num_steps is 0"),
        ("criterion.num_batches=0", "criterion.num_batches is 0"),
        ("recovery.accelerator=tpu", "fit: Lightning's Trainer cannot be made of it"),
        ("recovery.devices=2", "pruning runs in one process"),
        ("data.size=[48, 48]", "set data.size"),
        (f"run={dense.parent}", "part of the run in"),
    ):
        with pytest.raises(BadInput, match=said):
            prune.run(
                [
                    f"--config={dense.parent / 'data.yaml'}",
                    f"--checkpoint={dense}",
                    f"--run={run}",
                    f"--{option}",
                ]
            )
    assert not run.exists()
    scenes = ["--data=regrow.data.module.GrowingData", "--data.source=DigitScenes"]
    with pytest.raises(BadInput, match="for labels, the data has masks"):
        prune.run([f"--checkpoint={dense}", *scenes, "--data.source.kind=masks", f"--run={run}"])
    assert not (run / "pruned.ckpt").exists()
    (dense.parent / "data.yaml").unlink()
    with pytest.raises(BadInput, match=r"data\.yaml: not there, so name the data"):
        prune.run([f"--checkpoint={dense}", f"--run={run}"])


def test_an_option_out_of_range_ends_with_2(
    dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"--checkpoint={dense}", "--target.macs=2", f"--run={tmp_path / 'prune'}"]
    assert prune.main(words) == 2
    assert "target.macs is 2.0" in capsys.readouterr().err


def test_what_a_class_refuses_ends_with_2(
    dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rotation = {"class_path": "torchvision.transforms.v2.RandomRotation"}
    augment = json.dumps([rotation | {"init_args": {"degrees": -1}}])
    words = ["--data.source=Digits", f"--data.augment={augment}", f"--run={tmp_path / 'prune'}"]
    assert prune.main([f"--checkpoint={dense}", "--data=GrowingData", *words]) == 2
    assert "cannot be used" in capsys.readouterr().err
