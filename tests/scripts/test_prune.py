"""Pruning as the command does it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from regrow.errors import BadInput, CheckFailed
from regrow.files import file_hash
from regrow.guard import guard
from regrow.models.checkpoint import load, save
from regrow.models.cost import count_macs, count_params
from regrow.models.masks import masks_of
from regrow.models.task import Task
from regrow.pipelines import commands
from regrow.reporting.report import Report
from regrow.scripts import prune
from regrow.training.trainer import fine_tune_

Words = Callable[..., list[str]]
Folder = Callable[..., Path]
Trained = Callable[..., Path]
# An export to ONNX, and a search, take longer than all else here.
QUICK = ["--clock.runtime=torch", "--search=null"]
SHORT = [*QUICK, "--num_steps=2", "--recovery.epochs=1", "--budget.max_drop=0.5"]


@pytest.fixture
def dense(trained: Trained) -> Path:
    """Return the checkpoint of a small trained network."""
    return trained("dense")


def test_pruning_leaves_a_smaller_network_and_a_report(dense: Path, tmp_path: Path) -> None:
    given, run = dense.read_bytes(), tmp_path / "prune"
    report = commands.prune([f"--checkpoint={dense}", *SHORT, f"--run={run}"])
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


@pytest.mark.parametrize("criterion", commands.CRITERIA, ids=lambda criterion: criterion.__name__)
def test_every_criterion_ranks(criterion: type, dense: Path, tmp_path: Path) -> None:
    name = f"--criterion={criterion.__module__}.{criterion.__name__}"
    options = [*QUICK, "--num_steps=1", "--recovery.epochs=0", "--budget.max_drop=1"]
    report = commands.prune(
        [f"--checkpoint={dense}", name, *options, f"--run={tmp_path / 'prune'}"]
    )
    assert report.figures["after"]["macs"] <= 0.5 * report.figures["before"]["macs"]


def test_tensorboard_shows_score_against_cost(dense: Path, tmp_path: Path) -> None:
    run = tmp_path / "prune"
    report = commands.prune([f"--checkpoint={dense}", *SHORT, f"--run={run}"])
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    shown = {e.step: e.value for e in events.Scalars("prune/score_against_kmacs")}
    kept = {step["macs"] // 1000: step["score"] for step in report.figures["steps"]}
    # The given network is the first point of the curve.
    assert kept.items() <= {k: pytest.approx(v) for k, v in shown.items()}.items()
    assert report.figures["before"]["macs"] // 1000 in shown


def test_a_pruned_network_is_pruned_trained_and_exported_again(
    dense: Path, words: Words, folder: Folder, tmp_path: Path
) -> None:
    commands.prune([f"--checkpoint={dense}", *SHORT, f"--run={tmp_path / 'one'}"])
    pruned = tmp_path / "one" / "pruned.ckpt"
    again = commands.prune([f"--checkpoint={pruned}", *SHORT, f"--run={tmp_path / 'two'}"])
    assert again.figures["before"]["macs"] == count_macs(load(pruned))
    more = folder("more", ("blue", "green", "red"))
    grown = commands.train(words(more, "grown", f"--warm-start={pruned}"))
    assert grown.figures["classes"] == ["green", "red", "blue"]
    small = load(tmp_path / "grown" / "best.ckpt")
    assert count_macs(small) < 0.51 * count_macs(load(dense))  # one class more
    exported = commands.export(
        [str(tmp_path / "grown" / "best.ckpt"), f"--run={tmp_path / 'export'}"]
    )
    assert exported.figures["onnx"]["max_abs_diff"] < 1e-4
    assert exported.figures["onnx"]["score"] == exported.figures["score"]["value"]
    assert (tmp_path / "export" / "model.onnx").is_file()


def test_training_that_diverges_is_bad_input_and_what_was_saved_goes_on(
    dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "prune"
    options = [f"--checkpoint={dense}", *SHORT, "--optimization.lr=1e30", f"--run={run}"]
    assert prune.main([*options, "--optimization.optimizer=sgd"]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "training has left NaN or infinity in " in line
    assert "lower the optimizer's lr" in line
    kept = load(run / "progress.ckpt")
    assert all(
        torch.equal(p, q)
        for p, q in zip(kept.net.parameters(), load(dense).net.parameters(), strict=True)
    )


def test_half_precision_is_trained_in_full_unless_it_is_asked_for(
    dense: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half.ckpt"
    save(half, load(dense).bfloat16())
    shutil.copy(dense.parent / "data.yaml", tmp_path)
    for name, options in (("full", []), ("half", ["--recovery.precision=bf16-true"])):
        run = tmp_path / f"prune-{name}"
        given = [f"--checkpoint={half}", *QUICK, "--num_steps=1", "--budget.max_drop=1"]
        commands.prune([*given, "--recovery.epochs=1", *options, f"--run={run}"])
        dtype = torch.float32 if name == "full" else torch.bfloat16
        assert {p.dtype for p in load(run / "pruned.ckpt").net.parameters()} == {dtype}


def test_coupled_layers_are_told_with_the_layer_that_is_scored(dense: Path, tmp_path: Path) -> None:
    commands.prune([f"--checkpoint={dense}", *SHORT, f"--run={tmp_path / 'prune'}"])
    page = (tmp_path / "prune" / "report.md").read_text()
    assert "| one.second (with stem.0) |" in page


def test_a_step_that_loses_everything_is_rolled_back(dense: Path, tmp_path: Path) -> None:
    def forget(task: Task, *args: object, **kwargs: object) -> None:
        for parameter in task.net.parameters():
            parameter.data.zero_()

    options = [*QUICK, "--budget.max_drop=0.01", "--num_steps=1", "--adapts=false"]
    words = [f"--checkpoint={dense}", *options, f"--run={tmp_path / 'prune'}"]
    assert guard(commands.prune)(words, train=forget) == 3
    figures = json.loads((tmp_path / "prune" / "report.json").read_text())
    assert figures["stopped"] == "budget"
    assert [step["is_kept"] for step in figures["steps"]] == [False]
    assert figures["after"]["macs"] == figures["before"]["macs"]
    assert figures["after"]["score"] == figures["before"]["score"]
    page = (tmp_path / "prune" / "report.md").read_text()
    assert "The target was not reached: step 1 took accuracy from 1.0000 to 0.5000" in page
    assert "Nothing was removed." in page
    assert "epochs more" not in page
    before, after = load(dense), load(tmp_path / "prune" / "pruned.ckpt")
    images = before.example_images(4)
    assert torch.equal(before(images)["logits"], after(images)["logits"])


def test_the_report_names_the_step_that_was_rolled_back_not_the_training_after_it(
    dense: Path, tmp_path: Path
) -> None:
    calls = []

    def forget_once(task: Task, *args: object, **kwargs: object) -> None:
        calls.append(task)
        if len(calls) == 2:
            for parameter in task.net.parameters():
                parameter.data.zero_()

    options = [*QUICK, "--budget.max_drop=0.45", "--num_steps=4", "--adapts=false"]
    options += ["--final_epochs=1", "--selection.scope=local", f"--run={tmp_path / 'prune'}"]
    with pytest.raises(CheckFailed, match="The target was not reached: step 2 took accuracy"):
        commands.prune([f"--checkpoint={dense}", *options], train=forget_once)
    steps = json.loads((tmp_path / "prune" / "report.json").read_text())["steps"]
    assert [(s["is_kept"], s["is_final"]) for s in steps] == [
        (True, False),
        (False, False),
        (True, True),
    ]
    page = (tmp_path / "prune" / "report.md").read_text()
    assert "The target was not reached: step 2 took accuracy from 1.0000 to 0.5000" in page
    assert "| 3 (training) |" in page


def test_a_verdict_of_broken_is_exit_code_3(
    dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Validation images show green alone, so that only test images show what became of red.
    shutil.rmtree(tmp_path / "data" / "images" / "val" / "red")

    def say_green(task: Task, *args: object, **kwargs: object) -> None:
        head = task.net.get_submodule(task.output_layers()[0])
        head.weight.data.zero_()
        head.bias.data.copy_(torch.tensor([float(name == "green") for name in task.classes]))

    run = tmp_path / "prune"
    words = [f"--checkpoint={dense}", *QUICK, "--num_steps=1", "--budget.max_drop=0.1"]
    assert guard(commands.prune)([*words, f"--run={run}"], train=say_green) == 3
    error = capsys.readouterr().err
    assert "budget of 0.1 is broken on 24 test images: the score changed by (" in error
    figures = json.loads((run / "report.json").read_text())
    assert (figures["before"]["score"], figures["after"]["score"]) == (1.0, 0.5)
    assert figures["steps"][0]["score"] == 1.0
    assert figures["stopped"] == "target"
    assert (run / "pruned.ckpt").is_file()
    assert figures["budget"]["is_met"] is False


def test_what_cannot_be_pruned_is_refused(dense: Path, tmp_path: Path) -> None:
    run = tmp_path / "prune"
    with pytest.raises(BadInput, match=r"no\.ckpt: no such checkpoint"):
        commands.prune([f"--checkpoint={tmp_path / 'no.ckpt'}", f"--run={run}"])
    with pytest.raises(BadInput, match=r"target\.macs 0\.0001 is out of reach"):
        commands.prune([f"--checkpoint={dense}", "--target.macs=0.0001", f"--run={run}"])
    for option, said in (
        ("num_steps=0", "num_steps is 0"),
        ("criterion.num_batches=0", "criterion.num_batches is 0"),
        ("recovery.accelerator=tpu", "fit: Lightning's Trainer cannot be made of it"),
        ("recovery.devices=2", "pruning runs in one process"),
        ("data.size=[48, 48]", "set data.size"),
        (f"run={dense.parent}", "part of the run in"),
    ):
        with pytest.raises(BadInput, match=said):
            commands.prune(
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
        commands.prune(
            [f"--checkpoint={dense}", *scenes, "--data.source.kind=masks", f"--run={run}"]
        )
    assert not (run / "pruned.ckpt").exists()
    (dense.parent / "data.yaml").unlink()
    with pytest.raises(BadInput, match=r"data\.yaml: not there, so name the data"):
        commands.prune([f"--checkpoint={dense}", f"--run={run}"])


def test_an_option_out_of_range_ends_with_2(
    dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"--checkpoint={dense}", "--target.macs=2", f"--run={tmp_path / 'prune'}"]
    assert prune.main(words) == 2
    assert "target.macs is 2.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["minutes=1e-6"], "search.minutes 1e-06 is shorter than one candidate, which takes "),
        (["candidates=3", "trials=4"], "search.trials 4 is more than search.candidates 3, of"),
        (["candidates=3", "trials=2", "trial_steps=0"], "search.trial_steps is 0, it must be at"),
        (["candidates=3", "trials=2"], "training images that are scored leave no batch to train"),
    ],
)
def test_a_search_that_cannot_be_made_ends_with_2_in_one_line(
    dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    words = [f"--checkpoint={dense}", *SHORT, f"--run={tmp_path / 'prune'}"]
    assert prune.main([*words, *[f"--search.{option}" for option in options]]) == 2
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if said in line]
    assert len(lines) == 1
    assert "Traceback" not in err


def test_what_a_class_refuses_ends_with_2(
    dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rotation = {"class_path": "torchvision.transforms.v2.RandomRotation"}
    augment = json.dumps([rotation | {"init_args": {"degrees": -1}}])
    words = ["--data.source=Digits", f"--data.augment={augment}", f"--run={tmp_path / 'prune'}"]
    assert prune.main([f"--checkpoint={dense}", "--data=GrowingData", *words]) == 2
    assert "cannot be used" in capsys.readouterr().err


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load(path).net.state_dict()


def test_a_run_killed_at_every_step_goes_on_to_the_same_network(
    dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [
        *QUICK,
        f"--checkpoint={dense}",
        "--num_steps=3",
        "--adapts=false",
        "--recovery.epochs=1",
        "--final_epochs=1",
        "--budget.max_drop=1",
        "--optimization.optimizer=sgd",
    ]
    whole = commands.prune([*options, f"--run={tmp_path / 'whole'}"])
    stopped = f"--run={tmp_path / 'stopped'}"
    count = 0

    def killed(*args: object, **kwargs: object) -> None:
        nonlocal count
        count += 1
        if count > 1:
            raise KeyboardInterrupt
        fine_tune_(*args, **kwargs)

    command = guard(commands.prune)
    assert command([*options, stopped], train=killed) == 143
    for _ in range(2):  # in the third step, then in the training at the end
        count = 0
        assert command([*options, stopped, "--resume=true"], train=killed) == 143
    assert not (tmp_path / "stopped" / "pruned.ckpt").exists()

    def late(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # when all but the report is written
        patch.setattr(Report, "write", late)
        assert prune.main([*options, stopped, "--resume=true"]) == 143
    assert (tmp_path / "stopped" / "pruned.ckpt").exists()
    resumed = commands.prune([*options, stopped, "--resume=true"])
    one, other = (weights(tmp_path / name / "pruned.ckpt") for name in ("whole", "stopped"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)

    def known(report: dict) -> list:
        return [{k: v for k, v in step.items() if k != "latency"} for step in report["steps"]]

    assert known(resumed.figures) == known(whole.figures)
    page = (tmp_path / "stopped" / "report.md").read_text()
    count = 3 + resumed.figures["steps"][-1]["is_kept"]
    assert f"It has trained {count} epochs more than the network it is compared with." in page
    assert not (tmp_path / "stopped" / "progress.ckpt").exists()
    assert not (tmp_path / "stopped-1").exists()


def test_resuming_another_run_or_with_other_settings_is_bad_input(
    dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    run = tmp_path / "prune"
    given = [f"--checkpoint={dense}", *SHORT, f"--run={run}"]
    assert prune.main([*given, "--resume=true"]) == 2
    assert "has no pruning run that was stopped" in capsys.readouterr().err
    assert guard(commands.prune)(given, train=interrupted) == 143
    assert prune.main([*given, "--resume=true", "--num_steps=3"]) == 2
    assert "--resume cannot change num_steps from 2 to 3" in capsys.readouterr().err
    other = tmp_path / "other.ckpt"
    other.write_bytes(dense.read_bytes())
    assert prune.main([*given, "--resume=true", f"--checkpoint={other}"]) == 2
    assert "data.yaml" in capsys.readouterr().err
    (run / "progress.ckpt").write_bytes(b"")
    assert prune.main([*given, "--resume=true"]) == 2
    assert "progress.ckpt: " in capsys.readouterr().err


def test_a_budget_that_the_test_images_cannot_decide_is_told_before_the_first_step(
    dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*QUICK, "--num_steps=1", "--recovery.epochs=0", "--target.macs=0.95"]
    options += ["--budget.max_drop=0.1", f"--run={tmp_path / 'prune'}"]
    prune.main([f"--checkpoint={dense}", *options])
    said = capsys.readouterr().out
    # 0.9^29 = 0.047.
    line = (
        "budget: 24 test images are too few to rule out a loss above 10 points (at least 29 needed)"
    )
    assert said.index(line) < said.index("as given: ")
    page = (tmp_path / "prune" / "report.md").read_text()
    assert "known before the first step: 24 test images are too few to rule out" in page
    # 1 - 0.05^(1 / 24) = 0.1173.
    assert "24 images may not show a change of 11.73 points at all" in page


def test_the_report_tells_each_layer_and_step(dense: Path, tmp_path: Path) -> None:
    options = [*SHORT, "--clock.runtime=auto", f"--run={tmp_path / 'prune'}"]
    figures = commands.prune([f"--checkpoint={dense}", *options]).figures
    assert figures["runtime"] == "ONNX Runtime"
    assert all(0 < step["latency"] < 2 for step in figures["steps"])
    assert figures["before"]["latency_ms"] > 0
    page = (tmp_path / "prune" / "report.md").read_text()
    assert "| layer | before | after | importance kept | sensitivity |" in page
    small, large = load(tmp_path / "prune" / "pruned.ckpt"), load(dense)
    for name, module in large.net.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            left = small.net.get_submodule(name).out_channels
            row = rf"\| {re.escape(name)}( \(with \S+\))? \| {module.out_channels} \| {left} \|"
            assert re.search(row, page)
    events = EventAccumulator(str(tmp_path / "prune" / "tensorboard")).Reload()
    shown = {e.step: e.value for e in events.Scalars("prune/latency")}
    expected = {step["index"]: pytest.approx(step["latency"]) for step in figures["steps"]}
    assert expected.items() <= shown.items()


@pytest.mark.parametrize("options", [["--weights.share=0.6"], ["--weights.pattern=2:4"]])
def test_masked_weights_stay_zero_through_a_warm_start_and_an_export(
    dense: Path, words: Words, folder: Folder, tmp_path: Path, options: list[str]
) -> None:
    report = commands.prune(
        [f"--checkpoint={dense}", *SHORT, *options, f"--run={tmp_path / 'prune'}"]
    )
    pruned = tmp_path / "prune" / "pruned.ckpt"
    masks = masks_of(load(pruned).net)
    zeros = {name: value == 0 for name, value in load(pruned).net.named_parameters()}
    assert all(bool(zeros[name][~mask].all()) for name, mask in masks.items())
    gone = sum(int((~mask).sum()) for mask in masks.values())
    size = sum(mask.numel() for mask in masks.values())
    if "0.6" in options[0]:
        assert gone == round(0.6 * size)
    else:
        blocks = [mask.movedim(1, -1).reshape(-1, 4) for mask in masks.values()]
        assert all(bool((block.sum(1) == 2).all()) for block in blocks)
    assert report.figures["masked"]["masked"] == gone / size
    assert report.figures["after"]["macs"] == report.figures["before"]["macs"]
    more = folder("more", ("blue", "green", "red"))
    commands.train(words(more, "grown", f"--warm-start={pruned}"))
    grown = load(tmp_path / "grown" / "best.ckpt")
    again = dict(grown.net.named_parameters())
    assert all(bool((again[name][~mask] == 0).all()) for name, mask in masks.items())
    assert any(not torch.equal(again[n], p) for n, p in load(pruned).net.named_parameters())
    commands.train(words(more, "free", f"--warm-start={pruned}", "--sparsity=dense"))
    free = dict(load(tmp_path / "free" / "best.ckpt").net.named_parameters())
    assert any(bool((free[name][~mask] != 0).any()) for name, mask in masks.items())


def test_recovery_may_imitate_the_unpruned_network(dense: Path, tmp_path: Path) -> None:
    seen = []

    def watched(*args: object, penalties: list, **kwargs: object) -> None:
        seen.extend(penalties)
        fine_tune_(*args, penalties=penalties, **kwargs)

    options = ["--distillation.weight=2", "--distillation.temperature=4"]
    words = [f"--checkpoint={dense}", *SHORT, *options, f"--run={tmp_path / 'prune'}"]
    commands.prune(words, train=watched)
    assert {(p.distillation.weight, p.distillation.temperature) for p in seen} == {(2.0, 4.0)}
    teacher, large = seen[0]._kept.task.net, load(dense).net
    for one, other in zip(teacher.parameters(), large.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not load(tmp_path / "prune" / "pruned.ckpt").penalties


def copied(root: Path, count: int) -> Path:
    """Put training images among the test images, under their own class."""
    for number in range(count):
        shutil.copy(
            root / "train" / "red" / f"{number}.png", root / "test" / "red" / f"x{number}.png"
        )
    return root


def test_a_budget_is_not_decided_on_test_images_that_were_seen(
    folder: Folder, words: Words, tmp_path: Path
) -> None:
    commands.train(words(copied(folder(), 7), "dense"))
    given = [f"--checkpoint={tmp_path / 'dense' / 'best.ckpt'}", *SHORT, f"--run={tmp_path / 'p'}"]
    with pytest.raises(
        BadInput,
        match=r"^7 of the 31 test images, on which the budget is decided, are also training or "
        r"validation images \(test/red/x0\.png, .*x4\.png, \.\.\.\): .* --accept_seen true$",
    ):
        commands.prune(given)
    assert not (tmp_path / "p").exists()
    report = commands.prune([*given, "--accept_seen=true"])
    assert report.figures["data"]["num_seen_tests"] == 7
    remarks = report.figures["data"]["remarks"]
    assert remarks["test images have the pixels of training images"]["count"] == 7
    assert "Beware: 7 of the 31 test images" in (tmp_path / "p" / "report.md").read_text()


def test_test_images_that_the_network_was_trained_on_are_seen(
    dense: Path, folder: Folder, words: Words, tmp_path: Path
) -> None:
    # Other data now, in which three of the old training images test.
    root = folder("other")
    for number in range(3):
        (root / "train" / "red" / f"{number}.png").rename(root / "test" / "red" / f"x{number}.png")
    data = ["--data.source=regrow.data.formats.ImageFolder", f"--data.root={root}"]
    given = [f"--checkpoint={dense}", *data, *SHORT, f"--run={tmp_path / 'p'}"]
    with pytest.raises(BadInput, match=r"^3 of the 27 test images, .* \(test/red/x0\.png, "):
        commands.prune(given)
    # Without a budget nothing is decided.
    report = commands.prune([*given, "--budget.max_drop=1", "--num_steps=1"])
    assert report.figures["data"]["num_seen_tests"] == 3
