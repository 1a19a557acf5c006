import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regrow.prune.channels.exactness import probe
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.records import Group
from regrow.prune.channels.surgery import cut_


class Block(nn.Module):
    """A layer `a`, something that its channels pass through, and a layer that reads them."""

    reads = 16

    def __init__(self) -> None:
        super().__init__()
        self.a, self.tail = nn.Conv2d(3, 16, 3, 4, 1), nn.Conv2d(self.reads, 8, 3, padding=1)
        self.fc = nn.Linear(8, 3)
        self.make()

    def make(self) -> None:
        pass

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.tail(self.through(self.a(x).relu(), x)).relu().mean((2, 3)))


class Gate(Block):
    """One map scales all channels: attention U-Net, spatial squeeze-and-excitation."""

    def make(self) -> None:
        self.gate, self.norm = nn.Conv2d(16, 1, 1), nn.BatchNorm2d(1)

    def through(self, x: Tensor, image: Tensor) -> Tensor:
        return self.norm(self.gate(x)).sigmoid() * x


class Spread(Gate):
    def through(self, x: Tensor, image: Tensor) -> Tensor:
        return x * self.gate(x).sigmoid().expand_as(x) + self.gate(x)


class ImageFirst(Block):
    reads = 19

    def through(self, x: Tensor, image: Tensor) -> Tensor:
        return torch.cat([F.avg_pool2d(image, 4), x], 1)


class Between(Block):
    """Constants of a width that nobody could guess on both sides."""

    reads = 22

    def through(self, x: Tensor, image: Tensor) -> Tensor:
        ones = torch.ones_like(x)
        return torch.concat((ones[:, :2], x, image[:, :, ::4, ::4], ones[:, :1]), dim=1)


class Glu(Block):
    def make(self) -> None:
        self.g = nn.Conv2d(16, 32, 1)

    def through(self, x: Tensor, image: Tensor) -> Tensor:
        return F.glu(self.g(x), 1)


class GluModule(Glu):
    def through(self, x: Tensor, image: Tensor) -> Tensor:
        return nn.GLU(dim=1)(self.g(x))


class Tokens(Block):
    """A gated MLP over tokens with a class token, as in EVA02 and DINOv2."""

    def make(self) -> None:
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.f, self.g = nn.Linear(16, 48), nn.Linear(24, 16)

    def through(self, x: Tensor, image: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)
        value, gate = self.f(tokens).chunk(2, 2)
        tokens = tokens + self.g(F.silu(gate) * value)
        return tokens[:, 1:].transpose(1, 2).unflatten(2, x.shape[2:])


class Upsampled(Block):
    """FCN's upsampling, with a filter a channel."""

    def make(self) -> None:
        self.u = nn.ConvTranspose2d(16, 16, 4, 2, 1, groups=16)

    def through(self, x: Tensor, image: Tensor) -> Tensor:
        return self.u(x)


class Embedded(Block):
    def make(self) -> None:
        self.e = nn.Embedding(4, 16)

    def through(self, x: Tensor, image: Tensor) -> Tensor:
        return x + self.e(torch.arange(len(x)) % 4)[:, :, None, None]


class Places(Block):
    """A learned map of places with the channels first, which is frozen."""

    def make(self) -> None:
        self.places = nn.Parameter(torch.randn(1, 16, 4, 4), requires_grad=False)

    def through(self, x: Tensor, image: Tensor) -> Tensor:
        return x + self.places


