"""Layers that users name stay whole, with all that is coupled with them, and are said to."""

import pytest
import torch

from regrow.errors import BadInput
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.records import widths
from regrow.prune.channels.surgery import clone
from regrow.prune.criteria import Magnitude
from regrow.prune.naming.named_layers import is_named, layers_of
from regrow.prune.removal import Channels
from regrow.prune.selection import Selection
from regrow.prune.target import Target

BIG = Target(macs=0.9)


def pruned(task, target=BIG, **options) -> tuple[dict[str, int], dict[str, str]]:
    """Prune in one cut; returns the widths that are left and what is left whole."""
    channels = Channels(task, target, Selection(round_to=1, **options), Magnitude())
    work = clone(task)
    cut = channels.cut_(work, [], target.shares(), tightly=True)
    assert cut is not None
    assert cut.removed
    return widths(work.net), channels.left_whole


@pytest.mark.parametrize(
    ("layer", "pattern", "expected"),
    [
        ("body.stem.0", "body.stem.0", True),
        ("body.stem.0", "body.stem", True),
        ("body.stem.0", "body", True),
        ("body.stem.0", "*.0", True),
        ("body.stem.0", "body.*", True),
        ("body.stem.0", "*stem", True),
        ("body.stem.0", "body.[rst]tem.?", True),
        ("body.stem.0", "stem", False),
        ("body.stem.0", "bod", False),
        ("body.stem.0", "Body", False),
        ("body.stem.0", "body.stem.01", False),
        ("body.stem.01", "body.stem.0", False),
    ],
)
def test_a_pattern_matches_a_layer_or_a_module_that_holds_it(
    layer: str, pattern: str, expected: bool
) -> None:
    assert is_named(layer, pattern) is expected


def test_what_is_named_stays_whole_with_all_that_is_coupled(make_task):
    task = make_task("residual")
    dense = widths(task.net)
    # The stem and b share a stream; a is alone.
    after, whole = pruned(task, keep=["body.stem.*"])
    assert after["body.a.0"] < dense["body.a.0"]
    assert after | {"body.a.0": 12} == dense
    assert whole["body.stem.0"] == "selection.keep names it by 'body.stem.*'"
    assert whole["body.b.0"] == (
        "its channels go with those of body.stem.0, which selection.keep names"
    )
    after, whole = pruned(task, keep=["body.a.0"])
    assert after["body.a.0"] == 12
    assert after["body.stem.0"] == after["body.b.0"] < 16
    assert whole["body.a.0"] == "selection.keep names it"
    assert "body.b.0" not in whole


def test_a_norm_may_be_named_too(make_task):
    after, whole = pruned(make_task("residual"), keep=["body.b.1"])
    assert (after["body.stem.0"], after["body.b.0"]) == (16, 16)
    assert whole["body.b.0"] == "its channels go with those of body.b.1, which selection.keep names"


def test_only_what_is_named_goes(make_task):
    task = make_task("residual")
    after, whole = pruned(task, only=["*.a.0"])
    assert after | {"body.a.0": 12} == widths(task.net)
    assert whole["body.stem.0"] == "selection.only does not name it"
    with pytest.raises(BadInput, match="no channel of Head may go: .*body.stem.0, which") as caught:
        pruned(task, only=["body.b.0"])
    assert "which selection.only does not name" in str(caught.value)


def test_keep_goes_before_only(make_task):
    with pytest.raises(BadInput, match="no channel of Head may go"):
        pruned(make_task("residual"), only=["body.a"], keep=["body.a"])


def test_a_limit_is_kept_and_counts_for_all_that_is_coupled(make_task):
    task = make_task("residual")
    low = Target(macs=0.35)
    free, _ = pruned(task, low)
    assert free["body.a.0"] < 9 or free["body.b.0"] < 12
    after, whole = pruned(task, Target(macs=0.6), limit={"body.b.*": 0.25}, max_share=0.95)
    assert after["body.stem.0"] == after["body.b.0"] >= 12
    assert after["body.a.0"] < 12
    assert "body.b.0" not in whole
    with pytest.raises(BadInput, match=r"target\.macs 0\.2 is out of reach"):
        pruned(task, Target(macs=0.2), limit={"*": 0.25})
    # Of several that match the smallest counts, and a limit may lie above max_share.
    after, _ = pruned(task, Target(macs=0.7), limit={"*": 0.9, "body.a": 0.5}, max_share=0.1)
    assert after["body.a.0"] >= 6
    assert after["body.stem.0"] < 14 or after["body.a.0"] < 10


@pytest.mark.parametrize("net", ["vit", "timm_vit"])
def test_attention_is_named_by_itself_or_by_what_makes_it(make_task, net):
    task = make_task(net)
    found = find_groups(task).groups
    heads = [group for group in found if group.is_heads]
    assert heads
    for group in heads:
        for name in {group.layer, *layers_of(group, task.net)}:
            channels = Channels(task, Target(macs=0.99), Selection(round_to=1, keep=[name]))
            assert group.layer in channels.left_whole
            assert group.layer not in {g.layer for g in channels.groups.groups}


@pytest.mark.parametrize("option", ["keep", "only", "limit"])
@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("body.stm.0", "'body.stm.0' matches no layer of Head; did you mean body.stem.0"),
        ("xyz*", r"it has body\.stem\.0, body\.stem\.1, body\.a\.0 and 4 more"),
        ("body.stem.2", "matches no layer"),  # a ReLU, which has no channels of its own
        ("", "'' matches no layer"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused(make_task, option, pattern, said):
    value = {pattern: 0.5} if option == "limit" else [pattern]
    with pytest.raises(BadInput, match=f"selection.{option}: .*{said}"):
        Channels(make_task("residual"), BIG, Selection(**{option: value}))


@pytest.mark.parametrize("share", [0, 1, -0.5, float("nan")])
def test_a_limit_out_of_range_is_refused(share):
    with pytest.raises(BadInput, match=r"selection\.limit of 'a' is .*, it must lie in \(0, 1\)"):
        Selection(limit={"a": share})


def test_without_names_the_groups_are_as_they_were(make_task):
    task = make_task("residual")
    found = find_groups(task)
    channels = Channels(task, BIG, Selection())
    assert channels.groups == found
    assert channels.left_whole == found.left_whole
    assert torch.equal(clone(task).net.fc.weight, task.net.fc.weight)
