"""Residual branches that can go whole, in networks of many kinds, and the cut without them."""

import copy

import pytest
import torch
from residual_nets import NETS, plain, residual_task
from torch import Tensor, nn

from regrow.models.task import Task
from regrow.prune.channels.exactness import check_exact
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.surgery import clone, cut_, mask_


def logits(net: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return net(images)


def without(task: Task, readers: list[str]) -> nn.Module:
    """Return the network in which some layers read nothing: their weights are zero."""
    net = copy.deepcopy(task.net)
    for reader in readers:
        nn.init.zeros_(net.get_submodule(reader).weight)
    return net


@pytest.mark.parametrize("name", list(NETS))
def test_the_branches_that_can_go_are_all_that_residual_blocks_have(name):
    _, blocks, last = NETS[name]
    task = residual_task(name)
    found = find_groups(task, branches=True)
    branches = [group.branch for group in found.groups if group.branch is not None]
    assert [branch.block for branch in branches] == blocks
    assert [branch.reader for branch in branches] == [f"{block}.{last}" for block in blocks]
    # Whatever has no branch has a reason.
    others = {group.layer for group in found.groups if group.branch is None}
    assert set(found.branches_left) == others
    plainly = find_groups(task)
    assert plainly.branches_left == {}
    assert [group.layer for group in plainly.groups] == [group.layer for group in found.groups]


@pytest.mark.parametrize("name", list(NETS))
def test_a_network_without_branches_gives_what_it_does_when_they_read_nothing(name):
    """The oracle: the layers that end the branches have weights of zero."""
    task = residual_task(name)
    groups = [group for group in find_groups(task, branches=True).groups if group.branch]
    chosen = groups[::2]
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    expected = logits(without(task, [group.branch.reader for group in chosen]), images)
    assert not torch.allclose(logits(task.net, images), expected, rtol=1e-3)
    plan = [(group, list(range(group.num_units))) for group in chosen]
    masked = clone(task)
    mask_(masked, plan)
    inside = {id(p) for g in chosen for p in task.net.get_submodule(g.branch.reader).parameters()}
    cut_(task, plan)
    torch.testing.assert_close(logits(task.net, images), expected, rtol=1e-9, atol=1e-9)
    assert check_exact(masked, task) <= 1e-9
    assert not inside & {id(parameter) for parameter in task.net.parameters()}
    # Other sizes of images are as exact.
    wide = torch.randn(2, 3, 40, 56, dtype=torch.float64)
    torch.testing.assert_close(
        logits(task.net, wide), logits(masked.net, wide), rtol=1e-9, atol=1e-9
    )


class Behind(nn.Module):
    """What stands behind the last layer of a branch, besides a norm."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).sigmoid()


@pytest.mark.parametrize(
    "behind",
    [
        # Zeros beside a constant that is not zero: the border differs.
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.AvgPool2d(3, 1, 1),
    ],
)
def test_what_is_not_constant_at_the_border_is_left_whole_by_name(behind):
    found = find_groups(residual_task(plain(behind)), branches=True)
    (told,) = [reason for reason in found.branches_left.values() if "everywhere" in reason]
    assert "without 2.second the branch of 2 does not give the same everywhere" in told
    assert all(group.branch is None for group in found.groups)


def test_a_layer_that_pads_nothing_behind_the_last_one_is_constant():
    task = residual_task(plain(nn.Conv2d(8, 8, 1)))
    found = find_groups(task, branches=True)
    # Of the two groups of the branch the last one counts.
    branches = {group.layer: group.branch for group in found.groups}
    assert {layer for layer, branch in branches.items() if branch} == {"2.second"}
    assert found.branches_left["2.first"] == "the branch of 2 goes with the units of 2.second"


def test_drop_path_and_dropout_leave_a_constant():
    behind = nn.Sequential(nn.Dropout(0.5), Behind(nn.BatchNorm2d(8)), nn.Dropout2d(0.5))
    task = residual_task(plain(behind))
    found = find_groups(task, branches=True)
    (group,) = [group for group in found.groups if group.branch]
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    expected = logits(without(task, ["2.second"]), images)
    cut_(task, [(group, list(range(group.num_units)))])
    torch.testing.assert_close(logits(task.net, images), expected, rtol=1e-9, atol=1e-9)


class TwoSums(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 6, 1), nn.Conv2d(6, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.first(x).relu()
        return (x + self.second(inner)) + self.second(inner.square())


def test_a_block_of_two_sums_is_left_whole_by_name():
    net = plain()
    net[2] = TwoSums()
    found = find_groups(residual_task(net), branches=True)
    assert found.branches_left["2.first"].startswith("2 has no branch")


def test_groups_that_lie_in_no_block_say_so():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 900, 2))
    found = find_groups(residual_task(net), branches=True)
    assert found.branches_left == {"0": "no block holds all layers that make or read it"}
