"""Training, warm start and resuming, as the command does them."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException

from regrow.data.errors import BadInput
from regrow.models.checkpoint import file_hash, load, net_state, read
from regrow.models.dashboard import Throughput
from regrow.scripts import train

Words = Callable[..., list[str]]
Folder = Callable[..., Path]
SCENES = [f"--data.source.num_{split}=16" for split in ("train", "val", "test")]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return net_state(read(path))


def assert_equal_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def stop_after(monkeypatch: pytest.MonkeyPatch, num_batches: int) -> None:
    """Let the platform's signal come in the middle of a batch."""
    counted = 0
    original = Throughput.on_train_batch_end

    def counting(self, *args, **kwargs) -> None:
        nonlocal counted
        original(self, *args, **kwargs)
        counted += 1
        if counted == num_batches:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Throughput, "on_train_batch_end", counting)


def test_a_run_leaves_checkpoints_logs_and_a_report(
    folder: Folder, words: Words, tmp_path: Path
) -> None:
    report = train.run(words(folder()))
    run = tmp_path / "run"
    figures = json.loads((run / "report.json").read_text())
    assert figures == report.figures
    assert figures["classes"] == ["green", "red"]
    assert figures["score"] == {"name": "accuracy", "value": 1.0}
    assert figures["parent"] is None
    assert figures["data"]["diff"] is None
    assert figures["command"].startswith("python scripts/train.py --config=")
    assert (run / "last.ckpt").is_file()
    assert (run / "predictions.png").is_file()
    assert list((run / "tensorboard").glob("events.*"))
    provenance = load(run / "best.ckpt").provenance
    assert provenance.data == figures["data"]["hash"]
    assert provenance.command == figures["command"]


def test_the_seed_decides_all_weights(folder: Folder, words: Words, tmp_path: Path) -> None:
    root = folder()
    for run, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.rand(seed)  # whatever the process drew before
        train.run(words(root, run, f"--seed={seed}"))
    assert_equal_weights(tmp_path / "a" / "last.ckpt", tmp_path / "b" / "last.ckpt")
    one, other = weights(tmp_path / "a" / "last.ckpt"), weights(tmp_path / "c" / "last.ckpt")
    assert not torch.equal(one["head.weight"], other["head.weight"])


@pytest.mark.parametrize("num_batches", [2, 3, 4], ids=["in", "end", "next"])
@pytest.mark.parametrize("option", ["--fit.epochs=3", "--fit.ema=0.9"])
def test_a_stopped_run_goes_on_bit_for_bit(
    folder: Folder,
    words: Words,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    num_batches: int,
    option: str,
) -> None:
    root = folder()  # three batches an epoch
    train.run(words(root, "whole", option))
    with monkeypatch.context() as patch:
        stop_after(patch, num_batches)
        assert train.main(words(root, "stopped", option)) == 143
    assert read(tmp_path / "stopped" / "last.ckpt")["global_step"] == num_batches
    assert train.main(words(root, "stopped", option, "--resume=auto")) == 0
    for name in ("last.ckpt", "best.ckpt"):
        assert_equal_weights(tmp_path / "whole" / name, tmp_path / "stopped" / name)
    assert (
        read(tmp_path / "stopped" / "last.ckpt")["global_step"]
        == read(tmp_path / "whole" / "last.ckpt")["global_step"]
    )


