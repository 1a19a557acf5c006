"""A network that grew and was pruned again costs what it did, with other channels."""

import copy
from typing import Any

import pytest
import torch

from regrow.errors import BadInput
from regrow.models.checkpoint import load, save
from regrow.models.classification import Classification
from regrow.models.masks import is_n_of_m, mask_weights_, masks_of
from regrow.models.task import Task
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.records import widths
from regrow.prune.channels.surgery import cut_
from regrow.prune.cost_model import costs_of
from regrow.prune.widening.regrow import regrow_channels_


def pruned_task(width: int = 4, share: float = 0.5) -> Classification:
    """Return a network whose later layers were cut more than the first ones."""
    torch.manual_seed(0)
    task = Classification(["a", "b", "c"], (16, 16), net_args={"width": width})
    plan = [(g, range(int(share * g.num_units))) for g in find_groups(task).groups[1:]]
    cut_(task, plan)
    return task


def batches(task: Task) -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(12) % 3
    images = torch.randint(0, 60, (12, 3, 16, 16), generator=generator, dtype=torch.uint8)
    images[torch.arange(12), labels] += 120
    return [(images, labels)]


class Training:
    """Trains for a few steps, and remembers what it was given."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def __call__(self, task: Task, index: int) -> None:
        self.seen.append((index, costs_of(task)["macs"]))
        task.train()
        optimizer = torch.optim.SGD(task.net.parameters(), lr=0.1)
        (images, labels), *_ = batches(task)
        for _ in range(5):
            optimizer.zero_grad()
            task.losses(task(images), labels)["ce"].backward()
            optimizer.step()
        task.eval()


@pytest.mark.parametrize("num_steps", [1, 3])
def test_a_network_grows_is_trained_and_costs_what_it_did(num_steps: int, tmp_path: Any) -> None:
    task, train = pruned_task(), Training()
    narrow, full = copy.deepcopy(task), costs_of(Classification(["a", "b", "c"], (16, 16),
        net_args={"width": 4}))  # fmt: skip
    net = task.net
    result = regrow_channels_(task, train=train, batches=batches(task), num_steps=num_steps)
    before, after = costs_of(narrow), costs_of(task)
    assert [index for index, _ in train.seen] == list(range(num_steps))
    macs = [cost for _, cost in train.seen]
    assert macs[0] == full["macs"]
    assert macs == sorted(set(macs), reverse=True)
    assert all(after[name] <= before[name] < full[name] for name in ("macs", "params"))
    # One channel more of any layer would be too much.
    assert after["macs"] > 0.9 * before["macs"] or after["params"] > 0.9 * before["params"]
    assert (result.limit, result.cost) == (before, after)
    assert (result.before, result.after) == (widths(narrow.net), widths(task.net))
    assert result.widening.gained["two.0.0"] == 4
    assert task.net is net
    save(tmp_path / "again.ckpt", task)
    again = load(tmp_path / "again.ckpt")
    images = task.example_images(2)
    assert torch.equal(task.eval()(images)["logits"], again(images)["logits"])


def test_capacity_moves_to_where_it_is_worth_more() -> None:
    task = pruned_task()
    before = widths(task.net)
    regrow_channels_(task, train=Training(), batches=batches(task))
    assert widths(task.net) != before


def test_a_limit_keeps_the_wide_network_small() -> None:
    task, train = pruned_task(), Training()
    macs = costs_of(task)["macs"]
    regrow_channels_(task, train=train, batches=batches(task), limit={"macs": 1.2 * macs})
    assert macs < train.seen[0][1] <= 1.2 * macs
    assert costs_of(task)["macs"] <= macs


def test_widths_stay_as_aligned_as_they_were() -> None:
    task = pruned_task(width=16)
    before = widths(task.net)
    assert {before["two.0.0"], before["three.0.0"]} == {16, 32}
    regrow_channels_(task, train=Training(), batches=batches(task))
    after = widths(task.net)
    assert all(after[name] % 4 == 0 for name in before if name != "head")


def num_kept(task: Task) -> int:
    masked = sum(int((~kept).sum()) for kept in masks_of(task.net).values())
    return sum(parameter.numel() for parameter in task.net.parameters()) - masked


def test_as_many_single_weights_are_kept_as_before() -> None:
    task = pruned_task()
    names = [n for n, w in task.net.named_parameters() if w.ndim == 4]
    mask_weights_(task.net, {n: torch.rand(task.net.get_parameter(n).shape) < 0.5 for n in names})
    before = num_kept(task)
    regrow_channels_(task, train=Training(), batches=batches(task))
    assert masks_of(task.net).keys() == set(names)
    assert num_kept(task) == before
    for name, kept in masks_of(task.net).items():
        assert not task.net.get_parameter(name)[~kept].any()


def test_masks_of_the_pattern_have_it_again() -> None:
    task = pruned_task(width=16)
    pattern = torch.tensor([True, False, True, False])
    masks = {
        n: pattern.repeat(w.shape[1] // 4).view(1, -1, 1, 1).expand_as(w).clone()
        for n, w in task.net.named_parameters()
        if w.ndim == 4 and w.shape[1] % 4 == 0
    }
    mask_weights_(task.net, masks)
    regrow_channels_(task, train=Training(), batches=batches(task))
    found = masks_of(task.net)
    assert found.keys() == masks.keys()
    assert all(is_n_of_m(kept, 2, 4) for kept in found.values())


def test_a_whole_network_is_left_alone() -> None:
    torch.manual_seed(0)
    task, train = Classification(["a", "b"], (16, 16), net_args={"width": 4}), Training()
    before = copy.deepcopy(task.net.state_dict())
    result = regrow_channels_(task, train=train, batches=batches(task))
    assert not train.seen
    assert not result.widening.gained
    assert result.cost == result.limit
    assert all(torch.equal(value, before[n]) for n, value in task.net.state_dict().items())


def test_no_cut_at_all_is_refused() -> None:
    task = pruned_task()
    with pytest.raises(BadInput, match="num_steps is 0"):
        regrow_channels_(task, train=Training(), batches=batches(task), num_steps=0)
