"""A training run is begun, stopped, resumed to the same weights, and finished with a report."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback

from regrow.data.module import GrowingData
from regrow.errors import BadInput, CheckFailed
from regrow.incremental.gating.gate import Gate
from regrow.models.checkpoint import net_state, read, save
from regrow.models.classification import Classification
from regrow.pipelines.lead import Kept
from regrow.pipelines.training.request import Request
from regrow.pipelines.training.session import Session, _in_words, _warn_of_nothing
from regrow.training.evaluation import Evaluation
from regrow.training.fit import Fit

Ask = Callable[..., Request]
Equal = Callable[[Path, Path], None]
SETTINGS = {"fit": {"epochs": 2}, "data": {"batch_size": 8}}
STEPS = 3  # an epoch: 24 images, 8 in a batch


class Broken(Exception):
    """Something that ends a process."""


class Break(Callback):
    """End a training after some steps."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise Broken


@pytest.fixture
def ask(data: GrowingData, tmp_path: Path) -> Ask:
    make = partial(Classification, net_args={"width": 4})
    fit = Fit(epochs=2, devices=1, images=0)

    def ask(run: str = "run", **options: Any) -> Request:
        torch.manual_seed(0)
        return Request(make, data, fit, tmp_path / run, **{"settings": SETTINGS} | options)

    return ask


def finished(session: Session) -> dict[str, Any]:
    session.train()
    return session.finish(time.monotonic()).figures


def stopped(request: Request, step: int) -> None:
    session = Session.begun(request)
    session.trainer.callbacks.append(Break(step))
    with pytest.raises(Broken):
        session.train()


def evaluation(value: float, num_images: int) -> Evaluation:
    evidence = Classification(["a", "b"], (16, 16)).make_evidence()
    return Evaluation("accuracy", value, {}, {}, evidence, num_images)


def test_a_resumed_run_ends_with_the_same_weights(
    ask: Ask, tmp_path: Path, assert_equal_weights: Equal, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = finished(Session.begun(ask("whole")))
    stopped(ask(), STEPS + 1)
    session = Session.resumed(ask(resume="auto"))
    assert session.done == STEPS
    assert session.checkpoint is not None
    assert f"going on from {session.checkpoint}, after {STEPS} steps" in capsys.readouterr().out
    again = finished(session)
    assert_equal_weights(tmp_path / "whole" / "last.ckpt", tmp_path / "run" / "last.ckpt")
    assert again["scores"] == whole["scores"]
    assert read(tmp_path / "run" / "last.ckpt")["global_step"] == 2 * STEPS
    # Of a finished run only what comes after the training is done again.
    finished(Session.resumed(ask(resume="auto")))
    assert f"{tmp_path / 'run'}: its training was finished already" in capsys.readouterr().out
    assert_equal_weights(tmp_path / "whole" / "last.ckpt", tmp_path / "run" / "last.ckpt")


def test_a_resumed_run_repeats_its_settings(ask: Ask, tmp_path: Path) -> None:
    stopped(ask(), STEPS + 1)
    other = SETTINGS | {"fit": {"epochs": 3}}
    with pytest.raises(BadInput, match=r"^--resume cannot change fit\.epochs from 2 to 3; keep it"):
        Session.resumed(ask(resume="auto", settings=other))
    start = {"warm_start": tmp_path / "run" / "last.ckpt"}
    with pytest.raises(BadInput, match="holds a run that began without --warm-start; leave that"):
        Session.resumed(ask(resume="auto", **start))


def test_there_is_nothing_to_resume_in_a_folder_without_a_run(ask: Ask, tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refused:
        Session.resumed(ask(resume="auto"))
    assert str(refused.value) == (
        f"{tmp_path / 'run'} has no checkpoint to resume from; start the run without --resume"
    )
    assert not (tmp_path / "run").exists()


def test_a_run_never_moves_the_network_that_is_served(ask: Ask, tmp_path: Path) -> None:
    request = ask(gate=Gate(floor=0.0), promoted=tmp_path / "promoted.json")
    finished(Session.begun(request))
    served = tmp_path / "run" / "best.ckpt"
    assert request.served == served
    with pytest.raises(BadInput, match=f"^{served} is part of the run in {tmp_path / 'run'}, "):
        Session.begun(request)
    assert served.is_file()


def test_a_file_that_is_not_the_network_that_was_scored_is_not_served(
    ask: Ask, tmp_path: Path
) -> None:
    session = Session.begun(ask(gate=Gate(floor=0.0)))
    session.train()
    payload = read(tmp_path / "run" / "best.ckpt")
    torch.manual_seed(9)
    other = Classification(["a", "b"], (16, 16), net_args={"width": 4})
    other.provenance = session.task.provenance
    with torch.no_grad():
        other.net.head.weight.mul_(100)
    save(tmp_path / "run" / "best.ckpt", other, {"epoch": payload["epoch"]})
    with pytest.raises(CheckFailed) as failed:
        session.finish(time.monotonic())
    figures = json.loads((tmp_path / "run" / "report.json").read_text())
    assert figures["gate"]["is_passed"] is False
    assert figures["gate"]["served"] is None
    assert str(failed.value) in figures["gate"]["reasons"]
    assert f"{failed.value}." in (tmp_path / "run" / "report.md").read_text()
    assert not (tmp_path / "run" / "promoted.json").exists()


def test_the_weights_that_are_kept_are_loaded_after_training(ask: Ask) -> None:
    session = Session.begun(ask())
    before = {name: value.clone() for name, value in session.task.net.named_parameters()}
    session.train()
    kept = net_state(read(session.request.run / "best.ckpt"))
    now = dict(session.task.net.named_parameters())
    assert any(not torch.equal(now[name], before[name]) for name in now), "it was trained"
    assert all(torch.equal(now[name], kept[name]) for name in now), "what is kept is loaded"


def test_the_last_line_tells_what_was_kept(tmp_path: Path) -> None:
    found = {"val": evaluation(0.5, 8), "test": evaluation(0.25, 4)}
    kept = Kept(tmp_path / "best.ckpt", 2, 3, True, "accuracy")
    scores = "accuracy 0.2500 on 4 test images, 0.5000 on 8 validation images"
    assert _in_words(kept, found) == f"{tmp_path}/best.ckpt, epoch 2 of 3: {scores}"
    old = replace(kept, epoch=0)
    assert _in_words(old, found) == (
        f"{tmp_path}/best.ckpt, epoch 0 of 3, the old network, which no epoch surpassed: {scores}"
    )


def test_a_network_that_has_nothing_right_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    _warn_of_nothing({"val": evaluation(0.0, 8), "test": evaluation(0.25, 4)})
    assert capsys.readouterr().err == ""
    _warn_of_nothing({"val": evaluation(0.0, 8), "test": evaluation(0.0, 4)})
    assert "accuracy is 0 on all images: the network has learned nothing" in capsys.readouterr().err
