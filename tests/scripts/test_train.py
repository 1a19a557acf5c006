"""Training, warm start and resuming, as the command does them."""

import json
import os
import subprocess
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch

from regrow.errors import BadInput
from regrow.files import file_hash
from regrow.models.checkpoint import load, net_state, read
from regrow.pipelines import commands
from regrow.scripts import train

Words = Callable[..., list[str]]
Folder = Callable[..., Path]
Equal = Callable[[Path, Path], None]
SCENES = [f"--data.source.num_{split}=16" for split in ("train", "val", "test")]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return net_state(read(path))


def test_a_run_leaves_checkpoints_logs_and_a_report(
    folder: Folder, words: Words, tmp_path: Path
) -> None:
    report = commands.train(words(folder()))
    run = tmp_path / "run"
    figures = json.loads((run / "report.json").read_text())
    assert figures == report.figures
    assert figures["classes"] == ["green", "red"]
    assert figures["score"] == {
        "name": "accuracy",
        "value": 1.0,
        "images": "test",
        "num_images": 24,
    }
    assert figures["parent"] is None
    assert figures["data"]["diff"] is None
    assert figures["command"].startswith("python scripts/train.py --config=")
    assert (run / "last.ckpt").is_file()
    assert (run / "predictions.png").is_file()
    assert list((run / "tensorboard").glob("events.*"))
    provenance = load(run / "best.ckpt").provenance
    assert provenance.data == figures["data"]["hash"]
    assert provenance.command == figures["command"]


