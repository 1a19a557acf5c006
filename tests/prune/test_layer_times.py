import time

import pytest
import torch
from torch import Tensor, nn

from regrow.prune.channels.groups import find_groups
from regrow.prune.layer_times import layer_times, time_left


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