class Attention(Block):
    """PyTorch's attention with its default arguments."""

    def make(self) -> None:
        self.m = nn.MultiheadAttention(16, 4, batch_first=True)

    def through(self, x: Tensor, image: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.m(tokens, tokens, tokens)[0]
        return tokens.transpose(1, 2).unflatten(2, x.shape[2:])


class Queries(Attention):
    """Learned queries look at the map, as in DETR and in pooling by attention."""

    def make(self) -> None:
        super().make()
        self.q = nn.Parameter(torch.randn(16, 16))

    def through(self, x: Tensor, image: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        tokens = self.m(self.q.expand(len(x), -1, -1), tokens, tokens)[0]
        return tokens.transpose(1, 2).unflatten(2, (4, 4))


def one(count: int, start: int = 0) -> tuple[tuple[int, ...], ...]:
    return tuple((start + channel,) for channel in range(count))


def pairs(count: int) -> tuple[tuple[int, ...], ...]:
    return tuple((channel, count + channel) for channel in range(count))


# The group of one layer, and which channels of another are its units, worked out by hand.
FOLLOWED = [
    (Gate, "a", "tail", one(16)),
    (Gate, "a", "gate", one(16)),
    (Spread, "a", "tail", one(16)),
    (ImageFirst, "a", "tail", one(16, 3)),
    (Between, "a", "tail", one(16, 2)),
    (Glu, "g", "g", pairs(16)),
    (Glu, "g", "tail", one(16)),
    (GluModule, "g", "g", pairs(16)),
    (Tokens, "f", "f", pairs(24)),
    (Tokens, "f", "g", one(24)),
    (Tokens, "a", "token", one(16)),
    (Upsampled, "a", "u", one(16)),
    (Embedded, "a", "e", one(16)),
    (Places, "a", "places", one(16)),
    (Attention, "a", "m.in_proj_weight", one(16)),
    (Queries, "a", "q", one(16)),
]


def group_of(task, layer: str) -> Group:
    return next(group for group in find_groups(task).groups if group.layer == layer)


@pytest.mark.parametrize(("net", "layer", "other", "units"), FOLLOWED)
def test_channels_are_followed_to_where_they_lie(make_task, net, layer, other, units):
    group = group_of(make_task(net()), layer)
    seen = [m.units for m in group.members if m.layer == other and not m.is_count]
    assert units in seen


@pytest.mark.parametrize("net", sorted({net for net, *_ in FOLLOWED}, key=lambda net: net.__name__))
def test_what_is_found_can_be_cut_whatever_units_are_taken(make_task, net):
    task = make_task(net())
    groups = find_groups(task).groups
    for first in (0, 1, 2):
        plan = [(g, list(range(first, g.num_units, 3))) for g in groups if g.num_units > 3]
        assert plan
        assert probe(task, plan) is None


def test_a_gate_of_one_map_stays_one_map(make_task):
    task = make_task(Gate())
    assert "all at once" in find_groups(task).left_whole["gate"]
    cut_(task, [(group_of(task, "a"), [0, 5])])
    assert (task.net.gate.in_channels, task.net.gate.out_channels) == (14, 1)


def test_a_filter_a_channel_is_cut_with_its_channel(make_task):
    task = make_task(Upsampled())
    weight, bias = task.net.u.weight.detach().clone(), task.net.u.bias.detach().clone()
    cut_(task, [(group_of(task, "a"), [0, 5])])
    kept = [channel for channel in range(16) if channel not in (0, 5)]
    assert torch.equal(task.net.u.weight, weight[kept])
    assert torch.equal(task.net.u.bias, bias[kept])
    assert (task.net.u.groups, task.net.u.in_channels, task.net.u.out_channels) == (14, 14, 14)


def test_an_embedding_loses_columns(make_task):
    task = make_task(Embedded())
    weight = task.net.e.weight.detach().clone()
    cut_(task, [(group_of(task, "a"), [3])])
    assert torch.equal(task.net.e.weight, weight[:, [i for i in range(16) if i != 3]])
    assert task.net.e.embedding_dim == 15


class Statistic(Block):
    """A gate of one map that is made by a mean over channels, as in CBAM: cutting changes it."""

    def make(self) -> None:
        self.gate = nn.Conv2d(1, 1, 1)

    def through(self, x: Tensor, image: Tensor) -> Tensor:
        return x * self.gate(x.mean(1, keepdim=True)).sigmoid()


def test_a_gate_that_takes_a_mean_over_channels_is_still_refused(make_task):
    found = find_groups(make_task(Statistic()))
    assert "a" in found.left_whole
    assert [group.layer for group in found.groups] == ["tail"]
