"""Removal of branches: the constants that are left, and the groups of what stays."""

import copy

import pytest
import torch
from residual_nets import NETS, plain, residual_task
from torch import nn

from regrow.models.record.branches import ShortcutBlock
from regrow.prune.channels.exactness import check_exact, cut_exactly_
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.records import Branch, Group, Member
from regrow.prune.channels.surgery import clone, cut_, exact_copy, mask_
from regrow.prune.cost_model import CostModel, costs_of, time_left
from regrow.prune.depth.skipping import (
    emptied,
    followed,
    inputs_of,
    is_lost,
    skip_,
    without_branches,
)

UNITS = ((0,), (1,), (2,))
BRANCH = Branch("net.block", "down", "act", "net.block.last")
OWN = Group(
    "net.block.first",
    (Member("net.block.first", "out", UNITS), Member("net.block.last", "in", UNITS)),
    branch=BRANCH,
)
STREAM = Group(
    "net.block.last",
    (
        Member("net.block.last", "out", UNITS),
        Member("net.block.norm", "out", UNITS),
        Member("net.block.down", "out", UNITS),
        Member("net.block2.first", "in", UNITS),
    ),
)


def all_of(group: Group) -> tuple[Group, list[int]]:
    return group, list(range(group.num_units))


def test_a_branch_goes_when_all_units_of_its_group_do():
    assert emptied([(OWN, [0, 1]), (STREAM, [0, 1, 2])]) == []
    assert emptied([(OWN, [2, 0, 1]), (STREAM, [0])]) == [BRANCH]


def test_a_block_in_a_branch_that_goes_is_not_counted():
    inner = Branch("net.block.first", "", "", "net.block.first.last")
    nested = Group("net.block.first.conv", OWN.members, branch=inner)
    assert emptied([all_of(nested), all_of(OWN)]) == [BRANCH]
    beside = Group("net.block.down.conv", OWN.members, branch=Branch("net.block.down", "", "", "x"))
    assert len(emptied([all_of(beside), all_of(OWN)])) == 2


@pytest.mark.parametrize(
    ("layer", "goes"),
    [
        ("net.block.last", True),
        ("net.block.norm.weight", True),
        ("net.block.down", False),
        ("net.block.down.0.weight", False),
        ("net.block.act", False),
        ("net.block", False),
        ("net.block2.first", False),
        ("net.blocks", False),
    ],
)
def test_what_goes_with_a_branch_is_all_in_its_block_but_the_shortcut(layer, goes):
    assert is_lost(layer, BRANCH) is goes


def test_constants_are_coupled_with_the_stream_and_groups_keep_their_names():
    (left,) = without_branches([OWN, STREAM], [BRANCH])
    assert left.layer == "net.block.last"
    assert [(member.layer, member.side, member.dim) for member in left.members] == [
        ("net.block.down", "out", None),
        ("net.block.constant", "in", 0),
        ("net.block2.first", "in", None),
    ]
    assert left.num_units == 3


def test_a_constant_is_what_the_norm_makes_of_the_bias_worked_by_hand():
    conv, norm = nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8)
    net = plain(norm)
    net[2].second = conv
    task = residual_task(net)
    (group,) = [g for g in find_groups(task, branches=True).groups if g.branch]
    deviation = (norm.running_var + norm.eps).sqrt()
    expected = norm.weight * (conv.bias - norm.running_mean) / deviation + norm.bias
    cut_(task, [all_of(group)])
    block = task.net[2]
    assert isinstance(block, ShortcutBlock)
    torch.testing.assert_close(block.constant.data, expected.detach(), rtol=1e-12, atol=1e-12)
    assert block.constant.requires_grad


def test_a_frozen_branch_leaves_a_frozen_constant():
    task = residual_task("plain")
    (group,) = [g for g in find_groups(task, branches=True).groups if g.branch]
    task.net[2].requires_grad_(False)
    cut_(task, [all_of(group)])
    assert not task.net[2].constant.requires_grad


def test_what_gives_no_constant_is_refused():
    task = residual_task(plain(nn.AvgPool2d(3, 1, 1)))
    (group,) = [g for g in find_groups(task).groups if g.layer == "2.first"]
    branch = Branch("2", "", "", "2.second")
    marked = Group(group.layer, group.members, branch=branch)
    masked = exact_copy(task)
    mask_(masked, [all_of(marked)])
    with pytest.raises(ValueError, match="the branch of 2 does not give the same everywhere"):
        skip_(copy.deepcopy(task.net), masked, [all_of(marked)])


@pytest.mark.parametrize("name", list(NETS))
def test_streams_are_cut_with_and_after_the_branches_that_go(name):
    """Every other branch goes together with a third of all else; then a third of what is left."""
    task = residual_task(name)
    groups = find_groups(task, branches=True).groups
    branches = [group.layer for group in groups if group.branch is not None][::2]
    first = [
        all_of(g) if g.layer in branches else (g, list(range(0, g.num_units - 1, 3)))
        for g in groups
    ]
    masked, model = clone(task), CostModel(task)
    mask_(masked, first)
    assert check_exact(task, masked) > 1e-6
    predicted = model.predict(first)
    removed = cut_(task, first)
    assert check_exact(masked, task) <= 1e-9
    assert costs_of(task) == predicted
    left = followed(groups, removed, {group.layer: units for group, units in first})
    assert not {group.layer for group in left} & set(branches)
    second = [(g, list(range(1, g.num_units, 3))) for g in left if g.num_units > 1]
    masked, model = clone(task), CostModel(task)
    mask_(masked, second)
    predicted = model.predict(second)
    cut_(task, second)
    assert check_exact(masked, task) <= 1e-9
    assert costs_of(task) == predicted
    # The groups of the small network, found anew, are those that were followed.
    again = find_groups(task, branches=True).groups
    assert sorted(g.num_units for g in again) == sorted(
        g.after({}, units).num_units for g, units in second
    ) + sorted(1 for g in left if g.num_units == 1)


def test_the_time_of_a_branch_goes_with_it():
    task = residual_task("basic")
    (group,) = [g for g in find_groups(task, branches=True).groups if g.layer == "layer2.0.conv1"]
    times = {"conv1": 0.5, "layer2.0.conv1": 0.25, "layer2.0.bn2": 0.125}
    times["layer2.0.downsample.0"] = 0.125
    assert time_left(task.net, times, [all_of(group)]) == 0.625


def test_an_exact_cut_in_single_precision_is_proved_in_double():
    task = residual_task("bottleneck").float()
    groups = [group for group in find_groups(task, branches=True).groups if group.branch]
    masked = clone(task)
    removed, error, refused = cut_exactly_(task, [all_of(groups[0]), all_of(groups[2])], None)
    assert refused == {}
    assert error <= 1e-9
    assert removed[groups[0].branch.reader, "in"]
    assert isinstance(task.net.layer1[0], ShortcutBlock)
    assert masked.net.layer1[0] is not task.net.layer1[0]


def test_inputs_of_modules_are_those_of_single_tensors():
    task = residual_task("plain")
    found = inputs_of(task, task.example_images(2), ["2", "2.second", "5"])
    assert found["5"].shape == (2, 8)
    inner = task.net[2].first(found["2"]).relu()
    assert torch.equal(found["2.second"], inner)
