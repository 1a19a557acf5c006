"""Backbones of timm: the maps asked for, timm's names, and no layer past the last map."""

import pytest
import timm
import torch

from regrow.errors import BadInput
from regrow.models.nets.backbone import build_backbone

NAMES = ["resnet18", "mobilenetv3_small_050", "efficientnet_b0"]


@pytest.mark.parametrize("name", NAMES)
def test_maps_have_the_strides_and_channels_that_are_told(name: str) -> None:
    net, channels = build_backbone(f"timm/{name}", [16, 4])
    maps = net.eval()(torch.zeros(1, 3, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps] == [(channels[0], 16, 24), (channels[1], 4, 6)]


@pytest.mark.parametrize("name", NAMES)
def test_layers_keep_the_names_and_shapes_of_timms_whole_network(name: str) -> None:
    net, _ = build_backbone(f"timm/{name}", [4, 8])
    whole = timm.create_model(name, pretrained=False).state_dict()
    own = net.state_dict()
    assert 0 < len(own) < len(whole)
    assert {key: value.shape for key, value in own.items()}.items() <= {
        key: value.shape for key, value in whole.items()
    }.items()


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_a_part_in_the_maps(name: str) -> None:
    torch.manual_seed(0)
    net, _ = build_backbone(f"timm/{name}", [4, 8])
    maps = net.train()(torch.randn(2, 3, 64, 64))
    sum(m.square().sum() for m in maps).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", ["resnet18", "torchvision/resnet18", "timm/none"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(BadInput, match=r"net_args\.backbone: (got|timm has no network) '"):
        build_backbone(name, [8])


@pytest.mark.parametrize("levels", [[], [3], [4, 64]])
def test_levels_that_the_network_lacks_are_refused(levels: list[int]) -> None:
    with pytest.raises(
        BadInput, match=r"net_args\.levels: got .*; the backbone has strides \[2, 4"
    ):
        build_backbone("timm/resnet18", levels)
