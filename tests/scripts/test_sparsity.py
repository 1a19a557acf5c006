"""What becomes of a pruned network when it is trained on more classes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from regrow.models.checkpoint import load, read, save
from regrow.models.classification import Classification
from regrow.models.cost import count_macs
from regrow.models.masks import mask_weights_, masks_of
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.records import widths
from regrow.prune.channels.surgery import cut_
from regrow.scripts import train
from regrow.training.callbacks import Throughput

Words = Callable[..., list[str]]
Folder = Callable[..., Path]
Equal = Callable[[Path, Path], None]
Stop = Callable[[pytest.MonkeyPatch, int], None]


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    """A network of green and red that lost half of each layer's channels."""
    torch.manual_seed(0)
    task = Classification(["green", "red"], (32, 32), net_args={"width": 8})
    groups = find_groups(task).groups
    cut_(task, [(group, list(range(group.num_units // 2))) for group in groups])
    save(tmp_path / "parent.ckpt", task)
    return tmp_path / "parent.ckpt"


def run(words: Words, root: Path, name: str, parent: Path, *more: str) -> int:
    options = [f"--warm-start={parent}", '--task.net_args={"width": 8}', *more]
    return train.main(words(root, name, *options))


def test_keep_regrow_and_dense(folder: Folder, words: Words, parent: Path, tmp_path: Path) -> None:
    root, old = folder("grown", ("red", "green", "blue")), load(parent)
    narrow = widths(old.net) | {"head": 3}
    whole = widths(Classification(["a", "b", "c"], (32, 32), net_args={"width": 8}).net)
    for how in ("keep", "regrow", "dense"):
        assert run(words, root, how, parent, f"--sparsity={how}", "--fit.epochs=4") == 0
    found = {how: load(tmp_path / how / "last.ckpt") for how in ("keep", "regrow", "dense")}
    assert widths(found["keep"].net) == narrow
    assert widths(found["dense"].net) == whole
    # The head has a class more, so that the cost is not that of the old network.
    assert count_macs(found["regrow"]) <= count_macs(found["keep"])
    epochs = {how: read(tmp_path / how / "last.ckpt")["epoch"] + 1 for how in found}
    assert epochs == {"keep": 4, "regrow": 3, "dense": 4}


def test_masks_move_with_as_many_weights_kept(
    folder: Folder, words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    task = Classification(["green", "red"], (32, 32), net_args={"width": 8})
    weights = {n: p for n, p in task.net.named_parameters() if p.ndim == 4}
    mask_weights_(task.net, {name: torch.rand(p.shape) < 0.3 for name, p in weights.items()})
    save(tmp_path / "parent.ckpt", task)
    root = folder("grown", ("red", "green", "blue"), 40)  # 15 batches an epoch
    for how in ("keep", "regrow"):
        parent = tmp_path / "parent.ckpt"
        assert run(words, root, how, parent, f"--sparsity={how}") == 0
    before = masks_of(task.net)
    for how in ("keep", "regrow"):
        after = masks_of(load(tmp_path / how / "last.ckpt").net)
        assert {n: int(m.sum()) for n, m in after.items()} == {
            n: int(m.sum()) for n, m in before.items()
        }
        is_same = all(torch.equal(after[name], before[name]) for name in before)
        assert is_same == (how == "keep")


# Of four epochs with five batches each, the channels are back in the first.
@pytest.mark.parametrize("num_batches", [1, 3, 5, 8], ids=["first", "wide", "cut", "narrow"])
def test_a_stopped_run_that_regrows_goes_on_bit_for_bit(
    folder: Folder,
    words: Words,
    parent: Path,
    tmp_path: Path,
    stop_after: Stop,
    monkeypatch: pytest.MonkeyPatch,
    num_batches: int,
    assert_equal_weights: Equal,
) -> None:
    root = folder("grown", ("red", "green", "blue"))
    options = ["--sparsity=regrow", "--fit.epochs=4"]
    assert run(words, root, "whole", parent, *options) == 0
    with monkeypatch.context() as patch:
        stop_after(patch, num_batches)
        assert run(words, root, "stopped", parent, *options) == 143
    again = [*options, '--task.net_args={"width": 8}', "--resume=auto"]
    assert train.main(words(root, "stopped", *again)) == 0
    assert_equal_weights(tmp_path / "whole" / "last.ckpt", tmp_path / "stopped" / "last.ckpt")
    assert "--warm-start" in load(tmp_path / "stopped" / "last.ckpt").provenance.command
    assert not (tmp_path / "stopped" / "wide").exists()


def test_a_run_stopped_while_channels_were_back_is_no_other_run(
    folder: Folder,
    words: Words,
    parent: Path,
    tmp_path: Path,
    stop_after: Stop,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = folder("grown", ("red", "green", "blue"))
    options = ["--sparsity=regrow", "--fit.epochs=4"]
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        assert run(words, root, "stopped", parent, *options) == 143
    state = (tmp_path / "stopped" / "wide" / "last.ckpt").read_bytes()
    again = words(root, "stopped", *options, '--task.net_args={"width": 8}', "--resume=auto")
    named = f"--resume={tmp_path}/stopped/wide/last.ckpt"
    assert train.main([*again[:-1], named]) == 2
    assert f"go on with --run {tmp_path}/stopped --resume auto" in capsys.readouterr().err
    assert train.main([*again, "--task.optimization.lr=1"]) == 2
    assert "--resume cannot change task.optimization.lr" in capsys.readouterr().err
    other = Classification(["green", "red"], (32, 32), net_args={"width": 8})
    save(parent, other)
    assert train.main(again) == 2
    assert "not the checkpoint that the run began with" in capsys.readouterr().err
    assert (tmp_path / "stopped" / "wide" / "last.ckpt").read_bytes() == state


@pytest.mark.parametrize("option", ["--fit.ema=0.9", "--fit.patience=1"])
def test_channels_that_were_back_are_cut_alike_after_a_kill(
    folder: Folder,
    words: Words,
    parent: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    assert_equal_weights: Equal,
) -> None:
    root = folder("grown", ("red", "green", "blue"))
    options = ["--sparsity=regrow", "--fit.epochs=6", option]
    assert run(words, root, "whole", parent, *options) == 0

    def die(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # before the first checkpoint after the cut
        patch.setattr(Throughput, "on_train_batch_end", die)
        assert run(words, root, "killed", parent, *options) == 143
    assert [file.name for file in (tmp_path / "killed").glob("*.ckpt")] == ["best.ckpt"]
    again = [*options, '--task.net_args={"width": 8}', "--resume=auto"]
    assert train.main(words(root, "killed", *again)) == 0
    assert_equal_weights(tmp_path / "whole" / "last.ckpt", tmp_path / "killed" / "last.ckpt")


def test_channels_come_back_in_one_process(
    folder: Folder,
    words: Words,
    parent: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--fit.accelerator=cpu", "--fit.devices=2", "--fit.strategy=ddp"]
    assert run(words, folder(), "run", parent, "--sparsity=regrow", *options) == 2
    assert "sparsity regrow works in one process; set fit.devices to 1" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
