"""A warm start changes the old weights, and sets teacher and anchor, as its settings say."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.files import file_hash
from regrow.incremental.growth import Growth
from regrow.incremental.history import History, Part
from regrow.incremental.parent import Parent
from regrow.incremental.warm_start import WarmStart
from regrow.models.checkpoint import load, save
from regrow.models.classification import Classification
from regrow.training.distillation import Distillation, DistillationPenalty
from regrow.training.fit import Fit

MakeData = Callable[..., GrowingData]
MEMORY = Part("/old/memory", True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"shrink": -0.1}, "growth.shrink is -0.1, it must lie in [0, 1], or be null"),
        ({"shrink": 1.1}, "growth.shrink is 1.1, it must lie in [0, 1], or be null"),
        ({"perturb": -1.0}, "growth.perturb is -1.0, it must be 0 or more"),
        ({"perturb": float("inf")}, "growth.perturb is inf, it must be 0 or more"),
        ({"perturb": float("nan")}, "growth.perturb is nan, it must be 0 or more"),
        ({"anchor": -0.1}, "growth.anchor is -0.1, it must lie in [0, 1), or be null"),
        ({"anchor": 1.0}, "growth.anchor is 1.0, it must lie in [0, 1), or be null"),
        ({"num_batches": 0}, "growth.num_batches is 0, it must be at least 1"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput) as told:
        Growth(**options)
    assert str(told.value) == said


def test_the_ends_of_each_range_are_accepted() -> None:
    assert Growth(shrink=0, perturb=0, anchor=0, num_batches=1).shrink == 0
    assert Growth(shrink=1, anchor=0.99).anchor == 0.99


def make_task(*classes: str, width: int = 2) -> Classification:
    torch.manual_seed(0)
    return Classification(classes, (4, 4), net_args={"width": width})


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A network of a and b in a file, and nothing known of its data."""
    save(tmp_path / "old.ckpt", make_task("a", "b"))
    return tmp_path / "old.ckpt"


@pytest.fixture
def start(old: Path) -> WarmStart:
    """The start of a run from it, with a memory."""
    history = History(2, 8, [True] * 6 + [False] * 2, [MEMORY])
    names = {"a": "a", "b": "b"}
    return WarmStart(str(old), file_hash(old), {}, [], names, None, 0.5, 0, history)


def weights(task: Classification) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in task.net.named_parameters()}


def begun(old: Path, data: GrowingData, growth: Growth) -> tuple[Classification, WarmStart]:
    task = load(old)
    assert isinstance(task, Classification)
    return task, growth.begin_(task, data, Parent(old), 2)


def test_a_start_keeps_the_old_weights_and_remembers_where_they_are_from(
    old: Path, make_data: MakeData
) -> None:
    task, start = begun(old, make_data(train=6, val=4, classes="cab"), Growth())
    before = load(old)
    assert sorted(task.classes) == ["a", "b", "c"]
    rows = [task.classes.index(name) for name in "ab"]
    assert torch.equal(task.net.head.weight[rows], before.net.head.weight)
    assert torch.equal(task.net.stem[0].weight, before.net.stem[0].weight)
    assert (start.parent, start.parent_hash) == (str(old), file_hash(old))
    assert (start.old_names, start.renamed, start.removed) == ({"a": "a", "b": "b"}, {}, [])
    assert (start.diff, start.num_leaked, start.taught) == (None, 0, 0.0)


def test_shrinking_multiplies_the_old_weights_by_its_factor(old: Path, make_data: MakeData) -> None:
    before = weights(load(old))
    # 0.4 is the usual factor, and nothing of a fresh network is added.
    for options, factor in (({}, 0.4), ({"shrink": 0.5}, 0.5), ({"shrink": 0.0}, 0.0)):
        growth = Growth("shrink-perturb", perturb=0.0, **options)
        task, _ = begun(old, make_data(train=4, val=2), growth)
        for name in ("stem.0.weight", "head.weight"):
            torch.testing.assert_close(weights(task)[name], factor * before[name])


