"""A pruned network is rebuilt from its record, and no record can ask for more than that."""

import copy
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.models.nets.attention import HeadedAttention
from regrow.models.record.structure import fresh_twin, rebuild_, record

EMPTY: dict[str, Any] = {
    "branches": {},
    "converted": [],
    "attributes": {},
    "shapes": {},
    "trainable": {},
}


class Net(nn.Module):
    """Two convolutions, the second one depthwise, and a linear layer over a 2x2 grid."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.depth = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.head = nn.Linear(8 * 4, 5)
        self.splits = [4, 4]

    def forward(self, images: Tensor) -> Tensor:
        maps = self.depth(torch.relu(self.norm(self.conv(images))))
        first, second = maps.split(self.splits, 1)
        maps = torch.cat([second, first], 1)
        return self.head(nn.functional.adaptive_avg_pool2d(maps, 2).flatten(1))


def _cut_by_hand(keep: list[int], splits: list[int]) -> Net:
    """Keep some channels of every layer, and freeze the head's bias."""
    torch.manual_seed(0)
    net = Net()
    nn.init.normal_(net.norm.running_mean)
    net.conv.weight = nn.Parameter(net.conv.weight.detach()[keep])
    net.conv.bias = nn.Parameter(net.conv.bias.detach()[keep])
    net.conv.out_channels = len(keep)
    for name in ("weight", "bias"):
        setattr(net.norm, name, nn.Parameter(getattr(net.norm, name).detach()[keep]))
    net.norm.running_mean = net.norm.running_mean[keep]
    net.norm.running_var = net.norm.running_var[keep]
    net.norm.num_features = len(keep)
    net.depth.weight = nn.Parameter(net.depth.weight.detach()[keep])
    net.depth.bias = nn.Parameter(net.depth.bias.detach()[keep])
    net.depth.in_channels = net.depth.out_channels = net.depth.groups = len(keep)
    columns = net.head.weight.detach().view(5, 8, 4)[:, keep].flatten(1)
    net.head.weight = nn.Parameter(columns)
    net.head.in_features = columns.shape[1]
    net.head.bias.requires_grad_(False)
    net.splits = splits
    return net.eval()


@pytest.fixture
def cut() -> Net:
    return _cut_by_hand([0, 2, 3, 7, 5], [3, 2])


def test_record_of_an_untouched_net_is_empty() -> None:
    torch.manual_seed(1)
    net = Net()
    torch.manual_seed(2)
    assert record(net, Net()) == EMPTY
    fresh = Net()
    rebuild_(fresh, EMPTY)
    assert record(fresh, Net()) == EMPTY


def test_record_of_a_cut_net_worked_by_hand(cut: Net) -> None:
    assert record(cut, Net()) == {
        "branches": {},
        "converted": [],
        "attributes": {
            "": {"splits": (3, 2)},
            "conv": {"out_channels": 5},
            "norm": {"num_features": 5},
            "depth": {"in_channels": 5, "out_channels": 5, "groups": 5},
            "head": {"in_features": 20},
        },
        "shapes": {
            "conv.weight": [5, 3, 3, 3],
            "conv.bias": [5],
            "norm.weight": [5],
            "norm.bias": [5],
            "norm.running_mean": [5],
            "norm.running_var": [5],
            "depth.weight": [5, 1, 3, 3],
            "depth.bias": [5],
            "head.weight": [5, 20],
        },
        "trainable": {"head.bias": False},
    }


@pytest.mark.parametrize("through_json", [False, True])
def test_a_cut_net_is_rebuilt_bit_for_bit(cut: Net, through_json: bool) -> None:
    made = record(cut, Net())
    if through_json:
        made = json.loads(json.dumps(made))
    torch.manual_seed(9)
    net = Net()
    rebuild_(net, made)
    shapes = {name: value.shape for name, value in cut.state_dict().items()}
    assert {name: value.shape for name, value in net.state_dict().items()} == shapes
    assert net.splits == [3, 2]
    assert [p.requires_grad for p in net.parameters()] == [
        p.requires_grad for p in cut.parameters()
    ]
    net.load_state_dict(cut.state_dict())
    images = torch.randn(4, 3, 8, 8)
    assert torch.equal(net.eval()(images), cut(images))
    assert record(net, Net()) == record(cut, Net())


