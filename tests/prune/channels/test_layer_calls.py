import pytest
import torch
from torch import nn

from regrow.prune.channels.layer_calls import RUN, moved, run_watched


def calls(task, batch, removed=None, others=None):
    with torch.no_grad():
        return run_watched(task, batch, {}, removed or {}, others).calls


def test_layers_with_weights_or_buffers_are_watched_in_order(make_task):
    task = make_task("plain")
    task.net.eval()
    found = calls(task, task.example_images(2))
    assert [call.layer for call in found] == ["body.0.0", "body.0.1", "body.1.0", "body.1.1", "fc"]
    assert [tuple(call.shape) for call in found] == [(2, 16, 16, 16)] * 2 + [
        (2, 12, 16, 16)
    ] * 2 + [(2, 3)]
    assert not any(module._forward_hooks for module in task.net.modules())


def test_channels_that_the_other_network_lacks_are_left_out(make_task):
    torch.manual_seed(0)
    wide, narrow = nn.Conv2d(3, 5, 1), nn.Conv2d(3, 3, 1)
    with torch.no_grad():
        narrow.weight.copy_(wide.weight[[0, 2, 4]])
        narrow.bias.copy_(wide.bias[[0, 2, 4]])
    one, other = make_task(nn.Sequential(wide)), make_task(nn.Sequential(narrow))
    images = one.example_images(1)
    after = calls(other, images)
    before = calls(one, images, {("0", "out"): [1, 3]}, after)
    assert moved(before[0], after[0]) < 1e-6
    wrong = calls(one, images, {("0", "out"): [0, 1]}, after)
    assert moved(wrong[0], after[0]) > 1e-3


@pytest.mark.parametrize("size", [5, RUN, 2 * RUN + 7])
def test_two_numbers_that_change_places_are_seen(make_task, size):
    class Gives(nn.Linear):
        def __init__(self, values: torch.Tensor) -> None:
            super().__init__(1, 1)
            self.values = values

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.values

    values = torch.rand(1, size, generator=torch.Generator().manual_seed(0))
    swapped = values.clone()
    swapped[0, -1], swapped[0, -2] = values[0, -2], values[0, -1]
    one, same, other = (make_task(nn.Sequential(Gives(v))) for v in (values, values, swapped))
    images = one.example_images(1)
    after = calls(same, images)
    (before,) = calls(one, images, others=after)
    assert moved(before, after[0]) == 0
    assert moved(before, calls(other, images)[0]) > 1e-7
    assert before.scale == pytest.approx(float(values.max()))


def test_calls_of_different_layers_do_not_compare(make_task):
    task = make_task("plain")
    task.net.eval()
    first, second = calls(task, task.example_images(1))[:2]
    assert moved(first, second) == float("inf")
