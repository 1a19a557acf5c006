import pytest
import torch

from regrow.errors import BadInput
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.records import Group, Member
from regrow.prune.channels.surgery import clone, cut_
from regrow.prune.cost_model import CostModel, costs_of
from regrow.prune.selection import Chooser, Selection, lowest


def chooser(task, scores=None, **options) -> Chooser:
    groups = find_groups(task).groups
    if scores is None:
        generator = torch.Generator().manual_seed(0)
        scores = [torch.rand(group.num_units, generator=generator) for group in groups]
    dense = {group.layer: group.width for group in groups}
    return Chooser(task, groups, scores, dense, Selection(**options))


def costs_after(task, plan) -> dict[str, int]:
    twin = clone(task)
    cut_(twin, plan)
    return costs_of(twin)


def test_macs_of_a_small_net_by_hand(make_task):
    # 16x16 images: 3 -> 16 and 16 -> 12 channels by 3x3, then a classifier of 3.
    macs = 16 * 16 * 9 * (3 * 16 + 16 * 12) + 12 * 3
    assert costs_of(make_task("plain"))["macs"] == macs


@pytest.mark.parametrize("name", ["plain", "residual", "concat", "depthwise", "grouped", "flat"])
@pytest.mark.parametrize("scope", ["global", "local"])
@pytest.mark.parametrize("share", [0.8, 0.5])
def test_the_cost_ends_under_its_ceiling_and_nothing_more_can_stay(make_task, name, scope, share):
    task = make_task(name)
    made = chooser(task, scope=scope, round_to=2)
    ceiling = share * costs_of(task)["macs"]
    plan = made.choose({"macs": ceiling}, tightly=True)
    assert plan is not None
    assert costs_after(task, plan)["macs"] <= ceiling
    # Brute force: one legal block fewer of any group, and the ceiling is broken.
    counts = {group.layer: len(units) for group, units in plan}
    asked = [counts.get(group.layer, 0) for group in made.groups]
    for index, count in enumerate(asked):
        if count:
            fewer = [*asked]
            fewer[index] = made.legal(index, count - 1)
            assert costs_after(task, made.plan(fewer))["macs"] > ceiling


def test_two_ceilings_are_both_kept(make_task):
    task = make_task("residual")
    dense = costs_of(task)
    ceilings = {"macs": 0.7 * dense["macs"], "params": 0.5 * dense["params"]}
    plan = chooser(task, round_to=1).choose(ceilings)
    assert plan is not None
    after = costs_after(task, plan)
    assert all(after[name] <= ceiling for name, ceiling in ceilings.items())


def test_the_lowest_scores_go_first(make_task):
    task = make_task("plain")
    scores = [torch.arange(16.0).flip(0), torch.full((12,), 100.0)]
    plan = chooser(task, scores, round_to=1).choose({"macs": 0.9 * costs_of(task)["macs"]})
    assert plan is not None
    ((group, units),) = plan
    assert group.layer == "body.0.0"
    assert units == [14, 15]


def test_the_most_valuable_come_back_first(make_task):
    task = make_task("plain")
    made = chooser(task, [torch.ones(16), torch.full((12,), 2.0)], round_to=1)
    # With 12 and 8 channels gone there is room for either layer's, but not for both.
    ceiling = costs_after(task, made.plan([4, 8]))["macs"]
    back = made._give_back([12, 8], {"macs": ceiling})
    assert 8 - back[1] >= 1
    # Whatever else comes back, no more of the second layer could have.
    fewer = made.plan([12, back[1] - 1]) if back[1] else None
    assert fewer is None or costs_after(task, fewer)["macs"] > ceiling


def test_a_prediction_that_is_wrong_is_measured_instead(make_task, monkeypatch):
    task = make_task("plain")
    # As if every cut saved all: one channel would be enough.
    monkeypatch.setattr(CostModel, "predict", lambda self, plan: {"macs": 0, "params": 0})
    ceiling = 0.5 * costs_of(task)["macs"]
    plan = chooser(task, round_to=1).choose({"macs": ceiling})
    assert costs_after(task, plan)["macs"] <= ceiling


def test_widths_are_aligned_and_shares_are_limited(make_task):
    task = make_task("plain")
    made = chooser(task, round_to=4, max_share=0.5)
    plan = made.plan(made._counts(len(made.order)))
    left = {group.layer: group.num_units - len(units) for group, units in plan}
    # 12 is narrower than four times 4, and is aligned to 2.
    assert left == {"body.0.0": 8, "body.1.0": 6}


