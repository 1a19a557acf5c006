"""The stages of a run: the furthest checkpoint of each, and the stage to go on in."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from regrow.errors import BadInput
from regrow.models.checkpoint import read, save
from regrow.models.classification import Classification
from regrow.training.resume import can_go_on, find_stopped
from regrow.training.stages import (
    earlier_stage,
    furthest,
    is_resumable,
    remove_earlier,
    way_to_resume,
)


@pytest.fixture
def task() -> Classification:
    return Classification(["ant", "bee"], (32, 32), net_args={"width": 4})


def _stopped(path: Path, task: Classification, step: int) -> Path:
    """Write a checkpoint as a training run does after a step."""
    state: dict[str, Any] = {"global_step": step, "epoch": 1, "loops": {}, "callbacks": {}}
    state |= {"optimizer_states": [], "lr_schedulers": []}
    save(path, task)
    torch.save(torch.load(path) | state, path)
    return path


def test_the_furthest_has_most_steps_whatever_its_time(
    task: Classification, tmp_path: Path
) -> None:
    late = _stopped(tmp_path / "best.ckpt", task, 10)
    early = _stopped(tmp_path / "last.ckpt", task, 9)
    os.utime(late, (1, 1))
    os.utime(early, (2, 2))
    assert furthest(tmp_path) == late


def test_of_equals_the_last_is_furthest(task: Classification, tmp_path: Path) -> None:
    for name in ("best", "last", "other"):
        _stopped(tmp_path / f"{name}.ckpt", task, 10)
    assert furthest(tmp_path) == tmp_path / "last.ckpt"


def test_what_is_torn_is_passed_over(
    task: Classification, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = _stopped(tmp_path / "best.ckpt", task, 1)
    torn = _stopped(tmp_path / "last.ckpt", task, 2)
    torn.write_bytes(torn.read_bytes()[:1000])
    assert furthest(tmp_path) == whole
    assert "passed over: " in capsys.readouterr().err


def test_a_network_without_its_training_is_none_to_resume(
    task: Classification, tmp_path: Path
) -> None:
    save(tmp_path / "pruned.ckpt", task)
    assert furthest(tmp_path) is None
    assert furthest(tmp_path / "missing") is None
    payload = read(_stopped(tmp_path / "last.ckpt", task, 1))
    assert is_resumable(payload)
    assert not is_resumable(payload | {"callbacks": [1]})


def test_a_run_goes_on_in_its_last_stage_once_that_has_a_state(
    task: Classification, tmp_path: Path
) -> None:
    assert (way_to_resume(tmp_path), earlier_stage(tmp_path)) == (None, None)
    (tmp_path / "wide").mkdir()
    assert (way_to_resume(tmp_path), earlier_stage(tmp_path)) == (None, None)
    _stopped(tmp_path / "wide" / "last.ckpt", task, 50)
    save(tmp_path / "best.ckpt", task)  # the old network as it came has no state
    assert (way_to_resume(tmp_path), earlier_stage(tmp_path)) == ("auto", tmp_path / "wide")
    assert can_go_on(tmp_path)
    last = _stopped(tmp_path / "last.ckpt", task, 1)
    assert (way_to_resume(tmp_path), earlier_stage(tmp_path)) == (str(last), None)
    remove_earlier(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]


def test_a_folder_that_is_no_stage_is_left_alone(task: Classification, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    _stopped(tmp_path / "mine" / "last.ckpt", task, 5)
    assert way_to_resume(tmp_path) is None
    remove_earlier(tmp_path)
    assert (tmp_path / "mine" / "last.ckpt").is_file()


def test_the_state_of_an_earlier_stage_is_not_named_by_its_file(
    task: Classification, tmp_path: Path
) -> None:
    (tmp_path / "wide").mkdir()
    state = _stopped(tmp_path / "wide" / "last.ckpt", task, 5)
    with pytest.raises(BadInput, match=f"earlier stage .* --run {tmp_path} --resume auto"):
        find_stopped(tmp_path, str(state))
