"""The layers that read what a plan removes, with the channels that stay on either side."""

import torch
from torch import nn

from regrow.prune.channels.records import Group, Member
from regrow.prune.compensation.readers import Reader, find_readers

UNITS = tuple((unit,) for unit in range(6))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.body, self.deep = nn.Conv2d(6, 6, 3), nn.Conv2d(6, 6, 3, groups=6)
        self.fc = nn.Linear(6, 2)


def group(layer: str, *members: Member) -> Group:
    return Group(layer, (Member(layer, "out", UNITS), *members))


STEM = group("stem", Member("body", "in", UNITS))
BODY = group("body", Member("deep", "out", UNITS), Member("fc", "in", UNITS))


def test_a_reader_keeps_what_stays_on_both_of_its_sides() -> None:
    found, left = find_readers(Net(), [(STEM, [1, 4]), (BODY, [0])])
    assert found == [
        Reader("body", [0, 2, 3, 5], [1, 2, 3, 4, 5]),
        Reader("fc", [1, 2, 3, 4, 5], [0, 1]),
    ]
    assert left == {"deep": "it is depthwise: its filters read no channel that goes"}


def test_a_reader_of_nothing_that_goes_is_none() -> None:
    found, left = find_readers(Net(), [(STEM, [2])])
    assert [reader.layer for reader in found] == ["body"]
    assert left == {}


def test_a_shared_weight_is_left_by_name() -> None:
    net = Net()
    net.fc2 = nn.Linear(6, 2)
    net.fc2.weight = net.fc.weight
    found, left = find_readers(net, [(BODY, [0])])
    assert found == []
    assert left["fc"] == "it shares its weight with another layer"


def test_a_bare_parameter_is_left_by_name() -> None:
    net = Net()
    net.scale = nn.Parameter(torch.ones(1, 6))
    own = group("stem", Member("scale", "in", UNITS, dim=1))
    assert find_readers(net, [(own, [3])]) == (
        [],
        {"scale": "it is a bare parameter, which no layer applies"},
    )
