"""A pruning run that is stopped while it trains goes on within that training."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from regrow.models.checkpoint import load
from regrow.pipelines import commands
from regrow.prune.removal import Channels
from regrow.scripts import prune
from regrow.training import trainer

Words = Callable[..., list[str]]
Folder = Callable[..., Path]
Trained = Callable[..., Path]
EPOCHS, FINAL_EPOCHS, BATCHES = 3, 2, 8
OPTIONS = [
    "--clock.runtime=torch",
    "--search=null",
    "--num_steps=2",
    "--adapts=false",
    f"--recovery.epochs={EPOCHS}",
    f"--final_epochs={FINAL_EPOCHS}",
    "--budget.max_drop=1",
    "--data.batch_size=3",
]
NUM_BATCHES = BATCHES * (2 * EPOCHS + FINAL_EPOCHS)


@pytest.fixture
def dense(trained: Trained) -> Path:
    """Return the checkpoint of a small trained network."""
    return trained("dense")


class Stops:
    """Stops a training after so many batches; counts all batches that were trained on."""

    def __init__(self, after: int | None, how: Callable[[], None]) -> None:
        self.after, self.how, self.count = after, how, 0

    def __call__(self, callback: Any, *args: Any) -> None:
        self.count += 1
        if self.after is not None and self.count == self.after:
            self.how()


def terminated() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def interrupted() -> None:
    raise KeyboardInterrupt


def in_rounds(
    words: list[str], after: int, how: Callable[[], None], patch: pytest.MonkeyPatch
) -> list[int]:
    """Run, stop, and go on until the run ends; give how many batches each round trained on."""
    counts: list[int] = []
    while len(counts) < NUM_BATCHES:
        stops = Stops(after, how)
        patch.setattr(trainer.RefuseNaN, "on_train_batch_end", lambda *args: stops(*args))  # noqa: B023
        code = prune.main([*words, f"--resume={'true' if counts else 'false'}"])
        counts.append(stops.count)
        if code == 0:
            return counts
        assert code == 143
    raise AssertionError("the run does not end")


@pytest.mark.parametrize(
    ("how", "after", "more"),
    [
        pytest.param(terminated, 5, [], id="SIGTERM within epochs"),
        pytest.param(interrupted, BATCHES + 3, [], id="killed after an epoch"),
        pytest.param(terminated, 29, ["--lr_grid=[0.0001, 0.01]"], id="a grid of rates"),
        pytest.param(
            terminated, 7, ["--recovery.ema=0.5"], id="average of weights", marks=pytest.mark.slow
        ),
        pytest.param(
            terminated, 7, ["--distillation.weight=1"], id="a teacher", marks=pytest.mark.slow
        ),
        pytest.param(terminated, 7, ["--weights.share=0.5"], id="masks", marks=pytest.mark.slow),
        pytest.param(
            terminated, 7, ["--recovery.patience=2"], id="early stopping", marks=pytest.mark.slow
        ),
    ],
)
def test_a_run_stopped_again_and_again_ends_bit_for_bit(
    how: Callable[[], None],
    after: int,
    more: list[str],
    dense: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [f"--config={dense.parent / 'data.yaml'}", f"--checkpoint={dense}", *OPTIONS, *more]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    with monkeypatch.context() as patch:
        counts = in_rounds([*words, f"--run={whole}"], -1, how, patch)
    num_batches = counts[0]
    assert len(counts) == 1
    if not more:
        assert num_batches == NUM_BATCHES
    with monkeypatch.context() as patch:
        counts = in_rounds([*words, f"--run={stopped}"], after, how, patch)
    if how is terminated:  # no batch is trained on twice
        assert sum(counts) == num_batches
        assert len(counts) == -(-num_batches // after) + (num_batches % after == 0)
    states = [load(run / "pruned.ckpt").net.state_dict() for run in (whole, stopped)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    left = {file.name for file in stopped.iterdir()}
    assert not left & {"progress.ckpt", "trial.ckpt", "recovery", "rates.json"}


def test_a_cut_is_not_made_again(
    dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"--checkpoint={dense}", *OPTIONS, f"--run={tmp_path / 'prune'}"]
    cuts = 0
    original = Channels.cut_

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal cuts
        cuts += 1
        return original(*args, **options)

    monkeypatch.setattr(Channels, "cut_", counted)
    stops = Stops(3, terminated)
    with monkeypatch.context() as patch:
        patch.setattr(trainer.RefuseNaN, "on_train_batch_end", lambda *args: stops(*args))
        assert prune.main([f"--config={dense.parent / 'data.yaml'}", *words]) == 143
    assert cuts == 1
    assert prune.main([f"--config={dense.parent / 'data.yaml'}", *words, "--resume=true"]) == 0
    assert cuts == 2  # that of the second step


def test_each_epoch_of_a_recovery_is_a_line(
    dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.prune([f"--checkpoint={dense}", *OPTIONS[:-1], f"--run={tmp_path / 'prune'}"])
    captured = capsys.readouterr()
    lines = [line.split("  ")[0] for line in captured.err.splitlines() if line.startswith("epoch")]
    recovery = [f"epoch {number + 1}/{EPOCHS}" for number in range(EPOCHS)]
    final = [f"epoch {number + 1}/{FINAL_EPOCHS}" for number in range(FINAL_EPOCHS)]
    assert lines == [*recovery, *recovery, *final]
    for index, count in ((1, EPOCHS), (2, EPOCHS), (3, FINAL_EPOCHS)):
        assert f"step {index}: training, {count} epochs" in captured.out


def test_a_damaged_trial_is_one_line(
    dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"--checkpoint={dense}", *OPTIONS[:-1], f"--run={tmp_path / 'prune'}"]
    stops = Stops(3, terminated)
    with monkeypatch.context() as patch:
        patch.setattr(trainer.RefuseNaN, "on_train_batch_end", lambda *args: stops(*args))
        assert prune.main(words) == 143
    (tmp_path / "prune" / "trial.ckpt").write_bytes(b"torn")
    capsys.readouterr()
    assert prune.main([*words, "--resume=true"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "trial.ckpt" in line
