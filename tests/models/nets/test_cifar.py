"""CIFAR ResNets have the papers' figures, and a shortcut worked by hand."""

import pytest
import torch

from regrow.models.classification import Classification
from regrow.models.cost import count_macs
from regrow.models.nets.cifar import CifarResNet, PadShortcut

SIZE = (32, 32)


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
