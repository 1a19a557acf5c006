"""What is kept lies between the trained weights and the old ones, also under masks that move."""

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor, nn

from regrow.data.errors import BadInput
from regrow.data.module import GrowingData
from regrow.incremental.anchor import Anchor, old_weights
from regrow.incremental.dynamic_sparsity import DynamicSparsity
from regrow.incremental.expand import expand_
from regrow.incremental.growth import Growth
from regrow.models.checkpoint import load, net_state, read
from regrow.models.classification import Classification
from regrow.models.head import ClassRows
from regrow.models.masks import mask_weights_, masks_of
from regrow.models.optimization import Optimization
from regrow.models.training import Fit, make_trainer, train

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


def masked_task(seed: int = 0) -> Classification:
    torch.manual_seed(seed)
    optimization = Optimization("adamw", lr=0.05)
    task = Classification(["a", "b"], (16, 16), net_args={"width": 4}, optimization=optimization)
    masks = {n: torch.rand(w.shape) < 0.4 for n, w in task.net.named_parameters() if w.ndim > 1}
    mask_weights_(task.net, masks)
    return task


def fitted(
    task: Classification, data: GrowingData, run: Path, *others: Callback, **more: Any
) -> dict[str, Tensor]:
    """Train with masks that move, and give the old weights."""
    start = masked_task()
    old = old_weights(start, start, {}, [])
    fit = Fit(3, accelerator="cpu", devices=1, images=0)
    watchers: Sequence[Callback] = [DynamicSparsity(0.5, 0.5, 2, 0.5), Anchor(old, SHARE), *others]
    train(task, data, make_trainer(task, fit, run, watchers=watchers), run, **more)
    return old


def test_what_is_kept_lies_between_and_under_the_masks(data: GrowingData, tmp_path: Path) -> None:
    old = fitted(masked_task(), data, tmp_path)
    last = read(tmp_path / "last.ckpt")
    kept = net_state(last)
    trained = net_state({"state_dict": last["current_model_state"]})
    masks = masks_of(load(tmp_path / "last.ckpt").net)
    assert {n: int(m.sum()) for n, m in masks.items()} == {
        n: int(m.sum()) for n, m in masks_of(masked_task().net).items()
    }
    assert any(not torch.equal(mask, masks_of(masked_task().net)[n]) for n, mask in masks.items())
    for name, weight in old.items():
        expected = (1 - SHARE) * trained[name] + SHARE * weight
        expected = expected * masks[name] if name in masks else expected
        torch.testing.assert_close(kept[name], expected)
        assert not torch.equal(kept[name], trained[name]), name


class Stop(Callback):
    """Let the platform's signal come after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("step", [2, 3, 7])
def test_a_stopped_run_goes_on_to_the_same_weights(
    data: GrowingData, tmp_path: Path, step: int
) -> None:
    fitted(masked_task(), data, tmp_path / "whole")
    with pytest.raises(SIGTERMException):
        fitted(masked_task(), data, tmp_path / "stopped", Stop(step))
    stopped = tmp_path / "stopped" / "last.ckpt"
    fitted(load(stopped), data, tmp_path / "stopped", resume=stopped)
    for name in ("last.ckpt", "best.ckpt"):
        first, second = (net_state(read(tmp_path / run / name)) for run in ("whole", "stopped"))
        assert all(torch.equal(value, second[n]) for n, value in first.items())


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_shares_out_of_range_are_refused(share: float) -> None:
    with pytest.raises(BadInput, match=rf"growth.anchor is {share}, it must lie in \[0, 1\)"):
        Growth(anchor=share)
