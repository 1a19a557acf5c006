"""Embeddings and scales that are buffers lose entries with the channels that they are added to."""

import copy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regrow.models.checkpoint import load, save
from regrow.models.classification import Classification
from regrow.models.cost import count_macs, count_params
from regrow.models.record.structure import fresh_twin
from regrow.prune.channels.exactness import check_exact
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.proof import TOLERANCE
from regrow.prune.channels.records import Group
from regrow.prune.channels.surgery import clone, cut_, mask_
from regrow.prune.cost_model import CostModel
from regrow.prune.criteria import Magnitude, score_groups
from regrow.prune.widening.widen import widen_

OWN = ("test_fixed_nets",)


class Fixed(nn.Module):
    """A layer `a`, buffers that its channels meet, by their shapes, and a layer that reads them."""

    shapes: dict[str, tuple[int, ...]] = {}
    is_persistent = True
    reads = 16

    def __init__(self) -> None:
        super().__init__()
        self.a, self.tail = nn.Conv2d(3, 16, 3, 4, 1), nn.Conv2d(self.reads, 8, 3, padding=1)
        self.fc = nn.Linear(8, 3)
        self.make()

    def make(self) -> None:
        generator = torch.Generator().manual_seed(1)
        for name, shape in self.shapes.items():
            values = torch.rand(shape, generator=generator) + 0.5
            self.register_buffer(name, values, persistent=self.is_persistent)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.tail(self.through(self.a(x).relu(), x)).relu().mean((2, 3)))

    def through(self, x: Tensor, image: Tensor) -> Tensor:
        return x + self.pos


class Map(Fixed):
    shapes = {"pos": (1, 16, 4, 4)}


class Unsaved(Map):
    is_persistent = False


class Square(Fixed):
    """As many columns as channels."""

    shapes = {"pos": (1, 16, 16, 16)}

    def make(self) -> None:
        super().make()
        self.a = nn.Conv2d(3, 16, 3, padding=1)


class Scale(Fixed):
    shapes = {"pos": (1, 16, 1, 1)}

    def through(self, x: Tensor, image: Tensor) -> Tensor:
        return x * self.pos


class Vector(Fixed):
    shapes = {"pos": (16,)}

    def through(self, x: Tensor, image: Tensor) -> Tensor:
        return x * self.pos.view(1, -1, 1, 1) + self.pos[:, None, None]


class Tokens(Fixed):
    """As many places as channels, and more than are used."""

    shapes = {"token": (1, 1, 16), "pos": (1, 20, 16), "scale": (16,), "same": (16, 16)}

    def through(self, x: Tensor, image: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2) + self.same
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)
        tokens = (tokens + self.pos[:, :17]) * self.scale
        return tokens[:, 1:].transpose(1, 2).unflatten(2, x.shape[2:])


class Joined(Fixed):
    """One embedding of the channels of two layers."""

    reads = 20
    shapes = {"pos": (1, 20, 4, 4)}

    def make(self) -> None:
        super().make()
        self.b = nn.Conv2d(3, 4, 3, 4, 1)

    def through(self, x: Tensor, image: Tensor) -> Tensor:
        return torch.cat([self.b(image), x], 1) + self.pos


class Twice(Fixed):
    """One tensor under two names."""

    shapes = {"pos": (1, 16, 4, 4)}

    def make(self) -> None:
        super().make()
        self.register_buffer("again", self.pos)

    def through(self, x: Tensor, image: Tensor) -> Tensor:
        return (x + self.pos).relu() * self.again


class Places(Square):
    """Besides what has channels what has none, though of sizes that channels could have."""

    shapes = {"pos": (1, 16, 16, 16), "mask": (1, 1, 16, 16), "row": (16,), "filter": (1, 1, 3, 3)}

    def through(self, x: Tensor, image: Tensor) -> Tensor:
        x = F.conv2d(x, self.filter.expand(x.shape[1], -1, -1, -1), None, 1, 1, 1, x.shape[1])
        return (x + self.pos) * self.mask + self.row


class PlacesAlone(Square):
    """What has no channels, and nothing that has."""

    shapes = {"pos": (1, 1, 16, 16), "row": (16,)}

    def through(self, x: Tensor, image: Tensor) -> Tensor:
        return x * self.pos + self.row


# The dimension of each buffer that channels lie along, worked out by hand.
ALONG: list[tuple[type[Fixed], dict[str, int]]] = [
    (Map, {"pos": 1}),
    (Unsaved, {"pos": 1}),
    (Square, {"pos": 1}),
    (Scale, {"pos": 1}),
    (Vector, {"pos": 0}),
    (Tokens, {"token": 2, "pos": 2, "scale": 0, "same": 1}),
    (Joined, {"pos": 1}),
    (Twice, {"pos": 1, "again": 1}),
    (Places, {"pos": 1}),
    (PlacesAlone, {}),
]


def group_of(task: Any, layer: str = "a") -> Group:
    return next(group for group in find_groups(task).groups if group.layer == layer)


