import pytest
from torch import nn

from regrow.prune.channels.records import (
    Group,
    Member,
    channel_tensors,
    is_depthwise,
    members_of,
    num_blocks,
    removal,
    rows,
    width,
    widths,
)


def test_a_group_is_renumbered_after_a_cut():
    reader = Member("c", "in", ((8,), (9,), (10,)))
    group = Group("a", (Member("a", "out", ((0,), (1,), (2,))), reader))
    # Another group takes channels 3 and 5 of the reader, this one its own second unit.
    after = group.after({("a", "out"): [1], ("c", "in"): [3, 5, 9]}, [1])
    assert after.members == (
        Member("a", "out", ((0,), (1,))), Member("c", "in", ((6,), (7,))),
    )  # fmt: skip


def test_what_two_groups_take_from_one_layer_adds_up():
    first = Group("a", (Member("a", "out", ((0,), (1,))), Member("c", "in", ((0,), (1,)))))
    second = Group("b", (Member("b", "out", ((0,), (1,))), Member("c", "in", ((3,), (2,)))))
    plan = [(first, [1]), (second, [1, 0])]
    assert removal(plan) == {("a", "out"): [1], ("c", "in"): [1, 2, 3], ("b", "out"): [0, 1]}
    assert [(member.layer, gone) for member, gone in members_of(plan)] == [
        ("a", [1]), ("c", [1, 2, 3]), ("b", [0, 1]),
    ]  # fmt: skip
    assert removal([(first, [])]) == {}


@pytest.mark.parametrize(
    ("layer", "side", "tensors", "count"),
    [
        (nn.Conv2d(4, 6, 3), "out", [("weight", 0), ("bias", 0)], 6),
        (nn.Conv2d(4, 6, 3), "in", [("weight", 1)], 4),
        (nn.ConvTranspose2d(4, 6, 3), "out", [("weight", 1), ("bias", 0)], 6),
        (nn.ConvTranspose2d(4, 6, 3), "in", [("weight", 0)], 4),
        (nn.Conv2d(6, 6, 3, groups=6, bias=False), "in", [("weight", 0)], 6),
        (nn.Linear(4, 6, bias=False), "out", [("weight", 0)], 6),
        (nn.Embedding(9, 5), "out", [("weight", 1)], 5),
        (nn.BatchNorm2d(5, affine=False), "out", [("running_mean", 0), ("running_var", 0)], 5),
        (nn.PReLU(), "out", [("weight", 0)], None),
    ],
    ids=str,
)
def test_where_channels_lie_in_a_layer(layer, side, tensors, count):
    assert channel_tensors(layer, side) == tensors
    assert width(layer, side) == count


def test_places_in_a_grouped_convolution_run_over_one_block():
    grouped = nn.Conv2d(6, 4, 3, groups=2)
    assert num_blocks(grouped) == 2
    assert rows(grouped, "in", 1, [1, 4]) == [1]
    assert rows(grouped, "out", 0, [1, 3]) == [1, 3]
    assert not is_depthwise(grouped)
    depthwise = nn.Conv2d(6, 6, 3, groups=6)
    assert is_depthwise(depthwise)
    assert num_blocks(depthwise) == 1
    assert widths(nn.Sequential(grouped, nn.ReLU(), nn.Linear(4, 2))) == {"0": 4, "2": 2}