def test_a_rebuilt_net_trains(cut: Net) -> None:
    net = Net()
    rebuild_(net, record(cut, Net()))
    net.load_state_dict(cut.state_dict())
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)
    before = copy.deepcopy(net.state_dict())
    net.train()(torch.randn(4, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    moved = {
        name for name, value in net.state_dict().items() if not torch.equal(value, before[name])
    }
    assert {"conv.weight", "head.weight", "norm.running_mean"} <= moved
    assert "head.bias" not in moved


def test_layers_that_only_one_side_has_are_left_out(cut: Net) -> None:
    cut.extra = nn.Linear(2, 2)
    made = record(cut, Net())
    assert not [name for entries in made.values() for name in entries if "extra" in name]


def test_numbers_that_no_cut_can_have_left_are_not_recorded(cut: Net) -> None:
    def counting() -> Net:
        net = Net()
        net.step, net.left, net.seen, net.window = 0, 2, [3, 3], [5, 5]
        return net

    expected = record(cut, Net())
    # It counted up, down to nothing, in one of two places, and wrote a list of its own.
    cut.step, cut.left, cut.seen, cut.window = 4, 0, [2, 7], [5, 5, 5]
    assert record(cut, counting()) == expected
    net = counting()
    rebuild_(net, record(cut, counting()))
    net.load_state_dict(cut.state_dict())
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(net.eval()(images), cut(images))
    assert (net.step, net.left, net.seen, net.window) == (0, 2, [3, 3], [5, 5])


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"nothing": {"out_channels": 4}}, "names the layer 'nothing', which the network lacks"),
        ({"conv": 4}, "names the layer 'conv', which the network lacks"),
        ({"conv": {"nothing": 4}}, r"sets conv\.nothing, which is no size of that layer"),
        ({"conv": {"forward": 4}}, r"sets conv\.forward, which is no size"),
        ({"conv": {"training": 1}}, r"sets conv\.training, which is no size"),
        ({"conv": {"padding_mode": "zeros"}}, r"sets conv\.padding_mode, which is no size"),
        ({"conv": {"_parameters": {}}}, r"sets conv\._parameters, which is no size"),
        ({"conv": {"out_channels": True}}, r"sets conv\.out_channels, which is no size"),
        ({"conv": {"out_channels": 4.0}}, r"sets conv\.out_channels, which is no size"),
        ({"conv": {"out_channels": "4"}}, r"sets conv\.out_channels, which is no size"),
        ({"conv": {"out_channels": [4]}}, r"sets conv\.out_channels, which is no size"),
        ({"conv": {"out_channels": None}}, r"sets conv\.out_channels, which is no size"),
        ({"conv": {"kernel_size": 3}}, r"sets conv\.kernel_size, which is no size"),
        ({"conv": {"kernel_size": [3]}}, r"sets conv\.kernel_size, which is no size"),
        ({"conv": {"kernel_size": [3, True]}}, r"sets conv\.kernel_size, which is no size"),
        ({"conv": {"out_channels": 9}}, r"sets conv\.out_channels to 9; the dense network has 8"),
        ({"conv": {"out_channels": 0}}, r"sets conv\.out_channels to 0; the dense network has 8"),
        ({"conv": {"out_channels": -1}}, r"sets conv\.out_channels to -1"),
        ({"conv": {"kernel_size": [3, 4]}}, r"sets conv\.kernel_size to \(3, 4\); .* \(3, 3\)"),
        ([], "has 'attributes' of type list"),
    ],
)
def test_hostile_attributes_are_refused(attributes: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        rebuild_(Net(), {**EMPTY, "attributes": attributes})


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"nothing.weight": [1]}, r"names the tensor 'nothing\.weight', which the network lacks"),
        ({"conv.bias": [9]}, r"gives conv\.bias the shape \(9,\); the dense network has \(8,\)"),
        ({"conv.bias": [0]}, r"gives conv\.bias the shape \(0,\); the dense network has \(8,\)"),
        ({"conv.bias": [-1]}, r"gives conv\.bias the shape \(-1,\)"),
        ({"conv.bias": [4, 4]}, r"gives conv\.bias the shape \[4, 4\]"),
        ({"conv.bias": [True]}, r"gives conv\.bias the shape \[True\]"),
        ({"conv.bias": [4.0]}, r"gives conv\.bias the shape \[4\.0\]"),
        ({"conv.bias": 4}, r"gives conv\.bias the shape 4"),
        ({"conv.bias": "4"}, r"gives conv\.bias the shape 4"),
        ({"conv.bias": None}, r"gives conv\.bias the shape None"),
        ("conv.bias", "has 'shapes' of type str"),
    ],
)
def test_hostile_shapes_are_refused(shapes: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        rebuild_(Net(), {**EMPTY, "shapes": shapes})


@pytest.mark.parametrize(
    ("trainable", "message"),
    [
        ({"nothing": False}, "names the parameter 'nothing', which the network lacks"),
        ({"norm.running_mean": True}, r"names the parameter 'norm\.running_mean'"),
        ({"conv.bias": 1}, r"names the parameter 'conv\.bias'"),
        (7, "has 'trainable' of type int"),
    ],
)
def test_hostile_flags_are_refused(trainable: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        rebuild_(Net(), {**EMPTY, "trainable": trainable})


def _attending(heads: int) -> nn.Sequential:
    """Attention over tokens of width 12 with heads of width 4, some of which are gone."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(12, 12), nn.MultiheadAttention(12, 3, batch_first=True))
    if heads < 3:
        attention = net[1]
        rows = [row for part in range(3) for row in range(12 * part, 12 * part + 4 * heads)]
        attention.__class__ = HeadedAttention
        attention.num_heads = heads
        attention.in_proj_weight = nn.Parameter(attention.in_proj_weight.detach()[rows])
        attention.in_proj_bias = nn.Parameter(attention.in_proj_bias.detach()[rows])
        attention.out_proj.weight = nn.Parameter(attention.out_proj.weight[:, : 4 * heads].detach())
        attention.out_proj.in_features = 4 * heads
    return net.eval()


def test_attention_that_lost_heads_is_rebuilt_bit_for_bit() -> None:
    cut, tokens = _attending(2), torch.randn(2, 5, 12)
    made = json.loads(json.dumps(record(cut, _attending(3))))
    assert made == {
        "branches": {},
        "converted": ["1"],
        "attributes": {"1": {"num_heads": 2}, "1.out_proj": {"in_features": 8}},
        "shapes": {
            "1.in_proj_weight": [24, 12],
            "1.in_proj_bias": [24],
            "1.out_proj.weight": [12, 8],
        },
        "trainable": {},
    }
    net = _attending(3)
    rebuild_(net, made)
    net.load_state_dict(cut.state_dict())
    expected = cut[1](tokens, tokens, tokens, need_weights=False)[0]
    assert torch.equal(net[1](tokens, tokens, tokens, need_weights=False)[0], expected)
    assert record(net, _attending(3)) == record(cut, _attending(3))


@pytest.mark.parametrize(
    ("converted", "message"),
    [
        (["nothing"], "names the attention 'nothing', which the network lacks"),
        (["0"], "names the attention '0', which the network lacks"),
        ([7], "names the attention 7, which the network lacks"),
        (["1", "1"], "names the attention '1', which the network lacks"),
        ("1", "has 'converted' of type str"),
    ],
)
def test_hostile_conversions_are_refused(converted: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        rebuild_(_attending(3), {**EMPTY, "converted": converted})


@pytest.mark.parametrize("made", [None, [], "record", 7])
def test_what_is_no_record_is_refused(made: Any) -> None:
    with pytest.raises(BadInput, match="its structure is not a record"):
        rebuild_(Net(), made)


def test_a_fresh_twin_has_the_structure_and_draws_of_its_own() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.Conv2d(64, 32, 3))
    dense = copy.deepcopy(net)
    small = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.Conv2d(16, 32, 3))
    small[0].weight.requires_grad_(False)
    twin = fresh_twin(small, dense)
    assert [tuple(p.shape) for p in twin.parameters()] == [
        tuple(p.shape) for p in small.parameters()
    ]
    assert twin[2].in_channels == 16
    assert all(parameter.requires_grad for parameter in twin.parameters())
    assert twin.eval()(torch.zeros(1, 3, 8, 8)).shape == (1, 32, 4, 4)
    # Fewer filters are drawn from the same distribution, shorter ones from one twice as wide.
    assert torch.equal(twin[0].weight, dense[0].weight[:16])
    assert torch.equal(twin[2].weight, 2 * dense[2].weight[:, :16])
    assert torch.equal(twin[1].running_var, torch.ones(16))
    assert all(map(torch.equal, net.state_dict().values(), dense.state_dict().values()))
