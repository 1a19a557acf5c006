"""The norms of branches that are about to go."""

import torch
from residual_nets import residual_task

from regrow.prune.channels.exactness import cut_exactly_
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.surgery import clone
from regrow.prune.depth.settling import settle_branches_


def test_the_constant_of_a_step_is_the_bias_of_the_norm_that_ends_the_branch():
    """Measured anew, a norm has nothing but zeros to normalise."""
    task = residual_task("cifar").float()
    before = clone(task)
    group = find_groups(task, branches=True).groups[4]
    _, error, refused = cut_exactly_(task, [(group, list(range(group.num_units)))], None)
    assert (refused, error <= 1e-9) == ({}, True)
    bias = before.net.get_submodule(group.branch.block).bn2.bias
    found = task.net.get_submodule(group.branch.block).constant
    torch.testing.assert_close(found.data, bias.data, rtol=1e-6, atol=1e-6)


def test_norms_that_stay_are_left_as_they_are():
    task = residual_task("basic")
    before = {name: value.clone() for name, value in task.net.state_dict().items()}
    groups = find_groups(task, branches=True).groups
    settle_branches_(task, [(groups[0], [0, 1]), (groups[1], [0])])
    after = task.net.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    (group,) = [g for g in groups if g.branch and g.branch.block == "layer2.0"]
    settle_branches_(task, [(group, list(range(group.num_units)))])
    after = task.net.state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    norms = {name.rpartition(".")[0] for name in moved}
    assert norms == {"layer2.0.bn1", "layer2.0.bn2"}
    assert torch.equal(after["layer2.0.bn2.running_mean"], torch.zeros(128).double())