def test_a_ceiling_out_of_reach_gives_no_plan(make_task):
    task = make_task("plain")
    made = chooser(task)
    assert made.choose({"macs": 1}) is None
    assert made.costs(made.least())["macs"] > 1


def test_a_ceiling_that_is_kept_already_removes_nothing(make_task):
    task = make_task("plain")
    assert chooser(task).choose(costs_of(task)) == []


@pytest.mark.parametrize(
    ("options", "match"),
    [({"round_to": 0}, "round_to is 0"), ({"max_share": 1.0}, r"max_share is 1\.0")],
)
def test_values_out_of_range_are_bad_input(options, match):
    with pytest.raises(BadInput, match=match):
        Selection(**options)


def test_scores_may_be_divided_by_what_a_unit_saves_of_the_macs(make_task):
    task = make_task("plain")
    # A channel of the first layer costs 27 weights there and 108 after, one of the second 144, and
    # 3 in the classifier at one place; all others at 256 places.
    saved = torch.tensor([256.0 * (27 + 9 * 12), 256.0 * 144 + 3])
    by_unit = chooser(task).scores
    by_macs = chooser(task, per="macs").scores
    gains = (saved / saved.mean()).tolist()
    for plain, divided, gain in zip(by_unit, by_macs, gains, strict=True):
        assert divided == pytest.approx([score / gain for score in plain], rel=1e-5)


def test_latency_counts_both_sides_of_a_layer_and_scales_with_the_present(make_task):
    task = make_task("plain")
    groups = find_groups(task).groups
    times = {"body.0.0": 0.25, "body.0.1": 0.125, "body.1.0": 0.5}
    scores = [torch.arange(float(group.num_units)) for group in groups]
    dense = {group.layer: group.width for group in groups}
    made = Chooser(task, groups, scores, dense, Selection(), times, now=0.5)
    plan = [(groups[0], [0, 1, 2, 3]), (groups[1], [0, 1, 2])]
    # Three quarters are left of both, so 9 / 16 of the layer between them.
    left = 1 - 0.25 * 0.25 - 0.125 * 0.25 - 0.5 * 7 / 16
    assert made._with_latency({}, plan) == {"latency": pytest.approx(0.5 * left)}


@pytest.mark.parametrize("name", ["plain", "residual", "concat", "depthwise"])
def test_the_same_share_of_every_layer_goes_in_one_step_and_in_many(make_task, name):
    task = make_task(name)
    dense, macs = chooser(task).dense, costs_of(task)["macs"]

    def left(*shares: float) -> dict[str, int]:
        work = clone(task)
        for share in shares:
            groups = find_groups(work).groups
            scores = [torch.arange(float(group.num_units)) for group in groups]
            made = Chooser(work, groups, scores, dense, Selection(scope="local", round_to=4))
            plan = made.choose({"macs": share * macs})
            assert plan is not None
            cut_(work, plan)
        return {group.layer: group.width for group in find_groups(work).groups}

    # A width of 12 gives way in blocks of 3 of 16: a small step by itself asks for none of them.
    assert left(0.9, 0.8, 0.7, 0.6, 0.5, 0.4) == left(0.4)


def test_what_has_no_say_is_refused():
    with pytest.raises(BadInput, match=r"selection\.per macs has no say where .* is local"):
        Selection(scope="local", per="macs")


def test_the_lowest_of_each_group_by_hand():
    units = tuple((unit,) for unit in range(8))
    groups = [Group(layer, (Member(layer, "out", units),)) for layer in "ab"]
    scores = [torch.tensor([5.0, 1, 4, 2, 8, 7, 6, 3]), torch.arange(8.0).flip(0)]
    assert [units for _, units in lowest(groups, scores, 0.4)] == [[1, 3, 7], [5, 6, 7]]
    # Narrow layers are aligned more finely: eight channels to multiples of two.
    assert [units for _, units in lowest(groups, scores, 0.4, round_to=16)] == [[1, 3], [6, 7]]
    assert lowest(groups, scores, 0.1) == []
    # Of equal scores the first go.
    assert lowest(groups[:1], [torch.zeros(8)], 0.25)[0][1] == [0, 1]


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_of_units_out_of_range_is_bad_input(share):
    with pytest.raises(BadInput, match=f"share is {share}, the share of units to remove must"):
        lowest([], [], share)