def without(tensor: Tensor, dim: int, gone: list[int]) -> Tensor:
    return tensor.index_select(
        dim, torch.tensor([i for i in range(tensor.shape[dim]) if i not in gone])
    )


@pytest.mark.parametrize(("net", "along"), ALONG)
def test_buffers_lose_the_entries_of_the_channels_that_go_and_no_others(make_task, net, along):
    task = make_task(net())
    masked, cut = clone(task), clone(task)
    plan = [(group_of(task), [0, 3, 5, 15])]
    mask_(masked, plan)
    cut_(cut, plan)
    assert check_exact(masked, cut) <= TOLERANCE
    first = 4 if net is Joined else 0
    for name, before in task.net.named_buffers(remove_duplicate=False):
        gone = [first + channel for channel in (0, 3, 5, 15)]
        after = without(before, along[name], gone) if name in along else before
        assert torch.equal(cut.net.get_buffer(name), after), name
    assert {*dict(cut.net.named_parameters())} == {*dict(task.net.named_parameters())}
    assert {*cut.net.state_dict()} == {*task.net.state_dict()}


class Reader(Fixed):
    """A fixed projection mixes the channels by their places in a matrix."""

    shapes = {"pos": (16, 16)}

    def through(self, x: Tensor, image: Tensor) -> Tensor:
        return (x.movedim(1, -1) @ self.pos).movedim(-1, 1)


class Mean(Map):
    """Takes a mean over channels, which no cut leaves as it was."""

    def through(self, x: Tensor, image: Tensor) -> Tensor:
        return x + self.pos * (x + self.pos).mean(1, keepdim=True)


class Written(Map):
    """Keeps what it sees."""

    def through(self, x: Tensor, image: Tensor) -> Tensor:
        self.pos = self.pos + 0 * x.detach().mean(0, keepdim=True)
        return x + self.pos


@pytest.mark.parametrize(
    ("net", "reason"),
    [(Reader, "cutting it"), (Mean, "cutting it"), (Written, "cutting it")],
)
def test_what_is_not_exact_with_buffers_is_left_whole_for_a_reason(make_task, net, reason):
    task = make_task(net())
    state = copy.deepcopy(task.net.state_dict())
    found = find_groups(task)
    assert [group.layer for group in found.groups] == ["tail"]
    assert reason in found.left_whole["a"]
    assert all(torch.equal(value, state[name]) for name, value in task.net.state_dict().items())


@pytest.mark.parametrize("net", [Map, Tokens])
def test_fixed_entries_count_neither_as_weights_nor_for_their_channel(make_task, net):
    task = make_task(net())
    group = group_of(task)
    plan = [(group, [1, 2, 8])]
    scores = score_groups(task, [group], Magnitude())[0]
    for buffer in task.net.buffers():
        buffer.mul_(torch.rand(buffer.shape))
    assert torch.equal(score_groups(task, [group], Magnitude())[0], scores)
    expected = CostModel(task).predict(plan)
    cut_(task, plan)
    assert expected == {"macs": count_macs(task), "params": count_params(task.net)}


class Named(nn.Module):
    """A network that a task can build by its name, with two embeddings, one of them unsaved."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("pos", torch.arange(128.0).view(1, 8, 4, 4).sin())
        self.register_buffer("more", torch.arange(8.0).cos().view(8, 1, 1), persistent=False)
        self.a, self.b = nn.Conv2d(3, 8, 3, 4, 1), nn.Conv2d(8, 6, 3)
        self.head = nn.Linear(6, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b((self.a(x) + self.pos) * self.more).relu().mean((2, 3)))


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Classification:
    module = ModuleType(OWN[0])
    module.Named = Named  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, OWN[0], module)
    torch.manual_seed(0)
    return Classification(["a", "b"], (16, 16), net=f"{OWN[0]}.Named").eval()


def test_a_network_with_cut_buffers_is_reloaded_bit_for_bit(named, tmp_path: Path):
    cut_(named, [(group_of(named), [0, 6])])
    images = named.example_images(3)
    save(tmp_path / "a.ckpt", named)
    again = load(tmp_path / "a.ckpt", allow=OWN)
    assert (again.net.pos.shape, again.net.more.shape) == ((1, 6, 4, 4), (6, 1, 1))
    assert torch.equal(again(images)["logits"], named(images)["logits"])


def test_entries_that_come_back_are_those_of_the_dense_network(named):
    dense = copy.deepcopy(named.net)
    cut_(named, [(group_of(named), [6, 7])])
    narrow = clone(named)
    assert widen_(named).gained == {"a": 2}
    assert torch.equal(named.net.pos, dense.pos)
    assert torch.equal(named.net.more, dense.more)
    assert check_exact(narrow, named) <= TOLERANCE


def test_a_fresh_twin_keeps_the_scale_of_what_is_fixed(named):
    dense = copy.deepcopy(named.net)
    cut_(named, [(group_of(named), [6, 7])])
    assert torch.equal(fresh_twin(named.net, dense).pos, dense.pos[:, :6])
