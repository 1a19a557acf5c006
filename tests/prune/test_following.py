"""What follows a network through a cut, against a loop that never cut anything."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from regrow.prune.groups import find_groups
from regrow.prune.surgery import cut_, mask_

OPTIMIZERS = {
    "sgd": lambda net: torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True),
    "adamw": lambda net: torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.1),
    "adam": lambda net: torch.optim.Adam(net.parameters(), lr=1e-3, amsgrad=True),
}


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    images = torch.randint(0, 256, (8, 3, 16, 16), generator=generator, dtype=torch.uint8)
    return images, torch.randint(0, 3, (8,), generator=generator)


def train_(task: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    task.net.train()
    for step in steps:
        images, targets = batch(step)
        optimizer.zero_grad()
        functional.cross_entropy(task(images)["logits"], targets).backward()
        optimizer.step()


def some_units(task: nn.Module) -> list:
    return [(group, [0, group.num_units - 1]) for group in find_groups(task).groups]


@pytest.mark.parametrize("name", ["residual", "concat", "depthwise", "grouped", "transposed"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_training_goes_on_as_if_the_channels_had_never_been(make_task, name, kind):
    """The oracle trains the whole net on, its chosen channels and their momenta held at zero."""
    task = make_task(name)
    task.double()
    optimizer = OPTIMIZERS[kind](task.net)
    train_(task, optimizer, range(3))
    plan = some_units(task)
    held = copy.deepcopy(task)
    held_optimizer = OPTIMIZERS[kind](held.net)
    held_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    cut_(task, plan, optimizer)
    train_(task, optimizer, range(3, 6))

    def hold() -> None:
        mask_(held, plan)
        for parameter in held.net.parameters():
            for value in held_optimizer.state[parameter].values():
                if value.shape == parameter.shape:
                    value[parameter == 0] = 0

    hold()
    for step in range(3, 6):
        train_(held, held_optimizer, range(step, step + 1))
        hold()
    images, _ = batch(9)
    task.eval(), held.eval()
    torch.testing.assert_close(task(images)["logits"], held(images)["logits"], rtol=1e-9, atol=1e-9)


def test_every_parameter_of_the_smaller_net_is_in_the_optimizer_and_nothing_else(make_task):
    task = make_task("residual")
    decayed = [p for p in task.net.parameters() if p.ndim > 1]
    plain = [p for p in task.net.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups)
    train_(task, optimizer, range(1))
    cut_(task, some_units(task), optimizer)
    members = [[p for p in task.net.parameters() if (p.ndim > 1) is many] for many in (True, False)]
    for group, expected, decay in zip(optimizer.param_groups, members, (0.1, 0.0), strict=True):
        assert {id(p) for p in group["params"]} == {id(p) for p in expected}
        assert group["weight_decay"] == decay
    assert {id(p) for p in optimizer.state} == {id(p) for p in task.net.parameters()}
    for parameter, state in optimizer.state.items():
        assert state["exp_avg"].shape == parameter.shape


def test_hooks_modes_and_flags_stay(make_task):
    task = make_task("residual")
    task.net.train()
    task.net.body.a.eval()
    task.net.body.b[0].weight.requires_grad_(False)
    seen = []
    task.net.body.a[0].register_forward_hook(lambda module, _, out: seen.append(out.shape[1]))
    modes = {name: module.training for name, module in task.net.named_modules()}
    plan = [item for item in some_units(task) if item[0].layer == "body.a.0"]
    cut_(task, plan)
    seen.clear()
    task(batch(0)[0])
    assert seen == [10]
    assert {name: module.training for name, module in task.net.named_modules()} == modes
    flags = {name for name, p in task.net.named_parameters() if not p.requires_grad}
    assert flags == {"body.b.0.weight"}


def test_a_moving_average_is_cut_by_the_same_plan(make_task):
    task = make_task("residual")
    average = copy.deepcopy(task)
    with torch.no_grad():
        for parameter in average.net.parameters():
            parameter.mul_(0.5)
    plan = some_units(task)
    cut_(task, plan)
    cut_(average, plan)
    for one, other in zip(task.net.parameters(), average.net.parameters(), strict=True):
        assert torch.equal(0.5 * one, other)


def test_momenta_of_a_task_are_cut_with_it_and_those_of_its_copy_stay(make_task):
    task = make_task("concat")
    names = dict(task.net.named_parameters())
    task.momenta = {
        name: {"exp_avg": p.detach().clone(), "step": torch.tensor(3.0)}
        for name, p in names.items()
    }
    before = task.momenta
    shapes = {name: state["exp_avg"].shape for name, state in before.items()}
    cut_(task, some_units(task))
    for name, parameter in task.net.named_parameters():
        assert torch.equal(task.momenta[name]["exp_avg"], parameter)
        assert task.momenta[name]["step"] == 3
    assert {name: state["exp_avg"].shape for name, state in before.items()} == shapes