def test_resume_passes_over_a_truncated_checkpoint(
    folder: Folder, words: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = folder()
    train.run(words(root))
    last = tmp_path / "run" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    assert train.main(words(root, "run", "--resume=auto")) == 0
    assert "passed over" in capsys.readouterr().err


def test_resume_refuses_what_would_change_the_weights(
    folder: Folder, words: Words, tmp_path: Path
) -> None:
    root = folder()
    train.run(words(root))
    for change, name in (
        ("--fit.epochs=3", "fit.epochs"),
        ("--seed=1", "seed"),
        ("--task.optimization.lr=1", "task.optimization.lr"),
        ("--data.batch_size=4", "data.batch_size"),
    ):
        with pytest.raises(BadInput, match=f"--resume cannot change {name} from"):
            train.run(words(root, "run", "--resume=auto", change))
    train.run(words(root, "run", "--resume=auto", "--data.num_workers=1"))
    (root / "train" / "red" / "0.png").unlink()
    with pytest.raises(BadInput, match="these differ"):
        train.run(words(root, "run", "--resume=auto"))
    with pytest.raises(BadInput, match="give one of them"):
        train.run(words(root, "x", "--resume=auto", f"--warm-start={tmp_path}/run/best.ckpt"))


def test_warm_start_grows_the_head_and_says_what_changed(
    folder: Folder, words: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = folder("old")
    train.run(words(old, "old"))
    parent = tmp_path / "old" / "best.ckpt"
    before = parent.read_bytes()
    new = folder("new", ("blue", "green", "red"))
    os.replace(new / "train" / "red" / "0.png", new / "train" / "green" / "moved.png")
    capsys.readouterr()
    options = [f"--warm-start={parent}", "--task.optimization.lr=0"]
    report = train.run(words(new, "new", *options))
    assert "+36 images, +1 classes, 1 relabelled" in capsys.readouterr().out
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


def test_warm_start_takes_the_architecture_of_the_checkpoint(
    folder: Folder, words: Words, tmp_path: Path
) -> None:
    root = folder()
    train.run(words(root, "old", '--task.net_args={"width": 8}'))
    train.run(words(root, "new", f"--warm-start={tmp_path}/old/best.ckpt"))
    task = load(tmp_path / "new" / "best.ckpt")
    assert task.net_args == {"width": 8}
    assert task.net.head.in_features == 32


def test_warm_start_refuses_what_does_not_match(
    folder: Folder, words: Words, tmp_path: Path
) -> None:
    train.run(words(folder("old"), "old"))
    start = f"--warm-start={tmp_path}/old/best.ckpt"
    other = folder("other", ("red", "blue"))
    with pytest.raises(BadInput, match="green"):
        train.run(words(other, "new", start))
    with pytest.raises(BadInput, match=r"set data.size to \[32, 32\]"):
        train.run(words(folder("old"), "new", start, "--data.size=[48,48]"))
    scenes = ["--config=configs/segmentation.yaml", *SCENES, f"--run={tmp_path}/new", start]
    with pytest.raises(BadInput, match="classification network for labels, the data has masks"):
        train.run(scenes)
    assert not (tmp_path / "new").exists()


def test_an_earlier_run_is_moved_aside(folder: Folder, words: Words, tmp_path: Path) -> None:
    root = folder()
    train.run(words(root))
    kept = (tmp_path / "run" / "best.ckpt").read_bytes()
    train.run(words(root, "run", "--seed=1"))
    assert (tmp_path / "run-1" / "best.ckpt").read_bytes() == kept
    assert (tmp_path / "run" / "best.ckpt").read_bytes() != kept


def test_training_stops_early(folder: Folder, words: Words, tmp_path: Path) -> None:
    options = ["--fit.epochs=50", "--fit.patience=2", "--task.optimization.lr=0"]
    train.run(words(folder(), "run", *options))
    assert read(tmp_path / "run" / "last.ckpt")["epoch"] == 2


def test_an_unknown_option_ends_a_process_with_2_and_no_traceback(
    shell: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = shell("train.py", "--no_such_option=1")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "no_such_option" in done.stderr


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
    two = ["--fit.devices=2", "--fit.strategy=ddp", "--fit.accelerator=cpu"]
    options = ["--data.batch_size=4", "--data.augment=[]"]
    done = shell("train.py", *words(root, "two", *two, *options))
    assert done.returncode == 0, done.stderr
    run = tmp_path / "two"
    # 24 images, 4 in a batch, 2 processes: 3 steps an epoch.
    assert read(run / "last.ckpt")["global_step"] == 6
    figures = json.loads((run / "report.json").read_text())
    assert "on 24 validation images" in (run / "report.md").read_text()
    assert figures["score"]["value"] == pytest.approx(
        load(run / "best.ckpt").provenance.scores["val/accuracy"]
    )
    assert not (tmp_path / "two-1").exists()


def test_the_signal_is_lightnings_own(
    folder: Folder, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, 1)
    with pytest.raises(SIGTERMException):
        train.run(words(folder()))