def test_a_memory_brings_a_teacher_and_counts_classes_alike(
    start: WarmStart, make_data: MakeData
) -> None:
    task, data = make_task("a", "b", "c"), make_data(train=8, val=3, classes="abc")
    Growth().join_(task, data, start, 2)
    (penalty,) = task.penalties
    assert isinstance(penalty, DistillationPenalty)
    assert task.chosen_by == task.even_score
    without = replace(start, history=History(2, 8, start.history.is_new))
    task = make_task("a", "b", "c")
    Growth().join_(task, data, without, 2)
    assert (len(task.penalties), task.chosen_by) == (0, task.score)


@pytest.mark.parametrize("has_memory", [True, False])
def test_a_teacher_that_was_chosen_does_not_depend_on_a_memory(
    has_memory: bool, start: WarmStart, make_data: MakeData
) -> None:
    parts = [MEMORY] if has_memory else []
    start = replace(start, history=History(2, 8, start.history.is_new, parts))
    for chosen, num_teachers in (
        (Distillation(weight=0.5), 1),
        (Distillation(weight=0.0, features=0.5), 1),
        (Distillation(weight=0.0), 0),
    ):
        task, data = make_task("a", "b", "c"), make_data(train=8, val=3, classes="abc")
        Growth(distillation=chosen).join_(task, data, start, 2)
        assert len(task.penalties) == num_teachers


def test_the_record_says_how_much_is_taught(old: Path, make_data: MakeData) -> None:
    growth = Growth(distillation=Distillation(weight=0.5, features=0.25))
    _, start = begun(old, make_data(train=6, val=4, classes="abc"), growth)
    assert start.taught == 0.75


def test_a_teacher_of_too_few_classes_is_refused_where_it_was_asked_for(
    start: WarmStart, make_data: MakeData
) -> None:
    task, data = make_task("a", "c"), make_data(train=8, val=2, classes="ac")
    for names, left in (({"a": "a"}, "a"), ({}, "none")):
        few = replace(start, removed=["b"], old_names=names)
        with pytest.raises(BadInput) as told:
            Growth(distillation=Distillation()).join_(task, data, few, 2)
        assert str(told.value) == (
            f"growth.distillation needs 2 old classes or more, and only {left} is left"
        )
        Growth().join_(task, data, few, 2)
        assert not task.penalties


def test_a_memory_anchors_a_run_that_keeps_its_weights(start: WarmStart) -> None:
    task = make_task("a", "b", "c")
    without = replace(start, history=History(2, 8, start.history.is_new))
    assert Growth().anchor_of(task, start, Fit()) == 0.3
    assert Growth().anchor_of(task, without, Fit()) == 0
    assert Growth("dash").anchor_of(task, start, Fit()) == 0
    assert Growth().anchor_of(task, start, Fit(ema=0.9)) == 0
    assert Growth().anchor_of(make_task("a", "b", "c", width=4), start, Fit()) == 0
    # What was chosen holds, with a memory or without.
    for begin in (start, without):
        assert Growth("dash", anchor=0.7).anchor_of(task, begin, Fit()) == 0.7
        assert Growth(anchor=0.0).anchor_of(task, begin, Fit(ema=0.9)) == 0


def test_an_anchor_that_cannot_be_is_refused(start: WarmStart) -> None:
    wide = make_task("a", "b", "c", width=4)
    with pytest.raises(BadInput) as told:
        Growth(anchor=0.5).anchor_of(wide, start, Fit())
    assert str(told.value) == (
        "growth.anchor needs the channels of the old network, and they came back; set it to 0, or "
        "sparsity to keep"
    )
    assert Growth(anchor=0.0).anchor_of(wide, start, Fit()) == 0
    with pytest.raises(BadInput) as told:
        Growth(anchor=0.5).anchor_of(make_task("a", "b"), start, Fit(ema=0.0))
    assert str(told.value) == (
        "growth.anchor and fit.ema both say what weights are kept; give one of them"
    )
