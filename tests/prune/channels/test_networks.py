"""Networks as people have them, cut without code of theirs."""

import copy
from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn

from regrow.models.cost import count_params
from regrow.prune import as_task, cut_, find_groups
from regrow.prune.channels.records import Group
from regrow.prune.plain_task import PlainTask
from yolos import C2f, Yolo


def without(task: PlainTask, plan: Sequence[tuple[Group, Sequence[int]]]) -> PlainTask:
    """Return the network in which all that makes some units is zero; what reads them stays."""
    twin = as_task(copy.deepcopy(task.net), task.size)
    layers, buffers = dict(twin.net.named_modules()), dict(twin.net.named_buffers())
    for group, units in plan:
        for member in group.members:
            gone = member.channels(units)
            if member.side == "out":
                layer = layers[member.layer]
                for tensor in (layer.weight, layer.bias, getattr(layer, "running_mean", None)):
                    if tensor is not None:
                        tensor.data[gone] = 0
            elif member.layer in buffers and not member.layer.endswith("var"):
                buffers[member.layer].index_fill_(member.dim, torch.tensor(gone), 0)
    return twin


def outputs(task: PlainTask, images: Tensor) -> Mapping[str, Tensor]:
    with torch.no_grad():
        return task.outputs(images)


def assert_cut_is_exact(net: nn.Module, side: int) -> None:
    """Cut a third of each group, and compare with the network in which these channels are dead."""
    task = as_task(net.eval(), (side, side))
    groups = find_groups(task).groups
    plan = [(group, range(0, group.num_units, 3)) for group in groups]
    net.double()
    images = torch.randn(2, 3, side, side, dtype=torch.float64, generator=torch.manual_seed(1))
    whole, dead = outputs(task, images), outputs(without(task, plan), images)
    cut_(task, plan)
    cut = outputs(task, images)
    assert cut.keys() == dead.keys()
    for name, expected in dead.items():
        torch.testing.assert_close(cut[name], expected, rtol=1e-9, atol=1e-9)
        assert not torch.allclose(whole[name], expected)


@pytest.fixture
def yolo() -> Yolo:
    torch.manual_seed(0)
    net = Yolo(num=4)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    # With fresh statistics hardly anything of an image gets through.
    net(torch.randn(4, 3, 64, 64))
    return net.eval()


def test_a_yolo_loses_channels_of_every_block(yolo):
    found = find_groups(as_task(yolo, (64, 64)))
    outputs_of_heads = {f"{head}.{scale}.1" for head in ("boxes", "classes") for scale in range(3)}
    covered = {m.layer for group in found.groups for m in group.members if m.side == "out"}
    convolutions = {name for name, m in yolo.named_modules() if isinstance(m, nn.Conv2d)}
    assert convolutions - covered == {*outputs_of_heads, "distances.mean"}
    # Each half that `chunk` makes loses the same places.
    enter = next(group for group in found.groups if group.layer == "stage3.1.enter.0")
    assert enter.members[0].units == tuple((place, place + 8) for place in range(8))


def test_a_yolo_is_cut_exactly(yolo):
    before = count_params(yolo)
    assert_cut_is_exact(yolo, 64)
    assert count_params(yolo) < 0.6 * before
    # In training it gives the maps of each scale.
    maps = yolo.train()(torch.zeros(2, 3, 64, 64, dtype=torch.float64))
    assert [tuple(x.shape) for x in maps] == [(2, 19, 8, 8), (2, 19, 4, 4), (2, 19, 2, 2)]


class Halves(nn.Module):
    """Adds what an earlier layer gives to the second half of what a later one does."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.both = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.block, self.fc = C2f(16, 8, 1, True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x).relu()
        one, other = self.both(first).chunk(2, 1)
        x = self.block(torch.cat([one, other + first], 1))
        return self.fc(x.mean((2, 3)))


def test_halves_lose_the_same_places_wherever_the_search_begins():
    torch.manual_seed(0)
    net = Halves().eval()
    group = next(g for g in find_groups(as_task(net, (8, 8))).groups if g.layer == "first")
    both = next(m for m in group.members if (m.layer, m.side) == ("both", "out"))
    assert both.units == tuple((place, place + 8) for place in range(8))
    assert_cut_is_exact(net, 8)


class FixedHalves(Halves):
    """The same with the widths of the halves written down."""

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.both(self.first(x).relu()).split((8, 8), 1)
        return self.fc(self.block(torch.cat([one, other], 1)).mean((2, 3)))


def test_halves_of_a_fixed_width_are_left_whole_by_name():
    found = find_groups(as_task(FixedHalves().eval(), (8, 8)))
    assert "split_with_sizes" in found.left_whole["both"]
    assert "both" not in {group.layer for group in found.groups}
