"""LR-ASPP over timm's backbones, and its head worked by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.models.nets.lraspp import Lraspp, build_lraspp


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