def test_the_seed_decides_all_weights(
    folder: Folder, words: Words, tmp_path: Path, assert_equal_weights: Equal
) -> None:
    root = folder()
    for run, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.rand(seed)  # whatever the process drew before
        commands.train(words(root, run, f"--seed={seed}"))
    assert_equal_weights(tmp_path / "a" / "last.ckpt", tmp_path / "b" / "last.ckpt")
    one, other = weights(tmp_path / "a" / "last.ckpt"), weights(tmp_path / "c" / "last.ckpt")
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_warm_start_grows_the_head_and_says_what_changed(
    folder: Folder, words: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = folder("old")
    commands.train(words(old, "old"))
    parent = tmp_path / "old" / "best.ckpt"
    before = parent.read_bytes()
    new = folder("new", ("blue", "green", "red"))
    os.replace(new / "train" / "red" / "0.png", new / "train" / "green" / "moved.png")
    capsys.readouterr()
    options = [f"--warm-start={parent}", "--task.optimization.lr=0"]
    report = commands.train(words(new, "new", *options))
    assert "+36 images, +1 class, 1 relabelled" in capsys.readouterr().out
    figures = report.figures
    assert figures["data"]["diff"]["num_added"] == 36
    assert figures["data"]["diff"]["new_classes"] == ["blue"]
    assert figures["parent"] == file_hash(parent)
    assert figures["classes"] == ["green", "red", "blue"]
    # Of three equally frequent classes the old model knows two, and knows them well.
    assert figures["before_training"]["score"] == pytest.approx(2 / 3)
    assert figures["per_class"]["blue"]["before"] is None
    assert figures["per_class"]["red"]["before"] == 1.0
    assert parent.read_bytes() == before
    # A rate of 0 leaves what the warm start made: the old rows, bit for bit.
    rows = weights(tmp_path / "new" / "last.ckpt")["head.weight"]
    assert torch.equal(rows[:2], weights(parent)["head.weight"])


def test_a_warm_start_never_moves_its_parent(folder: Folder, words: Words, tmp_path: Path) -> None:
    root = folder()
    commands.train(words(root))
    with pytest.raises(BadInput, match=r"best.ckpt is part of the run in .*a folder of its own"):
        commands.train(words(root, "run", f"--warm-start={tmp_path}/run/best.ckpt"))
    assert (tmp_path / "run" / "best.ckpt").is_file()


def test_classes_are_renamed_and_given_up(folder: Folder, words: Words, tmp_path: Path) -> None:
    commands.train(words(folder("old", ("blue", "green", "red")), "old"))
    new = folder("new", ("green", "red"))
    (new / "train" / "red").rename(new / "train" / "t-shirt")
    (new / "val" / "red").rename(new / "val" / "t-shirt")
    (new / "test" / "red").rename(new / "test" / "t-shirt")
    options = ["--renamed.red=t-shirt", '--removed=["blue"]', "--task.optimization.lr=0"]
    report = commands.train(words(new, "new", f"--warm-start={tmp_path}/old/best.ckpt", *options))
    figures = report.figures
    assert figures["classes"] == ["green", "t-shirt"]
    assert figures["data"]["diff"]["num_relabelled"] == 0
    assert figures["data"]["diff"]["new_classes"] == []
    assert figures["data"]["diff"]["removed_classes"] == ["blue"]
    old = weights(tmp_path / "old" / "best.ckpt")["head.weight"]
    assert torch.equal(weights(tmp_path / "new" / "last.ckpt")["head.weight"], old[1:])


def test_the_old_model_is_said_to_know_the_images_that_judge_it(
    folder: Folder, words: Words, tmp_path: Path
) -> None:
    root = folder()
    commands.train(words(root, "old"))
    for number in range(3):
        file = root / "train" / "red" / f"{number}.png"
        file.rename(root / "val" / "red" / f"moved{number}.png")
    commands.train(words(root, "new", f"--warm-start={tmp_path}/old/best.ckpt"))
    page = (tmp_path / "new" / "report.md").read_text()
    assert "Beware: the old model was trained on 3 of the validation and test images" in page


def test_a_warm_start_keeps_what_the_network_takes_images_for(
    folder: Folder, words: Words, tmp_path: Path
) -> None:
    root = folder()
    grey = ["--task.mean=[0.5, 0.5, 0.5]", "--task.std=[0.25, 0.25, 0.25]"]
    commands.train(words(root, "old", *grey))
    commands.train(words(root, "new", f"--warm-start={tmp_path}/old/best.ckpt"))
    task = load(tmp_path / "new" / "best.ckpt")
    assert task.mean.flatten().tolist() == [0.5] * 3
    assert task.std.flatten().tolist() == [0.25] * 3


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_scenes_warm_start(task: str, tmp_path: Path) -> None:
    width = {"detection": "channels", "segmentation": "width"}[task]
    small = [*SCENES, "--data.augment=[]", "--fit.epochs=1", f'--task.net_args={{"{width}": 8}}']
    config = f"--config=configs/{task}.yaml"
    young = commands.train([config, *small, "--data.source.stage=young", f"--run={tmp_path}/old"])
    start = [f"--warm-start={tmp_path}/old/best.ckpt", "--task.optimization.lr=0"]
    grown = commands.train([config, *small, *start, f"--run={tmp_path}/new"])
    names = young.figures["classes"]
    assert grown.figures["classes"] == [*names, "8", "9"]
    assert grown.figures["data"]["diff"]["new_classes"] == ["8", "9"]
    assert grown.figures["parent"] == file_hash(tmp_path / "old" / "best.ckpt")
    old, new = load(tmp_path / "old" / "best.ckpt"), load(tmp_path / "new" / "best.ckpt")
    after = dict(new.net.named_parameters())
    # The rate of 0 left every weight, and the old classes' rows come first.
    for name, before in old.net.named_parameters():
        assert torch.equal(after[name][: len(before)], before), name


def test_warm_start_takes_the_architecture_of_the_checkpoint(
    folder: Folder, words: Words, tmp_path: Path
) -> None:
    root = folder()
    commands.train(words(root, "old", '--task.net_args={"width": 8}'))
    commands.train(words(root, "new", f"--warm-start={tmp_path}/old/best.ckpt"))
    task = load(tmp_path / "new" / "best.ckpt")
    assert task.net_args == {"width": 8}
    assert task.net.head.in_features == 32


def test_warm_start_refuses_what_does_not_match(
    folder: Folder, words: Words, tmp_path: Path
) -> None:
    commands.train(words(folder("old"), "old"))
    start = f"--warm-start={tmp_path}/old/best.ckpt"
    other = folder("other", ("red", "blue"))
    with pytest.raises(BadInput, match="green"):
        commands.train(words(other, "new", start))
    with pytest.raises(BadInput, match=r"made for \[32, 32\]; set data.size"):
        commands.train(words(folder("old"), "new", start, "--data.size=[48,48]"))
    scenes = ["--config=configs/segmentation.yaml", *SCENES, f"--run={tmp_path}/new", start]
    with pytest.raises(BadInput, match="classification network for labels, the data has masks"):
        commands.train(scenes)
    assert not (tmp_path / "new").exists()


def test_an_earlier_run_is_moved_aside(folder: Folder, words: Words, tmp_path: Path) -> None:
    root = folder()
    commands.train(words(root))
    kept = (tmp_path / "run" / "best.ckpt").read_bytes()
    commands.train(words(root, "run", "--seed=1"))
    assert (tmp_path / "run-1" / "best.ckpt").read_bytes() == kept
    assert (tmp_path / "run" / "best.ckpt").read_bytes() != kept


def test_training_stops_early(folder: Folder, words: Words, tmp_path: Path) -> None:
    options = ["--fit.epochs=50", "--fit.patience=2", "--task.optimization.lr=0"]
    commands.train(words(folder(), "run", *options))
    assert read(tmp_path / "run" / "last.ckpt")["epoch"] == 2


def test_an_unknown_option_ends_a_process_with_2_and_no_traceback(
    shell: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = shell("train.py", "--no_such_option=1")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "no_such_option" in done.stderr


def test_names_that_look_like_numbers(
    folder: Folder, words: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    young = ["--config=configs/classification.yaml", '--fit.trainer={"limit_train_batches": 1}']
    young += ["--fit.epochs=1"]
    commands.train([*young, f"--run={tmp_path}/old"])
    start = f"--warm-start={tmp_path}/old/best.ckpt"
    assert train.main([*young, start, "--removed=[1]", f"--run={tmp_path}/new"]) == 2
    assert "a name that looks like a number needs quotes, '\"1\"'" in capsys.readouterr().err
    assert train.main([*young, start, "--renamed={1: one}", f"--run={tmp_path}/new"]) == 2
    assert "the data has no class '1' (renamed 'one')" in capsys.readouterr().err


@pytest.mark.parametrize("script", ["train", "prune", "export", "demo"])
def test_an_unknown_option_is_named(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert import_module(f"regrow.scripts.{script}").main(["--no_such_option=1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no_such_option" in line


def test_two_processes_train_one_network(
    folder: Folder,
    words: Words,
    shell: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    root = folder()
    # No batch norm, whose statistics are those of each process; plain SGD, which is continuous.
    same = ["--data.augment=[]", "--task.net=timm/test_convnext", "--task.optimization.lr=0.05"]
    same += ["--task.optimization.optimizer=sgd", "--fit.accelerator=cpu", "--fit.precision=32"]
    two = ["--fit.devices=2", "--fit.strategy=ddp", "--data.batch_size=4"]
    done = shell("train.py", *words(root, "two", *same, *two))
    assert done.returncode == 0, done.stderr
    commands.train(words(root, "one", *same, "--fit.devices=1", "--data.batch_size=8"))
    one, both = weights(tmp_path / "one" / "last.ckpt"), weights(tmp_path / "two" / "last.ckpt")
    for name, value in one.items():
        torch.testing.assert_close(both[name], value, rtol=1e-3, atol=1e-5)
    run = tmp_path / "two"
    # 24 images, 4 in a batch, 2 processes: 3 steps an epoch.
    assert read(run / "last.ckpt")["global_step"] == 6
    figures = json.loads((run / "report.json").read_text())
    assert "on 24 validation images" in (run / "report.md").read_text()
    assert figures["scores"]["val"]["value"] == pytest.approx(
        load(run / "best.ckpt").provenance.scores["val/accuracy"]
    )
    assert not (tmp_path / "two-1").exists()
