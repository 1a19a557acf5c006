from dataclasses import replace

import torch
from residual_nets import plain, residual_task

from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.records import Branch, Group, Groups, Member
from regrow.prune.channels.surgery import clone, cut_
from regrow.prune.cost_model import costs_of
from regrow.prune.criteria import Criterion
from regrow.prune.removal import Channels
from regrow.prune.selection import Selection
from regrow.prune.target import Target


class FirstTwo(torch.nn.Module):
    """Reads the first two of its channels once more, and needs both."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.two = torch.nn.Conv2d(3, 16, 3), torch.nn.Conv2d(2, 16, 1)
        self.fc = torch.nn.Linear(16, 3)

    def forward(self, x):
        x = self.stem(x)
        return self.fc((x + self.two(x[:, :2])).mean((2, 3)))


def test_a_plan_that_cannot_be_cut_is_refused_by_name(make_task):
    task = make_task(FirstTwo())
    assert "stem" in find_groups(task).left_whole
    units = tuple((unit,) for unit in range(16))
    sides = [("stem", "out"), ("two", "out"), ("fc", "in")]
    wrong = Group("stem", tuple(Member(name, side, units) for name, side in sides))
    selection = Selection(round_to=1, max_share=0.95)
    channels = Channels(task, Target(macs=0.08), selection, groups=Groups([wrong]))
    # Only one channel would be left, of which two cannot be read.
    assert channels.cut_(task, [], {"macs": 0.08}, tightly=True) is None
    assert "stem" in channels.refused
    assert task.net.stem.out_channels == 16


def test_a_cut_counts_once_it_is_followed(make_task):
    task = make_task("plain")
    channels = Channels(task, Target(macs=0.5), Selection(round_to=1))
    kept = {"macs": 0.7}
    work = clone(task)
    cut = channels.cut_(work, [], kept, tightly=True)
    assert cut is not None
    # It was not followed: the same is cut of the same network again.
    again = channels.cut_(clone(task), [], kept, tightly=True)
    assert (again.removed, again.units) == (cut.removed, cut.units)
    assert costs_of(task)["macs"] * 0.7 >= costs_of(work)["macs"]
    before = {group.layer: group.num_units for group in channels.groups.groups}
    channels.follow(cut)
    for group in channels.groups.groups:
        assert group.num_units == before[group.layer] - len(cut.units.get(group.layer, ()))
        assert group.width == work.net.get_submodule(group.layer).out_channels


class Clock:
    """Times that are told, one a question."""

    def __init__(self, *shares: float) -> None:
        self.shares = list(shares)

    def share(self, task) -> float:
        return self.shares.pop(0)


def test_a_cut_says_the_time_that_was_measured_after_it(make_task):
    task = make_task("plain")
    # What is left at least, and what the first plan takes.
    channels = Channels(task, Target(latency=0.8), Selection(round_to=1), latency=Clock(0.1, 0.75))
    cut = channels.cut_(clone(task), [], {"latency": 0.8}, tightly=True)
    assert cut is not None
    assert cut.latency == 0.75
    assert channels.time_share == 1
    channels.follow(cut)
    assert channels.time_share == 0.75
    channels.follow(replace(cut, removed={}, units={}, latency=None))
    assert channels.time_share == 0.75


def test_refused_layers_are_left_whole_with_their_reason(make_task):
    channels = Channels(make_task("plain"))
    channels.refuse({"body.0.0": "it was seen to fail"})
    assert [group.layer for group in channels.groups.groups] == ["body.1.0"]
    assert channels.refused == {"body.0.0": "it was seen to fail"}
    assert channels.left_whole["body.0.0"] == "it was seen to fail"


def test_a_branch_that_cannot_go_may_still_lose_channels():
    """An average with zeros around it leaves no constant: the edges differ."""
    task = residual_task(plain(torch.nn.AvgPool2d(3, 1, 1)))
    for tensor in (task.net[2].first.weight, task.net[2].first.bias, task.net[2].second.weight):
        torch.nn.init.zeros_(tensor)
    groups = [
        replace(g, branch=Branch("2", "", "", "2.second")) if g.layer == "2.first" else g
        for g in find_groups(task).groups
    ]
    assert [group.layer for group in groups] == ["0", "2.first"]
    one = clone(task)
    cut_(one, [(groups[1], list(range(5)))])
    share = 0.99 * costs_of(one)["macs"] / costs_of(task)["macs"]
    selection = Selection(round_to=1, max_share=0.9, branches=True)
    channels = Channels(task, Target(macs=share), selection, groups=Groups(groups))
    cut = channels.cut_(task, [], {"macs": share}, tightly=False)
    assert cut is not None
    assert cut.error <= 1e-9
    assert len(cut.units["2.first"]) == 5
    assert len(cut.units["0"]) == 1
    assert "does not give the same everywhere" in channels.refused["2.first"]
    assert "2.first" not in channels.left_whole
    channels.refuse({"2.first": "it was seen to fail"})
    assert channels.left_whole["2.first"] == "it was seen to fail"


class Scaled(Criterion):
    """Scores of one size a group, so that what divides them shows."""

    def scores(self, task, groups, batches):
        ramps = [torch.linspace(1, 2, group.num_units) for group in groups]
        return [ramp * 10**place for place, ramp in enumerate(ramps)]


def test_raw_scores_take_the_layer_of_lowest_scores_first(make_task):
    task = make_task("plain")
    batches = [(torch.zeros(1, 3, 16, 16, dtype=torch.uint8), None)]
    taken = {}
    for name in ("none", "mean"):
        selection = Selection(round_to=1, normalizer=name)
        channels = Channels(task, Target(macs=0.8), selection, Scaled())
        taken[name] = channels.cut_(clone(task), batches, {"macs": 0.8}, tightly=False).units
    assert set(taken["none"]) == {"body.0.0"}
    assert set(taken["mean"]) == {"body.0.0", "body.1.0"}
