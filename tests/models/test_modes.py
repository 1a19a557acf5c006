import copy

import pytest
import torch
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from regrow.models.modes import copied, double_precision, evaluating


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.norm(self.conv(x)))


class Net(nn.Module):
    """torchvision's way to a backbone: a graph of `torch.fx` for each mode, inside of a module."""

    def __init__(self) -> None:
        super().__init__()
        self.body = create_feature_extractor(Body(), {"drop": "x"})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)["x"]


def modes(net: nn.Module) -> dict[str, bool]:
    return {name: module.training for name, module in net.named_modules()}


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_copy_of_a_graph_module_stays_in_evaluation_mode(images):
    net = Net().eval()
    # What would go wrong with a plain copy: its norm takes the batch's statistics.
    assert any(modes(copy.deepcopy(net)).values())
    twin = copied(net)
    assert modes(twin) == modes(net)
    assert torch.equal(twin(images), net(images))
    assert twin.body.conv.weight is not net.body.conv.weight


def test_a_copy_keeps_the_mode_of_each_part():
    net = Net().train()
    net.body.norm.eval()
    twin = copied(net)
    assert modes(twin) == modes(net)
    assert twin.body.training
    assert not twin.body.norm.training


def test_a_graph_module_trains_by_its_training_graph_after_it_was_evaluated(images):
    net = Net().train()
    with evaluating(net):
        assert torch.equal(net(images), net(images))
    assert net.body.graph is net.body.train_graph
    assert not torch.equal(net(images), net(images))  # dropout is on again


def test_double_precision_holds_within_the_context_alone():
    before = torch.get_default_dtype()
    with double_precision():
        assert torch.zeros(1).dtype == torch.float64
    assert torch.get_default_dtype() == before == torch.float32
