"""Networks as people have them, cut without code of theirs."""

import copy
from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from timm.layers import FrozenBatchNormAct2d
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import FrozenBatchNorm2d

from regrow.models.cost import count_params
from regrow.prune import NormScale, as_task, cut_, find_groups
from regrow.prune.channels.fixed import frozen_norms
from regrow.prune.channels.records import Group
from regrow.prune.plain_task import PlainTask
from yolos import C2f, Yolo


def without(task: PlainTask, plan: Sequence[tuple[Group, Sequence[int]]]) -> PlainTask:
    """Return the network in which all that makes some units is zero; what reads them stays."""
    twin = as_task(copy.deepcopy(task.net), task.size)
    layers = dict(twin.net.named_modules())
    for group, units in plan:
        for member in group.members:
            gone = member.channels(units)
            if member.side == "out":
                layer = layers[member.layer]
                for name in ("weight", "bias", "running_mean", "shift"):
                    tensor = getattr(layer, name, None)
                    if tensor is not None:
                        tensor.data[(slice(None),) * (tensor.shape[0] == 1) + (gone,)] = 0
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


class Frozen(nn.Module):
    """As in Detectron2: by one operation, unless a gradient is needed."""

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_features, self.eps = num_features, eps
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(num_features) + 0.5)
        self.register_buffer("num_batches_tracked", None)

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad:
            scale = self.weight * (self.running_var + self.eps).rsqrt()
            shift = self.bias - self.running_mean * scale
            return x * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


class Fused(Frozen):
    """Always by one operation."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


class Affine(nn.Module):
    """Scales by the inverse of a variance, without an epsilon, and shifts."""

    def __init__(self, num: int) -> None:
        super().__init__()
        self.register_buffer("spread", torch.rand(1, num, 1, 1) + 0.5)
        self.register_buffer("shift", torch.randn(1, num, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.spread.rsqrt() + self.shift


class Rows(Affine):
    """Buffers of the same shapes that are one entry a row."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


def chain(norm: Callable[[int], nn.Module]) -> nn.Sequential:
    """A chain, and a branch that is added, each with a frozen norm."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), norm(8), nn.ReLU()),
        *(nn.Conv2d(8, 12, 3, padding=1), norm(12), nn.SiLU(), nn.Conv2d(12, 3, 3)),
    )


@pytest.mark.parametrize("norm", [FrozenBatchNorm2d, FrozenBatchNormAct2d, Frozen, Fused, Affine])
def test_frozen_batch_norms_are_told_by_what_they_do(norm):
    net = chain(norm)
    found = find_groups(as_task(net.eval(), (8, 8)))
    assert [(group.layer, group.num_units) for group in found.groups] == [("0", 8), ("3", 12)]
    # As layers that keep the width, not as buffers whose dimension is guessed.
    assert ("4", "out") in {(m.layer, m.side) for m in found.groups[1].members}
    assert_cut_is_exact(net, 8)
    assert {len(buffer.flatten()) for buffer in net[4].buffers()} == {8}
    assert getattr(net[4], "num_features", 8) == 8


def test_what_only_looks_like_a_frozen_batch_norm_is_none():
    assert frozen_norms(nn.Sequential(Rows(8), Frozen(8))) == (Frozen,)
    # Its rows are as many as its channels.
    net = chain(Rows)[:2]
    found = find_groups(as_task(nn.Sequential(*net, nn.Conv2d(8, 3, 3)).eval(), (8, 8)))
    assert [[m.layer for m in group.members] for group in found.groups] == [["0", "2"]]


def test_frozen_batch_norms_of_timm_are_ranked_by_their_scale():
    task = as_task(chain(FrozenBatchNormAct2d).eval(), (8, 8))
    task.net[1].weight[:] = torch.arange(8.0)
    scores = NormScale().scores(task, find_groups(task).groups[:1], None)
    assert scores[0].argsort().tolist() == list(range(8))


class Upsampled(nn.Module):
    """Sub-pixel convolution: a part of the channels becomes places, and is joined with others."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 40, 3, 2, 1), nn.BatchNorm2d(40)
        self.skip, self.last = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(11, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.norm(self.stem(x)).relu().chunk(2, 1)
        shuffled = functional.pixel_shuffle(left * right.sigmoid(), 2)
        return self.last(torch.cat([self.skip(x), shuffled], 1))


class Downsampled(nn.Module):
    """Space to depth, twice, the second time with a filter for each of the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(12, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.wise = nn.Conv2d(72, 72, 3, padding=1, groups=72)
        self.fc = nn.Linear(72, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(functional.pixel_unshuffle(x, 2))
        return self.fc(self.wise(functional.pixel_unshuffle(x, 3)).relu().mean((2, 3)))


class Again(nn.Module):
    """Places to channels and back, with a convolution between."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3)
        self.deep = nn.Conv2d(32, 32, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.last(
            x + functional.pixel_shuffle(self.deep(functional.pixel_unshuffle(x, 2)), 2)
        )


def units(net: nn.Module, layer: str, side: int) -> dict[tuple[str, str], tuple]:
    (group,) = [g for g in find_groups(as_task(net, (side, side))).groups if g.layer == layer]
    return {(member.layer, member.side): member.units for member in group.members}


def test_pixel_shuffle_loses_its_channels_by_fours():
    found = units(Upsampled().eval(), "stem", 8)
    # Four channels of each half make one that is joined behind six others.
    fours = tuple((*range(n, n + 4), *range(n + 20, n + 24)) for n in range(0, 20, 4))
    assert found["stem", "out"] == found["norm", "out"] == fours
    assert found["last", "in"] == tuple((place,) for place in range(6, 11))


def test_pixel_unshuffle_spreads_a_channel_over_nine():
    found = units(Downsampled().eval(), "first.0", 12)
    nines = tuple(tuple(range(n, n + 9)) for n in range(0, 72, 9))
    assert found["wise", "out"] == found["fc", "in"] == nines


@pytest.mark.parametrize(("kind", "side"), [(Upsampled, 8), (Downsampled, 12), (Again, 8)])
def test_networks_with_pixel_shuffles_are_cut_exactly(kind, side):
    torch.manual_seed(0)
    net = kind()
    layers = {name for name, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    found = find_groups(as_task(net.eval(), (side, side)))
    made = {m.layer for group in found.groups for m in group.members if m.side == "out"}
    assert layers - made == {"fc" if kind is Downsampled else "last"}
    assert_cut_is_exact(net, side)
