"""Whatever options a run has, stopped or killed anywhere it ends with the same weights."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from regrow.errors import BadInput
from regrow.models.checkpoint import read
from regrow.pipelines import commands
from regrow.scripts import train
from regrow.training.trainer import RefuseNaN
from regrow.training.unfinished import KEY

Words = Callable[..., list[str]]
Folder = Callable[..., Path]
Equal = Callable[[Path, Path], None]

# Six batches an epoch, of 4 images; steps of four batches: the second one of an epoch has two.
SHORT = ["--data.batch_size=4", "--fit.images=0", "--fit.epochs=3"]
WINDOW = "--fit.trainer.accumulate_grad_batches=4"
OPTIONS = {
    "window": [WINDOW],
    "window, average": [WINDOW, "--fit.ema=0.9"],
    "window, clipped": [WINDOW, "--fit.clip=0.1"],
    "window, validated within": [WINDOW, "--fit.trainer.val_check_interval=3"],
    "validated within": ["--fit.trainer.val_check_interval=2", "--fit.patience=50"],
    "validated within, not at the end": ["--fit.trainer.val_check_interval=4"],
    "validated within, average": ["--fit.trainer.val_check_interval=0.5", "--fit.ema=0.9"],
    "validated every second epoch": ["--fit.trainer.check_val_every_n_epoch=2"],
    "fewer batches": ["--fit.trainer.limit_train_batches=5", "--fit.trainer.limit_val_batches=2"],
}
STOPS = [("term", 9), ("term", 3), ("term", 14), ("kill", 8), ("kill", 15)]


class Killed(BaseException):
    """What ends a process with no word to it."""


def stop_at(monkeypatch: pytest.MonkeyPatch, how: str, num_batches: int) -> None:
    """End a run after so many batches: `kill` leaves what files there are, `term` is polite."""
    counted = 0

    def hook(self: RefuseNaN, *args: Any, **options: Any) -> None:
        nonlocal counted
        counted += 1
        if counted == num_batches and how == "kill":
            raise Killed
        if counted == num_batches:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(RefuseNaN, "on_train_batch_end", hook, raising=False)


def assert_same_run(one: Path, other: Path, assert_equal_weights: Equal) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        assert_equal_weights(one / name, other / name)
        first, second = read(one / name), read(other / name)
        for key in ("epoch", "global_step"):
            assert first[key] == second[key], f"{name} {key}"


@pytest.mark.parametrize(
    "stops",
    [
        pytest.param(STOPS[:1], id="once"),
        pytest.param(STOPS[1:], id="anywhere", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("option", OPTIONS)
def test_a_run_goes_on_bit_for_bit(
    folder: Folder,
    words: Words,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    stops: list[tuple[str, int]],
    assert_equal_weights: Equal,
) -> None:
    root, own = folder(), [*SHORT, *OPTIONS[option]]
    commands.train(words(root, "whole", *own))
    assert read(tmp_path / "whole" / "last.ckpt")["epoch"] == 2, "the end of a run is in its file"
    for how, num_batches in stops:
        run = f"{how}{num_batches}"
        with monkeypatch.context() as patch:
            stop_at(patch, how, num_batches)
            if how == "term":
                assert train.main(words(root, run, *own)) == 143
            else:
                with pytest.raises(Killed):
                    train.main(words(root, run, *own))
        assert train.main(words(root, run, *own, "--resume=auto")) == 0
        assert_same_run(tmp_path / "whole", tmp_path / run, assert_equal_weights)


def points(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Read what TensorBoard draws, but for times."""
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if "per_second" not in tag]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def test_a_run_that_was_killed_draws_each_point_once(
    folder: Folder, words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, later = time.time, 0
    # TensorBoard reads files in the order of the seconds in their names.
    monkeypatch.setattr(time, "time", lambda: now() + later)
    root, own = folder(), [*SHORT[:1], "--fit.epochs=3", "--fit.trainer.log_every_n_steps=1"]
    commands.train(words(root, "whole", *own))
    resume: list[str] = []
    for how, num_batches in (("kill", 8), ("kill", 4), ("term", 3), ("kill", 4)):
        with monkeypatch.context() as patch:
            stop_at(patch, how, num_batches)
            if how == "term":
                assert train.main(words(root, "run", *own, *resume)) == 143
            else:
                with pytest.raises(Killed):
                    train.main(words(root, "run", *own, *resume))
        resume, later = ["--resume=auto"], later + 2
    for _ in range(2):  # again when it is finished
        assert train.main(words(root, "run", *own, *resume)) == 0
        later += 2
    whole = points(tmp_path / "whole")
    assert [step for step, _ in whole["train/loss"]] == list(range(18))
    assert [step for step, _ in whole["val/accuracy"]] == [5, 11, 17]
    assert points(tmp_path / "run") == whole
    pictures = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in pictures.Images("val/predictions")] == [5, 11, 17]


def test_a_run_that_stopped_early_is_over(
    folder: Folder, words: Words, tmp_path: Path, assert_equal_weights: Equal
) -> None:
    # Without a rate no score rises, so the third epoch is the last one that patience allows.
    own = ["--fit.images=0", "--fit.epochs=9", "--fit.patience=2", "--task.optimization.lr=0"]
    root = folder()
    commands.train(words(root, "run", *own))
    before = read(tmp_path / "run" / "last.ckpt")
    assert before["epoch"] == 2
    commands.train(words(root, "run", *own, "--resume=auto"))
    after = read(tmp_path / "run" / "last.ckpt")
    assert (after["epoch"], after["global_step"]) == (2, before["global_step"])


def test_gradients_of_another_network_are_refused(
    folder: Folder, words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder()
    with monkeypatch.context() as patch:
        stop_at(patch, "term", 2)
        assert train.main(words(root, "run", *SHORT, WINDOW)) == 143
    last = tmp_path / "run" / "last.ckpt"
    payload = read(last)
    sound = payload[KEY]["gradients"]
    assert sound, "two of four batches are seen"
    name = next(iter(sound))
    for wrong in (
        [],
        {"is_to_end": False, "gradients": {**sound, name: sound[name][..., None]}},
        {"is_to_end": False, "gradients": {**sound, "net.none": sound[name]}},
        {"is_to_end": False, "gradients": {**sound, name: 1}},
    ):
        torch.save({**payload, KEY: wrong}, last)
        with pytest.raises(BadInput, match="gradients are not of this network"):
            commands.train(words(root, "run", *SHORT, WINDOW, "--resume=auto"))
