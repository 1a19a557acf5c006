"""What a pruning run is given, and from where it goes on."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.files import file_hash
from regrow.models.checkpoint import save
from regrow.models.classification import Classification
from regrow.pipelines.pruning.inputs import PROGRESS, RECOVERY, Inputs, Record
from regrow.prune.removal import NOTHING
from regrow.prune.schedule import Pace
from regrow.prune.state import TRIAL, Attempt, Progress
from regrow.training.fit import Fit

FIT = Fit(devices=1, accelerator="cpu")


def written(path: Path, size: int = 16, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    save(path, Classification(["b", "a"], (size, size), net_args={"width": 4}))
    return path


def test_the_network_is_its_own_reference_unless_there_is_another(
    tmp_path: Path, data: GrowingData
) -> None:
    one, two = written(tmp_path / "one.ckpt"), written(tmp_path / "two.ckpt", seed=1)
    alone = Inputs.read(one, None, data, FIT, ())
    assert alone.task is alone.dense
    assert alone.hashes == [file_hash(one)]
    # Labels are numbered as the rows of the network's head: images take turns, a first.
    assert alone.task.classes == ["b", "a"]
    assert next(iter(data.val_dataloader()))[1].tolist() == [1, 0] * 4
    both = Inputs.read(one, two, data, FIT, ())
    assert both.hashes == [file_hash(one), file_hash(two)]
    weights = [task.net.head.weight for task in (both.task, both.dense)]
    assert not torch.equal(*weights)
    assert torch.equal(weights[0], alone.task.net.head.weight)
    assert (both.checkpoint, both.seen) == (one, [])


def test_a_network_of_images_of_another_size_is_bad_input(
    tmp_path: Path, data: GrowingData
) -> None:
    with pytest.raises(BadInput, match=r"one\.ckpt is for images of \(8, 8\); set data\.size"):
        Inputs.read(written(tmp_path / "one.ckpt", size=8), None, data, FIT, ())


def progress() -> Progress:
    task = Classification(["a", "b"], (16, 16), net_args={"width": 4})
    return Progress(task, 0.75, Pace.begin(2))


def test_a_run_goes_on_with_the_same_settings_alone(tmp_path: Path) -> None:
    state = progress()
    record = Record(tmp_path, {"num_steps": 2, "parents": ["ab"]})
    with pytest.raises(BadInput, match="has no pruning run that was stopped"):
        record.read(state.task, ())
    record.save(state)
    assert record.read(state.task, ()).baseline == 0.75
    other = replace(record, settings={"num_steps": 3, "parents": ["ab"]})
    with pytest.raises(BadInput, match="--resume cannot change num_steps from 2 to 3"):
        other.read(state.task, ())
    record.remove()
    record.remove()
    assert not (tmp_path / PROGRESS).exists()


@pytest.mark.parametrize(
    ("name", "default", "other"),
    [
        ("selection.normalizer", "mean", "none"),
        ("compensate", False, True),
        ("search", None, "some"),
        ("search.minutes", None, 1.0),
    ],
)
def test_a_run_of_before_an_option_goes_on_with_its_default_alone(
    tmp_path: Path, name: str, default: object, other: object
) -> None:
    state, began = progress(), {"num_steps": 2}
    Record(tmp_path, began).save(state)
    assert Record(tmp_path, began | {name: default}).read(state.task, ()).baseline == 0.75
    with pytest.raises(BadInput, match=f"--resume cannot change {name} from {default} to {other}"):
        Record(tmp_path, began | {name: other}).read(state.task, ())


def test_the_state_of_a_training_is_kept_until_its_step_is_recorded(tmp_path: Path) -> None:
    state, record = progress(), Record(tmp_path, {})
    training = tmp_path / RECOVERY / "1" / "last.ckpt"
    training.parent.mkdir(parents=True)
    training.touch()
    state.attempt = Attempt(1, state.task, NOTHING)
    record.save(state)
    assert training.exists()
    assert record.read(state.task, ()).attempt is not None
    state.attempt = None
    record.save(state)
    assert not (tmp_path / RECOVERY).exists()
    assert not (tmp_path / TRIAL).exists()
