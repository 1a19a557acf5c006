"""Networks of our own in detail: what the papers say of them, and figures worked by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.models.classification import Classification
from regrow.models.cost import count_macs
from regrow.models.nets.cifar import CifarResNet, PadShortcut
from regrow.models.nets.lraspp import Lraspp, build_lraspp

SIZE = (32, 32)


# ---- own nets in detail


@pytest.mark.parametrize(
    ("depth", "published", "exact"),
    [
        (20, 0.27e6, 269_722),
        (32, 0.46e6, 464_154),
        (44, 0.66e6, 658_586),
        (56, 0.85e6, 853_018),
        (110, 1.7e6, 1_727_962),
    ],
)
def test_cifar_resnets_have_the_papers_parameters(depth: int, published: float, exact: int) -> None:
    # Table 6 of the paper, and its own arithmetic: 3x3 filters, two norms a block, a linear layer.
    blocks = (depth - 2) // 6
    filters, norms = 3 * 16 * 9, 2 * 16
    for inputs, width in ((16, 16), (16, 32), (32, 64)):
        filters += (inputs * width + (2 * blocks - 1) * width**2) * 9
        norms += 2 * 2 * blocks * width
    expected = filters + norms + 64 * 10 + 10
    count = sum(parameter.numel() for parameter in CifarResNet(depth, 10).parameters())
    assert count == expected
    assert count == pytest.approx(published, rel=0.02)
    assert count == exact


def test_cifar_resnet_costs_what_is_published() -> None:
    # 41 million for ResNet-20, akamaster/pytorch_resnet_cifar10 and many others.
    task = Classification([str(n) for n in range(10)], SIZE, net="cifar_resnet20")
    assert count_macs(task) == pytest.approx(41e6, rel=0.02)


@pytest.mark.parametrize("depth", [2, 7, 18, 21])
def test_cifar_resnets_of_other_depths_are_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=rf"depth is {depth}; a CIFAR ResNet has 6 n \+ 2 layers"):
        CifarResNet(depth, 10)


def test_shortcut_takes_every_second_pixel_and_pads_channels_on_both_sides() -> None:
    maps = torch.arange(2 * 4 * 4.0).view(1, 2, 4, 4)
    padded = PadShortcut(3)(maps)
    assert padded.shape == (1, 5, 2, 2)
    assert padded[0, 1].tolist() == [[0, 2], [8, 10]]
    assert padded[0, 2].tolist() == [[16, 18], [24, 26]]
    assert padded[0, [0, 3, 4]].abs().sum() == 0


@pytest.mark.parametrize("backbone", ["timm/", "timm/none", "resnet18", "torchvision/resnet18"])
def test_lraspp_refuses_unknown_backbones(backbone: str) -> None:
    with pytest.raises(BadInput, match=r"net_args\.backbone: (got|timm has no network) '"):
        build_lraspp(2, backbone=backbone)


@pytest.mark.parametrize("levels", [[], [3], [4, 64]])
def test_lraspp_refuses_levels_that_the_backbone_lacks(levels: list[int]) -> None:
    with pytest.raises(
        BadInput, match=r"net_args\.levels: got .*; the backbone has strides \[2, 4"
    ):
        build_lraspp(2, backbone="timm/mobilenetv3_small_050", levels=levels)


def test_lraspp_takes_a_timm_backbone_at_the_levels_asked_for() -> None:
    torch.manual_seed(0)
    net = build_lraspp(3, backbone="timm/mobilenetv3_small_050", levels=[16, 4], width=8).eval()
    maps = net.backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(level.shape[-2:]) for level in maps] == [(16, 24), (4, 6)]
    assert net(torch.zeros(1, 3, 64, 96)).shape == (1, 3, 64, 96)


def test_lraspp_with_constant_maps_worked_by_hand() -> None:
    class Constant(nn.Module):
        def forward(self, images: Tensor) -> list[Tensor]:
            return [torch.full((1, 1, 4, 4), 2.0), torch.full((1, 1, 2, 2), 3.0)]

    net = Lraspp(Constant(), [1, 1], 2, 1).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(1)
        net.head.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        net.head.bias.zero_()
        scores = net(torch.zeros(1, 3, 8, 8))
    # Every block is (filter sum + 1) with ReLU; the norm's running statistics are 0 and 1.
    norm = 1 / math.sqrt(1 + 1e-5)
    gate = 1 / (1 + math.exp(-(3 + 1)))
    summed = (3 * norm + 1) * gate + (2 * norm + 1)
    # In the middle a 3x3 filter of ones sees nine equal values, at the corner four.
    assert float(scores[0, 0, 4, 4]) == pytest.approx(9 * summed * norm + 1, rel=1e-4)
    assert float(scores[0, 0, 0, 0]) == pytest.approx(4 * summed * norm + 1, rel=1e-4)
    assert torch.equal(scores[:, 0], -scores[:, 1])
