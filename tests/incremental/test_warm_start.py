import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from regrow.data.module import GrowingData
from regrow.data.sample import Digits
from regrow.data.snapshot import Manifest
from regrow.errors import BadInput
from regrow.incremental.expand import expand_
from regrow.incremental.warm_start import (
    WarmStart,
    count_leaked,
    names_before,
    remark_leaked,
    silenced,
    warm_start_,
)
from regrow.models.class_rows import ClassRows
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task

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


def _begin(parent: Task, data: Grown, **options: object) -> WarmStart:
    return warm_start_(parent, data, **options)  # type: ignore[arg-type]


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
    assert start.known_score(start.before) == pytest.approx((recalls["a"] + recalls["b"]) / 2)


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

    start = warm_start_(parent, grown, renamed={"7": "9", "6": "8"}, removed=["5"])

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

    start = warm_start_(parent, grown)

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


def test_silenced_detector_finds_what_it_found_before() -> None:
    task = Detection(["a", "b"], (64, 64), score_threshold=0.001).eval()
    images = task.example_images(2)
    before = task.predict(task(images))
    assert min(len(found["labels"]) for found in before) > 0
    expand_(task, ["b", "new", "a"])
    with silenced(task, ["new"]), torch.no_grad():
        after = task.predict(task(images))
    places = torch.tensor([2, 0])
    for old, new in zip(before, after, strict=True):
        assert torch.equal(new["labels"], places[old["labels"]])
        torch.testing.assert_close(new["boxes"], old["boxes"], rtol=0, atol=1e-3)
        torch.testing.assert_close(new["scores"], old["scores"], rtol=0, atol=1e-5)


def test_silenced_segmenter_paints_what_it_painted_before() -> None:
    task = Segmentation(["a", "b", "c"], (32, 32)).eval()
    images = task.example_images(2)
    before = task.predict(task(images))
    expand_(task, ["c", "new", "a", "b"])
    with silenced(task, ["new"]), torch.no_grad():
        after = task.predict(task(images))
    places = torch.tensor([2, 3, 0], dtype=torch.uint8)
    # Equal but for ties that rounding may break.
    assert (after == places[before.long()]).float().mean() > 0.999
    assert (after != 1).all()


def test_known_score_leaves_out_classes_that_do_not_occur(parent: Classification) -> None:
    start = _begin(parent, Grown(["a", "b", "new"]))
    scores = {"a": 0.5, "b": math.nan, "new": 1.0}
    assert start.known_score(replace(start.before, per_class=scores)) == 0.5
    nothing = replace(start.before, per_class=dict.fromkeys(scores, math.nan))
    assert math.isnan(start.known_score(nothing))


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


def test_silenced_network_names_no_new_class_and_the_rest_as_before(make_task: MakeTask) -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3))
    task = make_task(net, [ClassRows("3")], ["a", "b", "c"])
    images = task.example_images(4)
    before = task.predict(task(images))
    label_map = expand_(task, ["new", "c", "a", "b", "other"])

    with silenced(task, label_map.added):
        probabilities = task.predict(task(images))
    assert (probabilities[:, [0, 4]] == 0).all()
    torch.testing.assert_close(probabilities[:, [2, 3, 1]], before, rtol=0, atol=1e-6)

    unsilenced = task.predict(task(images))
    assert (unsilenced[:, [0, 4]] > 0).all()


def test_silencing_reaches_every_anchor_of_a_convolution_but_no_box(make_task: MakeTask) -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.score = nn.Conv2d(3, 6, 1)
            self.box = nn.Conv2d(3, 12, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.cat([self.score(images), self.box(images)], 1)

    rows = [
        ClassRows("score", num_anchors=2, background=1),
        ClassRows("box", background=1, rows_per_class=4),
    ]
    task = make_task(Head(), rows, ["a", "b"])
    images = task.example_images(2)
    plain = task(images)["scores"]
    with silenced(task, ["b"]):
        scores = task(images)["scores"]
    # Background, a, b for each of two anchors, then the boxes.
    assert (scores[:, [2, 5]] < -1000).all()
    others = [0, 1, 3, 4, *range(6, 18)]
    assert torch.equal(scores[:, others], plain[:, others])
    assert not task.net.score._forward_hooks


def test_nothing_is_silenced_where_nothing_is_new(make_task: MakeTask) -> None:
    task = make_task(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), [ClassRows("1")], ["a", "b"])
    images = task.example_images()
    plain = task(images)["scores"]
    with silenced(task, []):
        assert torch.equal(task(images)["scores"], plain)
