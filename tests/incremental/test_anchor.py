"""What is kept lies between the trained weights and the old ones, also under masks that move."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor, nn

from regrow.data.module import GrowingData
from regrow.incremental.anchor import Anchor, old_weights
from regrow.incremental.dynamic_sparsity import DynamicSparsity
from regrow.incremental.expand import expand_
from regrow.models.checkpoint import load, net_state, read
from regrow.models.class_rows import ClassRows
from regrow.models.masks import masks_of
from regrow.models.task import Task
from regrow.training.fit import Fit
from regrow.training.trainer import make_trainer, train

MaskedTask = Callable[..., Task]
Stop = Callable[[int], Callback]
Equal = Callable[[Path, Path], None]
SHARE = 0.3
ENTRIES = ("background", "a", "b", "c"), ("background", "d", "B", "c")


def test_old_rows_are_found_by_name_in_every_block(make_task: Callable) -> None:
    rows = [ClassRows("1", num_anchors=2, background=1)]
    nets = [nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 1)) for _ in range(2)]
    old, task = (make_task(net, rows, ["a", "b", "c"]) for net in nets)
    expand_(task, ENTRIES[1][1:], renamed={"b": "B"}, removed=["a"])
    found = old_weights(task, old, {"b": "B"}, ["a"])
    assert found.keys() == task.net.state_dict().keys()
    assert torch.equal(found["0.weight"], old.net[0].weight)
    for name in ("1.weight", "1.bias"):
        theirs = old.net.state_dict()[name]
        for anchor in range(2):
            for place, entry in enumerate(ENTRIES[1]):
                row = found[name][4 * anchor + place]
                if entry == "d":
                    assert row.isnan().all()
                else:
                    source = ENTRIES[0].index({"B": "b"}.get(entry, entry))
                    assert torch.equal(row, theirs[4 * anchor + source])


def test_networks_of_other_widths_have_nothing_in_common(make_task: Callable) -> None:
    rows = [ClassRows("1")]
    old, task = (
        make_task(nn.Sequential(nn.Linear(3, width), nn.Linear(width, 2)), rows, ["a", "b"])
        for width in (4, 5)
    )
    assert old_weights(task, old, {}, []) == {}


def weights_of(task: Task) -> dict[str, Tensor]:
    return old_weights(task, task, {}, [])


def fitted(
    task: Task, old: dict[str, Tensor], data: GrowingData, run: Path, *others: Callback, **more: Any
) -> None:
    """Train with masks that move, anchored to old weights."""
    fit = Fit(3, accelerator="cpu", devices=1, images=0)
    watchers: Sequence[Callback] = [DynamicSparsity(0.5, 0.5, 2, 0.5), Anchor(old, SHARE), *others]
    train(task, data, make_trainer(task, fit, run, watchers=watchers), run, **more)


def test_what_is_kept_lies_between_and_under_the_masks(
    data: GrowingData, tmp_path: Path, masked_task: MaskedTask
) -> None:
    old = weights_of(masked_task())
    fitted(masked_task(), old, data, tmp_path)
    last = read(tmp_path / "last.ckpt")
    kept = net_state(last)
    trained = net_state({"state_dict": last["current_model_state"]})
    masks = masks_of(load(tmp_path / "last.ckpt").net)
    before = masks_of(masked_task().net)
    assert {n: mask.sum() for n, mask in masks.items()} == {n: m.sum() for n, m in before.items()}
    assert any(not torch.equal(mask, before[n]) for n, mask in masks.items())
    for name, weight in old.items():
        expected = (1 - SHARE) * trained[name] + SHARE * weight
        expected = expected * masks[name] if name in masks else expected
        torch.testing.assert_close(kept[name], expected)
        assert not torch.equal(kept[name], trained[name]), name


@pytest.mark.parametrize("step", [2, 3, 7])
def test_a_stopped_run_goes_on_to_the_same_weights(
    data: GrowingData,
    tmp_path: Path,
    step: int,
    masked_task: MaskedTask,
    stop_at: Stop,
    assert_equal_weights: Equal,
) -> None:
    old = weights_of(masked_task())
    fitted(masked_task(), old, data, tmp_path / "whole")
    with pytest.raises(SIGTERMException):
        fitted(masked_task(), old, data, tmp_path / "stopped", stop_at(step))
    stopped = tmp_path / "stopped" / "last.ckpt"
    fitted(load(stopped), old, data, tmp_path / "stopped", resume=stopped)
    for name in ("last.ckpt", "best.ckpt"):
        assert_equal_weights(tmp_path / "whole" / name, tmp_path / "stopped" / name)
