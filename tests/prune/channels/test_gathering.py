import pytest
import torch
from torch import Tensor, nn

from regrow.prune.channels.gathering import combine
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.records import Group, Member
from regrow.prune.criteria import Magnitude


def test_grouped_convolutions_are_gathered_from_every_block(make_task):
    task = make_task("grouped")
    group = find_groups(task).groups[0]
    reader = next(member for member in group.members if member.side == "in")
    only = Group(reader.layer, (reader,))
    scores = Magnitude().scores(task, [only], None)[0]
    weight = task.net.body[1][0].weight.detach()
    assert scores.tolist() == pytest.approx(weight.transpose(0, 1).flatten(1).norm(dim=1).tolist())


def test_what_each_layer_contributes_is_averaged_over_the_layers_that_see_a_unit():
    net = nn.Sequential(nn.Linear(1, 3, bias=False), nn.Linear(3, 1, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0], [2.0], [3.0]]))
        net[1].weight.copy_(torch.tensor([[10.0, 20.0, 30.0]]))
    made, read = Member("0", "out", ((0,), (1,), (2,))), Member("1", "in", ((0,), (), (2,)))
    names: list[str] = []

    def score(name: str, rows: Tensor) -> Tensor:
        names.append(name)
        return rows.sum(1)

    found = combine(Group("0", (made, read)), net, score)
    # The second unit is seen by its maker alone.
    assert found.tolist() == [5.5, 2.0, 16.5]
    assert names == ["0.weight", "1.weight"]
    others = {"1.weight": torch.tensor([[1.0, 1.0, 2.0]])}
    products = combine(Group("0", (made, read)), net, lambda _, w, o: (w * o).sum(1), others)
    assert products.tolist() == [10.0, 0.0, 60.0]
