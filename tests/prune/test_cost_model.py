import random
import time

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model

from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.surgery import clone, cut_
from regrow.prune.cost_model import CostModel, costs_of, layer_times, time_left
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


class Busy(nn.Module):
    """Computes for a while, on this thread."""

    def __init__(self, milliseconds: int) -> None:
        super().__init__()
        self.seconds = milliseconds / 1000

    def forward(self, x: Tensor) -> Tensor:
        end = time.thread_time() + self.seconds
        while time.thread_time() < end:
            pass
        return x


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.short, self.long, self.fc = Busy(10), Busy(30), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.long(self.short(self.short(x))).mean((2, 3)))


def test_shares_are_those_of_the_time_in_each_layer_all_its_calls_together(make_task):
    task = make_task(Net())
    task.net.train()
    found = layer_times(task, rounds=3)
    assert sum(found.values()) == pytest.approx(1)
    assert found["long"] / found["short"] == pytest.approx(1.5, rel=0.1)
    assert found["fc"] < 0.1
    assert task.net.training
    assert not task.net.long._forward_hooks
    assert torch.get_num_threads() >= 1


def test_what_is_left_is_the_product_of_both_sides_of_a_layer(make_task):
    task = make_task("depthwise")
    (stem,) = [g for g in find_groups(task).groups if g.layer == "body.0.0"]
    # The stem, its norm, the depthwise filters and their norm lose half, the last half its inputs.
    times = {name: 0.1 for name in ("body.0.0", "body.0.1", "body.1.0", "body.1.1", "body.2.0")}
    left = time_left(task.net, times | {"fc": 0.5}, [(stem, list(range(8)))])
    assert left == pytest.approx(0.75)
    assert time_left(task.net, times, []) == 1
