"""The old network of a warm start, read from its file, and kept from naming what it cannot know."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.files import file_hash
from regrow.incremental.expand import expand_
from regrow.incremental.parent import Parent, silenced
from regrow.incremental.warm_start import WarmStart
from regrow.models.checkpoint import save
from regrow.models.class_rows import ClassRows
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task

MakeTask = Callable[[nn.Module, list[ClassRows], list[str]], Task]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A network of a, b and gone."""
    torch.manual_seed(0)
    task = Classification(["a", "gone", "b"], (16, 16), net_args={"width": 4})
    save(tmp_path / "old.ckpt", task)
    return tmp_path / "old.ckpt"


@pytest.fixture
def grown() -> Classification:
    """A network of z, which was a, and of new and b."""
    return Classification(["new", "z", "b"], (16, 16), net_args={"width": 4})


def test_a_teacher_has_its_own_classes_under_their_names_of_now(
    old: Path, grown: Classification
) -> None:
    parent = Parent(old, {"a": "z"}, ["gone"])
    teacher, whole = parent.teacher(grown), parent.load("labels")
    assert teacher.classes == ["z", "b"]
    assert whole.classes == ["a", "gone", "b"]
    assert torch.equal(teacher.net.head.weight, whole.net.head.weight[[0, 2]])


def test_weights_lie_in_the_rows_of_the_grown_network(old: Path, grown: Classification) -> None:
    parent = Parent(old, {"a": "z"}, ["gone"])
    weights, whole = parent.weights(grown), parent.load("labels").net
    assert weights["head.weight"][0].isnan().all()
    assert torch.equal(weights["head.weight"][1:], whole.head.weight[[0, 2]])
    assert torch.equal(weights["stem.0.weight"], whole.stem[0].weight)


def test_it_is_scored_as_one_that_names_no_new_class(
    old: Path, data: GrowingData, grown: Classification
) -> None:
    # Of the data's classes, a and b, it knows b alone: a was given up, and is new.
    task = Classification(["b", "a"], (16, 16), net_args={"width": 4})
    data.order_classes(task.classes)
    found = Parent(old, {}, ["gone", "a"]).evaluate(task, data, "val")
    assert (found.per_class, found.num_images) == ({"b": 1.0, "a": 0.0}, 8)


def test_another_file_in_its_place_is_refused(old: Path, grown: Classification) -> None:
    start = WarmStart(str(old), file_hash(old), {}, [], {}, None, 0.5, 0)
    Parent.of(start).check()
    save(old, Classification(["a", "b"], (16, 16), net_args={"width": 4}))
    with pytest.raises(BadInput, match="old.ckpt: not the checkpoint that the run began with"):
        Parent.of(start).teacher(grown)
    old.unlink()
    with pytest.raises(BadInput, match="put it back"):
        Parent.of(start).weights(grown)


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
