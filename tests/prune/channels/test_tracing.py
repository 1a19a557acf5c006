import warnings
from typing import ClassVar

import pytest
import torch
from torch import nn

from regrow.errors import BadInput
from regrow.prune.channels import tracing
from regrow.prune.channels.exactness import probe
from regrow.prune.channels.groups import find_groups


@pytest.mark.parametrize("most", [0, 50, 2000, 10000])
def test_what_takes_too_much_work_is_bad_input_that_names_the_net(make_task, most):
    task = make_task("residual")
    with pytest.raises(BadInput, match=r"Head: .* than max_work, .*; give the task a smaller size"):
        find_groups(task, max_work=most)
    assert not any(module._forward_pre_hooks for module in task.net.modules())


class Counted(nn.Conv2d):
    calls: ClassVar[list[int]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.append(self.out_channels)
        return super().forward(x)


def test_a_network_that_takes_too_much_work_is_stopped_at_its_next_layer(make_task):
    net = nn.Sequential(Counted(3, 8, 3), Counted(8, 6, 3), Counted(6, 3, 3))
    # The container and the first two layers.
    with pytest.raises(BadInput, match=r"Sequential: .* takes more work"):
        find_groups(make_task(net), max_work=3 * tracing.LAYER)
    assert Counted.calls == [8, 6]


def test_a_net_that_does_not_run_is_bad_input(make_task):
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no such thing")

    with pytest.raises(BadInput, match=r"Broken: cannot be traced .*no such thing"):
        find_groups(make_task(Broken()))


def test_a_compiled_layer_is_bad_input(make_task):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions call it deprecated
        scripted = torch.jit.script(nn.Conv2d(8, 8, 3))
    with pytest.raises(BadInput, match="1 is TorchScript; give the module it was made from"):
        find_groups(make_task(nn.Sequential(nn.Conv2d(3, 8, 3), scripted, nn.Conv2d(8, 3, 3))))


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc = nn.LazyConv2d(8, 3), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.stem(x).mean((2, 3)))


def test_a_layer_without_a_shape_is_bad_input(make_task):
    net = Lazy()
    with pytest.raises(BadInput, match="stem is a LazyConv2d that has no shape yet"):
        find_groups(make_task(net))
    net(torch.zeros(1, 3, 8, 8))
    assert [group.layer for group in find_groups(make_task(net)).groups] == ["stem"]


def test_a_net_that_does_not_run_is_told_with_the_layer(make_task):
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.Conv2d(9, 3, 3)))
    with pytest.raises(BadInput, match=r"Sequential: cannot be traced for pruning at 1\.0 \("):
        find_groups(make_task(net))


class Parts(nn.Module):
    """One score for each part of the channels: an expansion of five dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.score, self.last = (
            nn.Conv2d(3, 32, 3), nn.Conv2d(32, 4, 1), nn.Conv2d(32, 3, 3),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        b, c, h, w = x.shape
        score = self.score(x).sigmoid()[:, :, None].expand(b, 4, c // 4, h, w)
        return self.last(x * score.reshape(b, c, h, w))


class Kept(nn.Module):
    """Attention on a part of the channels, the rest passes by, as in SHViT."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.qkv, self.proj = (
            nn.Conv2d(3, 64, 3),
            nn.Conv2d(16, 48, 1),
            nn.Conv2d(64, 8, 1),
        )
        self.fc = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        b, _, h, w = x.shape
        one, two = x.split([16, 48], 1)
        q, k, v = (t.flatten(2) for t in self.qkv(one).split([16, 16, 16], 1))
        one = (v @ (q.transpose(-2, -1) @ k * 0.25).softmax(-1).transpose(-2, -1)).reshape(
            b, 16, h, w
        )
        return self.fc(self.proj(torch.cat([one, two], 1)).relu().mean((2, 3)))


@pytest.mark.parametrize("net", [Parts, Kept])
def test_what_torch_pruning_cannot_follow_ends_no_network(make_task, net):
    # It divides by zero on both.
    task = make_task(net())
    found = find_groups(task)
    assert {g.layer for g in found.groups} | set(found.left_whole) >= {"stem"}
    assert probe(task, [(group, [0]) for group in found.groups]) is None
