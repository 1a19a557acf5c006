import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from regrow.data.module import GrowingData
from regrow.data.sample import Digits
from regrow.data.snapshot import Diff, Manifest
from regrow.errors import BadInput
from regrow.incremental.label_map import LabelMap
from regrow.incremental.matching import (
    compare_data,
    count_leaked,
    match_classes_,
    names_before,
    remark_leaked,
    score_old,
)
from regrow.models.class_rows import ClassRows
from regrow.models.classification import Classification
from regrow.models.task import Task
from regrow.training.evaluation import Evaluation

MakeTask = Callable[[nn.Module, list[ClassRows], list[str]], Task]


def _manifest(images: list[int], splits: list[int]) -> Manifest:
    hashes = torch.tensor([[image] * 16 for image in images], dtype=torch.uint8).view(-1, 16)
    return Manifest(
        hashes=hashes,
        digests=torch.zeros(len(images), 8, dtype=torch.uint8),
        splits=torch.tensor(splits, dtype=torch.uint8),
        classes=["a"],
    )


class Grown:
    """Stands for GrowingData: 40 noise images of the classes a, b and new."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes, self.size = list(classes), (32, 32)
        generator = torch.Generator().manual_seed(1)
        self.images = torch.randint(0, 256, (40, 3, 32, 32), generator=generator).byte()
        self.names = [classes[index // 2 % len(classes)] for index in range(40)]
        # Even images are for validation.
        self.manifest_ = _manifest(list(range(40)), [1 - index % 2 for index in range(40)])
        self.manifest_ = replace(self.manifest_, classes=list(classes))

    def manifest(self, called: Mapping[str, str]) -> Manifest:
        assert not called
        return self.manifest_

    def order_classes(self, classes: list[str]) -> None:
        assert set(self.classes) <= set(classes)
        self.classes = list(classes)

    def held_out(self) -> tuple[Tensor, list[str]]:
        return self.images[::2], self.names[::2]

    def val_dataloader(self) -> DataLoader:
        images, names = self.held_out()
        labels = torch.tensor([self.classes.index(name) for name in names])
        return DataLoader(TensorDataset(images, labels), batch_size=7)


@pytest.fixture
def parent() -> Classification:
    task = Classification(["a", "b"], (32, 32), net="small")
    task.eval()
    return task


def _recalls(task: Task, data: Grown, classes: list[str]) -> dict[str, float]:
    """How often images of each class are named right, counted one by one."""
    images, names = data.held_out()
    found: dict[str, list[bool]] = {name: [] for name in classes}
    with torch.no_grad():
        for image, name in zip(images, names, strict=True):
            best = int(task.predict(task(image[None])).argmax())
            found[name].append(task.classes[best] == name)
    return {name: sum(hits) / len(hits) for name, hits in found.items()}


class Begun(NamedTuple):
    label_map: LabelMap
    diff: Diff | None
    before: Evaluation
    num_leaked: int


def _begin(
    parent: Task,
    data: GrowingData,
    renamed: Mapping[str, str] | None = None,
    removed: Sequence[str] = (),
    **options: Any,
) -> Begun:
    """Match an old network and data in the order in which a warm start does."""
    label_map = match_classes_(parent, data, renamed=renamed, removed=removed, **options)
    before = score_old(parent, data, label_map.added)
    change, num_leaked = compare_data(parent, data, renamed or {}, removed)
    return Begun(label_map, change, before, num_leaked)


def test_old_network_is_scored_on_new_images_before_training(parent: Classification) -> None:
    data = Grown(["new", "b", "a"])
    old = copy.deepcopy(parent)
    recalls = _recalls(old, data, ["a", "b", "new"])
    assert recalls["new"] == 0

    start = _begin(parent, data)

    assert parent.classes == data.classes == ["a", "b", "new"]
    assert start.before.num_images == 20
    assert start.before.per_class == pytest.approx(recalls)
    _, names = data.held_out()
    hits = sum(recalls[name] for name in names)
    assert start.before.value == pytest.approx(hits / 20)


def test_network_is_ready_to_be_trained(parent: Classification) -> None:
    _begin(parent, Grown(["a", "b", "new"]))
    assert all(module.training for module in parent.net.modules())


def test_old_rows_are_kept_and_the_diff_is_given(parent: Classification) -> None:
    old = _manifest(list(range(30)), [1 - index % 2 for index in range(30)])
    parent.provenance.manifest = replace(old, classes=["a", "b"]).to_dict()
    before = copy.deepcopy(parent)
    start = _begin(parent, Grown(["a", "b", "new"]))
    assert start.diff is not None
    assert start.diff.num_added == 10
    assert list(start.diff.new_classes) == ["new"]
    assert start.num_leaked == 0
    parent.eval()
    images = parent.example_images(3)
    with torch.no_grad():
        ours, theirs = parent(images)["logits"], before(images)["logits"]
    torch.testing.assert_close(ours[:, :2], theirs, rtol=0, atol=1e-6)


def test_images_that_the_parent_was_trained_on_are_counted(parent: Classification) -> None:
    parent.provenance.manifest = _manifest(list(range(6)), [0] * 6).to_dict()
    assert _begin(parent, Grown(["a", "b"])).num_leaked == 3  # 0, 2 and 4 are held out now


def test_parent_without_a_manifest_has_no_diff(parent: Classification) -> None:
    start = _begin(parent, Grown(["a", "b"]))
    assert start.diff is None
    assert start.num_leaked == 0
    assert start.label_map.added == []


def test_renamed_class_is_scored_under_its_new_name(parent: Classification) -> None:
    data = Grown(["z", "b"])
    old = copy.deepcopy(parent)
    old.classes = ["z", "b"]
    start = _begin(parent, data, renamed={"a": "z"})
    assert parent.classes == ["z", "b"]
    assert start.before.per_class == pytest.approx(_recalls(old, data, ["z", "b"]))


def test_missing_class_is_refused_before_anything_changes(parent: Classification) -> None:
    data = Grown(["z", "b"])
    with pytest.raises(BadInput, match="the data has no class 'a' of the checkpoint"):
        _begin(parent, data)
    assert parent.classes == ["a", "b"]
    assert data.classes == ["z", "b"]


def test_a_new_class_with_the_name_of_an_old_one_is_new_in_the_diff() -> None:
    """As where 8 and 9 of before are called 6 and 7, which are classes of their own now."""
    young, grown = GrowingData(Digits("young")), GrowingData(Digits("grown"))
    parent = Classification(young.classes, (32, 32), net="small")
    assert parent.classes[5:] == ["5", "6", "7"]
    parent.provenance.manifest = young.snapshot.manifest().to_dict()

    start = _begin(parent, grown, renamed={"7": "9", "6": "8"}, removed=["5"])

    assert start.diff is not None
    assert sorted(start.label_map.added) == ["5", "6", "7"]
    assert sorted(start.diff.new_classes) == ["5 (new)", "6 (new)", "7 (new)"]
    assert start.diff.removed_classes == ("5",)
    # What was a 5, 6 or 7 and still is called so is now another class.
    before = [item.target for item in young.snapshot.items]
    assert start.diff.num_relabelled == sum(before.count(name) for name in "567")


@pytest.mark.parametrize("classes", ["ab", "ba", "abc"])
def test_names_that_are_swapped_are_no_new_classes(classes: str) -> None:
    assert names_before([*classes], {"a": "b", "b": "a"}, []) == {"a": "b", "b": "a"}


@pytest.mark.parametrize(
    ("classes", "renamed", "removed", "expected"),
    [
        ("ab", {}, [], {}),
        ("b", {"a": "b"}, [], {"b": "a"}),
        ("ab", {"a": "b"}, [], {"b": "a", "a": "a (new)"}),
        ("b", {"a": "b"}, ["b"], {"b": "a"}),
        ("ab", {}, ["b"], {"b": "b (new)"}),
        ("a", {}, ["b"], {}),
        ("abc", {"a": "b", "b": "c"}, [], {"b": "a", "c": "b", "a": "a (new)"}),
    ],
)
def test_names_before(
    classes: str, renamed: dict[str, str], removed: list[str], expected: dict[str, str]
) -> None:
    assert names_before([*classes], renamed, removed) == expected


def test_images_of_another_size_are_refused(parent: Classification) -> None:
    data = Grown(["a", "b"])
    data.size = (64, 32)
    with pytest.raises(BadInput, match=r"data.size is \[64, 32\].* made for \[32, 32\]"):
        _begin(parent, data)


def test_warm_start_on_the_built_in_sample(parent: Classification) -> None:
    young, grown = GrowingData(Digits("young", mislabelled=3)), GrowingData(Digits("grown"))
    parent = Classification(list(reversed(young.classes)), (32, 32), net="small")
    parent.provenance.manifest = young.snapshot.manifest().to_dict()
    old = copy.deepcopy(parent).eval()

    start = _begin(parent, grown)

    assert parent.classes == [*reversed(young.classes), *grown.classes[8:]]
    num_added = len(grown.snapshot.items) - len(young.snapshot.items)
    assert str(start.diff) == f"+{num_added} images, +2 classes, 3 relabelled"
    assert start.num_leaked == 0
    hits = count = 0
    with torch.no_grad():
        for images, labels in grown.val_dataloader():  # in the order of the new rows
            hits += int((old.predict(old(images)).argmax(1) == labels).sum())
            count += len(labels)
    assert start.before.value == pytest.approx(hits / count)


def test_leaked_images_are_held_out_now_and_were_trained_on() -> None:
    old = _manifest([1, 2, 3, 4], [0, 0, 1, 0])
    # 1 moved to test, 2 stayed, 3 was held out before, 4 moved to validation, 5 is new.
    new = _manifest([1, 2, 3, 4, 5], [2, 0, 2, 1, 1])
    assert count_leaked(old, new) == 2
    assert count_leaked(old, old) == 0


def test_leaked_images_are_named_before_the_training(
    data: GrowingData, capsys: pytest.CaptureFixture[str]
) -> None:
    now = data.snapshot.manifest()
    remark_leaked(data, now)
    assert capsys.readouterr().err == ""
    # The old network was trained on two images that validate now, and on one that tests.
    before = now.splits.clone()
    moved = [
        [item.name for item in data.snapshot.items].index(n) for n in ("val1", "val4", "test2")
    ]
    before[moved] = 0
    remark_leaked(data, replace(now, splits=before))
    said = capsys.readouterr().err
    assert "2 val images that the old network was trained on: val1, val4" in said
    assert data.remarks.count("test images that the old network was trained on") == 1
