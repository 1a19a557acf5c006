from types import SimpleNamespace

from torch import nn

from regrow.errors import BadInput
from regrow.prune.channels.coupling import fixed_layers
from regrow.prune.channels.groups import find_groups


def layers(task) -> dict[str, int]:
    return {group.layer: group.num_units for group in find_groups(task).groups}


def test_a_concatenation_shifts_the_channels_of_its_reader(make_task):
    task = make_task("concat")
    groups = {group.layer: group for group in find_groups(task).groups}
    reads = {m.layer: m for m in groups["body.a.0"].members if m.side == "in"}
    assert reads["body.b.0"].units == tuple((8 + unit,) for unit in range(8))
    # The stem is concatenated twice: each of its channels is read in two places.
    reads = {m.layer: m for m in groups["body.stem.0"].members if m.side == "in"}
    assert reads["body.b.0"].units == tuple((unit, 16 + unit) for unit in range(8))


def test_a_flattened_channel_is_a_run_of_inputs(make_task):
    group = find_groups(make_task("flat")).groups[0]
    reader = next(member for member in group.members if member.layer == "hidden")
    assert reader.units[2] == tuple(range(32, 48))


def test_a_grouped_convolution_loses_one_channel_of_each_block_at_once(make_task):
    groups = {group.layer: group for group in find_groups(make_task("grouped")).groups}
    assert groups["body.0.0"].members[0].units == tuple(
        (unit, unit + 4, unit + 8, unit + 12) for unit in range(4)
    )
    assert groups["body.0.0"].width == 16
    assert groups["body.1.0"].num_units == 6


def test_tied_weights_are_left_whole(make_task):
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 3, 3)
    )
    net[2].weight = net[1].weight
    found = find_groups(make_task(net))
    assert "shares its weights" in found.left_whole["1"]
    assert not found.groups


def test_class_rows_and_output_layers_are_never_removed(make_task):
    task = make_task("plain")
    task.class_rows = lambda: [SimpleNamespace(layer="body.1.0")]
    assert layers(task) == {"body.0.0": 16}
    task = make_task("plain", output_layers=("body.0.0",))
    assert layers(task) == {"body.1.0": 12}


def test_rows_that_cannot_be_told_apart_matter_to_growth_alone(make_task):
    def refuse() -> list:
        raise BadInput("cannot tell which of its rows belong to which class")

    task = make_task("plain", output_layers=("body.1.0",))
    task.class_rows = refuse
    assert layers(task) == {"body.0.0": 16}
    assert fixed_layers(task) == {"body.1.0"}
