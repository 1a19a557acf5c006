"""A run's progress survives the file that it is kept in."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regrow.errors import BadInput
from regrow.models.checkpoint import load, read, save
from regrow.models.classification import Classification
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.surgery import cut_
from regrow.prune.removal import Cut
from regrow.prune.schedule import Pace
from regrow.prune.state import (
    KEY,
    TRIAL,
    Attempt,
    Progress,
    Step,
    load_progress,
    save_progress,
)


def make() -> Progress:
    torch.manual_seed(0)
    task = Classification(["a", "b"], (16, 16), net="small").eval()
    group = find_groups(task).groups[1]
    removed = cut_(task, [(group, [1, 3])])
    task.momenta = {"head.weight": {"exp_avg": torch.rand(2, 64), "step": torch.tensor(7.0)}}
    step = Step(1, 10, 20, 0.5, None, 0.75, True, {"stem.0": [1]}, {"stem.0": 15}, 1e-16)
    return Progress(
        task,
        baseline=0.8,
        pace=Pace(0.5, 0.5, 0.25),
        steps=[step],
        cuts=[Cut(removed, {group.layer: [1, 3]}, 1e-16)],
        refused={"other": "its reason"},
        importance={group.layer: [0.0, 1.0, 2.0, 3.0, 4.0], "other": [1.0, 2.0]},
        sensitivity={group.layer: 0.1},
    )


def test_all_of_it_comes_back(tmp_path: Path) -> None:
    state, path = make(), tmp_path / "progress.ckpt"
    save_progress(path, state, {"num_steps": 3})
    again, settings = load_progress(path)
    assert settings == {"num_steps": 3}
    for name in ("baseline", "pace", "steps", "cuts", "refused", "stopped", "is_finished"):
        assert getattr(again, name) == getattr(state, name)
    assert (again.importance, again.sensitivity) == (state.importance, state.sensitivity)
    for name, value in state.task.net.state_dict().items():
        assert torch.equal(again.task.net.state_dict()[name], value)
    assert torch.equal(
        again.task.momenta["head.weight"]["exp_avg"], state.task.momenta["head.weight"]["exp_avg"]
    )
    # It is a checkpoint of the network too.
    images = state.task.example_images(2)
    assert torch.equal(load(path)(images)["logits"], state.task(images)["logits"])


def test_a_run_of_one_step_that_cost_no_score_comes_back(tmp_path: Path) -> None:
    """Its next step would be longer than the whole way."""
    state, path = make(), tmp_path / "progress.ckpt"
    state.pace = Pace.begin(1).after(0.0)
    save_progress(path, state, {})
    assert load_progress(path)[0].pace == state.pace == Pace(1.0, 1.0, 1.5)


def test_the_time_that_was_measured_comes_back_with_a_cut(tmp_path: Path) -> None:
    state, path = make(), tmp_path / "progress.ckpt"
    state.steps[0] = replace(state.steps[0], latency=0.6)
    rolled_back = replace(state.steps[0], index=2, is_kept=False, latency=0.3)
    final = replace(state.steps[0], index=3, is_final=True, latency=0.55)
    state.steps += [rolled_back, final]
    cut = replace(state.cuts[0], latency=0.5)
    for measured in (0.5, None):
        state.attempt = Attempt(4, state.task, replace(cut, latency=measured))
        save_progress(path, state, {})
        again, _ = load_progress(path)
        assert [cut.latency for cut in again.cuts] == [0.6]
        assert again.attempt is not None
        assert again.attempt.cut == state.attempt.cut
    assert all(step.latency is None for step in make().steps)


def test_more_cuts_than_steps_are_bad_input(tmp_path: Path) -> None:
    state, path = make(), tmp_path / "progress.ckpt"
    state.cuts *= 2
    save_progress(path, state, {})
    with pytest.raises(BadInput, match="its pruning record cannot be read"):
        load_progress(path)


def test_kept_units_are_counted_as_at_the_start() -> None:
    state = make()
    layer = state.cuts[0].units.popitem()[0]
    state.cuts = [Cut({}, {layer: [1, 3]}, 0.0), Cut({}, {layer: [0, 2]}, 0.0)]
    # 0 1 2 3 4 loses its second and fourth, then of 0 2 4 the first and last.
    assert state.kept_units() == {layer: [2], "other": [0, 1]}


def test_other_checkpoints_and_other_records_are_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "progress.ckpt"
    state = make()
    save(path, state.task)
    with pytest.raises(BadInput, match="no state of a pruning run"):
        load_progress(path)
    save_progress(path, state, {})
    payload = read(path)
    del payload[KEY]["pace"]
    torch.save(payload, path)
    with pytest.raises(BadInput, match=r"progress\.ckpt: its pruning record cannot be read .*pace"):
        load_progress(path)


@pytest.mark.parametrize("error", [torch.zeros(2), "x", None])
def test_errors_of_cuts_that_are_no_numbers_are_bad_input(tmp_path: Path, error: object) -> None:
    path, state = tmp_path / "progress.ckpt", make()
    state.attempt = Attempt(2, state.task, state.cuts[0])
    save_progress(path, state, {})
    for file, told in ((path, "start the run without --resume"), (tmp_path / TRIAL, "remove it")):
        whole = file.read_bytes()
        payload = read(file)
        cuts = payload[KEY]["cuts"] if file == path else [payload[KEY]["cut"]]
        cuts[0]["error"] = error
        torch.save(payload, file)
        with pytest.raises(BadInput, match=rf"{file.name}: its pruning record .*{told}"):
            load_progress(path)
        file.write_bytes(whole)
