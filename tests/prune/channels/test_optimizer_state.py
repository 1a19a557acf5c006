"""What follows a network through a cut, against a loop that never cut anything."""

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.surgery import cut_, mask_

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

    def loss(images: Tensor, targets: Tensor) -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(task(images)["logits"], targets)
        value.backward()
        return value

    for step in steps:
        optimizer.step(partial(loss, *batch(step)))


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


def test_a_weight_whose_state_has_other_shapes_begins_anew(make_task):
    task = make_task("residual")
    optimizer = torch.optim.Adafactor(task.net.parameters())
    train_(task, optimizer, range(2))
    # Means over the rows and the columns of filters; of biases and scales one value each.
    assert {"row_var", "col_var"} < optimizer.state[task.net.fc.weight].keys()
    plan = [item for item in some_units(task) if item[0].layer == "body.a.0"]
    before = {name: optimizer.state[p] for name, p in task.net.named_parameters()}
    cut_(task, plan, optimizer)
    named = dict(task.net.named_parameters())
    new = {name for name, parameter in named.items() if parameter not in optimizer.state}
    assert new == {"body.a.0.weight", "body.b.0.weight"}
    expected = before["body.a.1.bias"]["variance"][1:-1]
    assert torch.equal(optimizer.state[named["body.a.1.bias"]]["variance"], expected)
    assert optimizer.state[named["fc.weight"]] is before["fc.weight"]
    # A new optimizer that knows the same of the other weights.
    other = copy.deepcopy(task)
    fresh = torch.optim.Adafactor(other.net.parameters())
    for name, parameter in other.net.named_parameters():
        if name not in new:
            fresh.state[parameter] = copy.deepcopy(optimizer.state[named[name]])
    train_(task, optimizer, range(2, 4))
    train_(other, fresh, range(2, 4))
    assert all(map(torch.equal, task.net.parameters(), other.net.parameters()))


@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_an_optimizer_that_remembers_all_weights_as_one_begins_anew(make_task, search):
    task = make_task("residual")
    options = {"lr": 0.1, "max_iter": 3, "line_search_fn": search}
    optimizer = torch.optim.LBFGS(task.net.parameters(), **options)
    train_(task, optimizer, range(2))
    # The first weight stays, and with it what the optimizer has for all of them.
    plan = [item for item in some_units(task) if item[0].layer == "body.a.0"]
    cut_(task, plan, optimizer)
    other = copy.deepcopy(task)
    fresh = torch.optim.LBFGS(other.net.parameters(), **options)
    before = copy.deepcopy(task.net.state_dict())
    train_(task, optimizer, range(2, 4))
    train_(other, fresh, range(2, 4))
    assert all(map(torch.equal, task.net.parameters(), other.net.parameters()))
    assert not torch.equal(task.net.fc.weight, before["fc.weight"])


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


def test_nested_state_is_cut_too_and_lists_of_weights_stay_the_same_objects(make_task):
    task = make_task("residual")
    optimizer = torch.optim.SGD(task.net.parameters(), lr=0.1)
    weight, held = task.net.fc.weight, optimizer.param_groups[0]["params"]
    optimizer.state[weight] = {"past": [weight.detach().clone(), 2 * weight.detach()], "step": 3}
    cut_(task, some_units(task), optimizer)
    weight = task.net.fc.weight
    first, second = optimizer.state[weight]["past"]
    assert torch.equal(first, weight)
    assert torch.equal(second, 2 * weight)
    assert optimizer.state[weight]["step"] == 3
    assert optimizer.param_groups[0]["params"] is held


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
