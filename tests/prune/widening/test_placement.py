import torch
from torch import nn

from regrow.models.classification import Classification
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.records import Member
from regrow.prune.channels.surgery import clone, cut_
from regrow.prune.widening.placement import Placement, read_by

UNITS = ((0,), (1,), (2,))


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale, self.table = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(4, 3))
        self.register_buffer("fixed", torch.ones(4, 3))


def test_what_reads_channels_is_told_from_what_makes_or_keeps_them():
    net = nn.Sequential(
        nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ConvTranspose2d(3, 3, 1), Scaled()
    )
    for member, reads in (
        (Member("0", "in", UNITS), ("0.weight", 1)),
        (Member("0", "out", UNITS), None),
        (Member("1", "in", UNITS), None),
        (Member("2", "in", UNITS), ("2.weight", 0)),
        (Member("3.table", "in", UNITS, 1), ("3.table", 1)),
        (Member("3.scale", "in", UNITS, 0), None),  # one entry a channel makes the channel
        (Member("3.fixed", "in", UNITS, 1), None),
        (Member("3.count", "in", UNITS, is_count=True), None),
    ):
        assert read_by(net, member) == reads, member


def test_old_entries_lie_where_they_were_and_old_units_read_zeros():
    torch.manual_seed(0)
    full = Classification(["a", "b"], (16, 16), net_args={"width": 8})
    group = find_groups(full).groups[0]
    task = clone(full)
    cut_(task, [(group, [6, 7])])
    placement = Placement.between(task, full, [(group, [6, 7])], [])
    name = f"{group.layer}.weight"
    assert placement.old[name] == {0: list(range(6))}
    assert placement.new[name] == {0: [6, 7]}
    before = task.net.get_parameter(name).detach().clone()
    placement.fill_(task)
    wide = task.net.get_parameter(name)
    assert wide.shape == full.net.get_parameter(name).shape
    assert torch.equal(wide[:6], before)
    assert wide[6:].abs().sum() > 0
    reader = next(m for m in group.members if read_by(full.net, m) is not None)
    weight, dim = read_by(full.net, reader)
    assert task.net.get_parameter(weight).movedim(dim, 0)[[6, 7]].eq(0).all()
