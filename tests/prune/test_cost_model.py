import random

import pytest
import torch
from torch import nn
from torchvision.models import get_model

from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.surgery import clone, cut_
from regrow.prune.cost_model import CostModel, costs_of
from regrow.prune.selection import Chooser, Selection

NETS = ["plain", "residual", "concat", "squeeze", "depthwise", "grouped", "flat", "transposed"]


@pytest.mark.parametrize("name", [*NETS, "mobilenet_v3_small"])
def test_predicted_costs_are_those_measured_after_the_cut(make_task, name):
    task = make_task(name if name in NETS else get_model(name, weights=None), 32)
    generator = random.Random(2)
    plan = [
        (group, generator.sample(range(group.num_units), generator.randrange(group.num_units)))
        for group in find_groups(task).groups
    ]
    cut = clone(task)
    cut_(cut, plan)
    model = CostModel(task)
    assert model.predict([]) == costs_of(task)
    assert model.predict(plan) == costs_of(cut) != costs_of(task)


def test_a_layer_that_runs_twice_counts_twice(make_task):
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.shared, self.fc = (
                nn.Conv2d(3, 8, 3, 2), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 3)
            )  # fmt: skip

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(self.shared(self.shared(self.stem(x))).mean((2, 3)))

    task = make_task(Twice())
    plan = [(group, [0, 3]) for group in find_groups(task).groups]
    cut = clone(task)
    cut_(cut, plan)
    assert CostModel(task).predict(plan) == costs_of(cut)


def test_modes_and_hooks_stay(make_task):
    task = make_task("plain")
    task.net.train()
    CostModel(task)
    assert all(module.training for module in task.net.modules())
    assert not any(module._forward_hooks for module in task.net.modules())


def test_costs_that_the_model_does_not_see_are_measured(make_task):
    class Mixed(nn.Module):
        """A product of every channel with a constant, whose cost is no layer's own."""

        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 3, 2)
            self.fc = nn.Linear(16, 3)
            self.register_buffer("mix", torch.rand(7, 7))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc((self.stem(x) @ self.mix).mean((2, 3)))

    task = make_task(Mixed())
    groups = find_groups(task).groups
    assert [group.layer for group in groups] == ["stem"]
    chooser = Chooser(task, groups, [torch.arange(16.0)], {"stem": 16}, Selection(round_to=1))
    ceiling = costs_of(task)["macs"] // 2
    plan = chooser.choose({"macs": ceiling})
    assert plan is not None
    cut, fewer = clone(task), clone(task)
    cut_(cut, plan)
    cut_(fewer, [(plan[0][0], plan[0][1][:-1])])
    assert costs_of(cut)["macs"] <= ceiling < costs_of(fewer)["macs"]
