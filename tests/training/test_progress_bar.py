"""One bar shows a whole run; without a terminal there is a line an epoch."""

import re
from collections.abc import Callable
from functools import partial
from io import StringIO
from typing import Any

import pytest
from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console

from regrow.progress import progress
from regrow.training.progress_bar import RunProgress

pytestmark = [
    # Lightning 2.6 with torch 2.15.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning"),
    # The loaders of these tests have no workers.
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


def test_progress_shows_epoch_batches_time_left_and_score(fit_line: Callable[..., Trainer]) -> None:
    out = StringIO()
    console = Console(file=out, force_terminal=True, width=160, color_system=None)
    fit_line(RunProgress(console), epochs=2)
    last = out.getvalue().split("epoch ")[-1]
    assert last.startswith("2/2")
    assert "12/12 batches" in last
    assert "0:00:00 left" in last
    assert "val/accuracy" in last


def test_without_a_terminal_there_is_a_line_an_epoch(fit_line: Callable[..., Trainer]) -> None:
    out = StringIO()
    trainer = fit_line(RunProgress(Console(file=out)), epochs=2)
    first, second = out.getvalue().splitlines()
    assert re.fullmatch(r"epoch 1/2  val/accuracy 0\.\d{4}  .*0:\d\d:\d\d left", first)
    score = float(trainer.callback_metrics["val/accuracy"])
    assert score == 0.5
    assert second.startswith(f"epoch 2/2  val/accuracy {score:.4f}  ")
    assert second.endswith("  0:00:00 left")


def test_recovery_is_silent_without_a_terminal(fit_line: Callable[..., Trainer]) -> None:
    out = StringIO()
    fit_line(RunProgress(Console(file=out), says_epochs=False))
    assert out.getvalue() == ""


def test_training_is_silent_within_another_bar(
    fit_line: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, outer = StringIO(), StringIO()
    terminal = partial(Console, file=outer, force_terminal=True, width=120)
    monkeypatch.setattr("regrow.progress.Console", lambda **_: terminal())
    for _ in progress([1], "contestants"):
        fit_line(RunProgress(Console(file=out, force_terminal=True, width=120)))
    assert out.getvalue() == ""
    assert "contestants" in outer.getvalue()
    fit_line(RunProgress(Console(file=out, force_terminal=True, width=120)))
    assert "batches" in out.getvalue()


def test_progress_gives_the_terminal_back_after_an_error(fit_line: Callable[..., Trainer]) -> None:
    class Failing(Callback):
        def on_train_batch_end(self, *args: Any, **options: Any) -> None:
            raise RuntimeError("in training")

    out = StringIO()
    bar = RunProgress(Console(file=out, force_terminal=True, width=120))
    with pytest.raises(RuntimeError, match="in training"):
        fit_line(bar, Failing())
    assert out.getvalue().count("\x1b[?25h") == 1  # the cursor is shown again


def test_progress_is_silent_on_further_processes(line: LightningModule) -> None:
    out = StringIO()
    bar = RunProgress(Console(file=out, force_terminal=True))
    bar.disable()
    bar.on_train_start(Trainer(logger=False, enable_checkpointing=False), line)
    assert out.getvalue() == ""
    bar.enable()
    assert bar._is_enabled


def test_without_validation_there_is_a_line_an_epoch_too(fit_line: Callable[..., Trainer]) -> None:
    out = StringIO()
    fit_line(RunProgress(Console(file=out)), epochs=2, limit_val_batches=0)
    first, second = out.getvalue().splitlines()
    assert re.fullmatch(r"epoch 1/2  0:\d\d:\d\d left", first)
    assert second == "epoch 2/2  0:00:00 left"


def test_a_run_without_end_has_no_time_left(fit_line: Callable[..., Trainer]) -> None:
    out = StringIO()
    fit_line(RunProgress(Console(file=out)), epochs=-1, max_steps=6)
    assert out.getvalue() == "epoch 1/-1  val/accuracy 0.2500\n"
