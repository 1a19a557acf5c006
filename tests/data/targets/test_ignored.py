"""VOC's difficult objects and COCO's crowds, from the annotation into the batch."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from regrow.data.formats import Coco, ManifestFile, Voc
from regrow.data.images.transforms import augmented
from regrow.data.module import GrowingData
from regrow.data.source import Content, Source
from regrow.data.stored import Stored, store
from regrow.data.targets.ignored import separated, together
from regrow.data.targets.labels import (
    CROWD,
    DIFFICULT,
    OBJECT,
    Boxes,
    Item,
    label_digest,
    renamed,
    shown_classes,
    without,
)
from regrow.errors import BadInput

CORNERS = np.array([[1, 1, 5, 5], [2, 0, 6, 3], [0, 0, 8, 8]], dtype=np.float32)
MIXED = Boxes(CORNERS, ("a", "b", "a"), (OBJECT, DIFFICULT, CROWD))
ALL_OBJECTS = Boxes(CORNERS, ("a", "b", "a"))


class Given(Source):
    """Images with these boxes, in each split."""

    def __init__(self, *targets: Boxes) -> None:
        self.targets = targets

    def read(self, root: Path | None) -> Content:
        random = np.random.default_rng(0)
        items = [
            Item(f"{split}{n}", random.integers(0, 256, (8, 8, 3), dtype=np.uint8), target, split)
            for split in ("train", "val", "test")
            for n, target in enumerate(self.targets)
        ]
        return Content("boxes", ["a", "b"], items)


def data(*targets: Boxes, **options: Any) -> GrowingData:
    return GrowingData(Given(*targets), None, **{"size": (16, 8), "batch_size": 8} | options)


def voc(root: Path, *difficult: str | None) -> Path:
    """An image whose objects, a pixel each, have these words for `difficult`."""
    (root / "JPEGImages").mkdir(parents=True)
    (root / "Annotations").mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(root / "JPEGImages" / "x.png")
    objects = "".join(
        f"<object><name>a</name>{'' if word is None else f'<difficult>{word}</difficult>'}<bndbox>"
        f"<xmin>{n + 1}</xmin><ymin>1</ymin><xmax>{n + 2}</xmax><ymax>2</ymax></bndbox></object>"
        for n, word in enumerate(difficult)
    )
    text = f"<annotation><filename>x.png</filename>{objects}</annotation>"
    (root / "Annotations" / "x.xml").write_text(text)
    return root


def test_voc_marks_difficult_objects(tmp_path: Path) -> None:
    (item,) = Voc().read(voc(tmp_path, "0", "1", None, " 1 ", "", "true")).items
    assert item.target.marks == (OBJECT, DIFFICULT, OBJECT, DIFFICULT, OBJECT, DIFFICULT)
    assert len(item.target.classes) == 6


def test_a_word_that_is_neither_yes_nor_no_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"x\.xml: .*difficult is 'perhaps'; write 1 or 0"):
        Voc().read(voc(tmp_path, "perhaps"))


def test_coco_marks_crowds_whatever_the_type_of_the_number(tmp_path: Path) -> None:
    flags = [0, 1, False, True, None, "0", "1"]
    boxes = [
        {"id": n, "image_id": 1, "category_id": 1, "bbox": [n, 0, 1, 1], "iscrowd": flag}
        for n, flag in enumerate(flags)
    ]
    content = {
        "images": [{"id": 1, "file_name": "x.png"}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": boxes,
    }
    (tmp_path / "x.json").write_text(json.dumps(content))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "x.png")
    (item,) = Coco("", "x.json").read(tmp_path).items
    assert item.target.marks == (0, CROWD, 0, CROWD, 0, 0, CROWD)


def test_boxes_of_a_manifest_may_be_marked(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "x.png")
    sides = {"class_id": 0, "left": 0, "top": 0, "width": 2, "height": 2}
    marked = [sides, sides | {"iscrowd": 1}, sides | {"difficult": 1}]
    row = {
        "source-ref": "x.png",
        "boxes": {"annotations": marked},
        "boxes-metadata": {"class-map": {"0": "a"}},
    }
    (tmp_path / "x.manifest").write_text(json.dumps(row) + "\n")
    (item,) = ManifestFile().read(tmp_path).items
    assert item.target.marks == (OBJECT, CROWD, DIFFICULT)


def test_labels_of_objects_alone_keep_the_digest_that_they_had() -> None:
    # As it was computed before boxes could be ignored, so that old checkpoints know their images.
    rows = [["a", 0.0, 0.0, 8.0, 8.0], ["a", 1.0, 1.0, 5.0, 5.0], ["b", 2.0, 0.0, 6.0, 3.0]]
    old = hashlib.blake2b(json.dumps(rows).encode(), digest_size=8).digest()
    assert label_digest(ALL_OBJECTS) == old
    assert label_digest(Boxes(CORNERS, ("a", "b", "a"), (OBJECT,) * 3)) == old


def test_a_mark_changes_the_digest() -> None:
    marked = [Boxes(CORNERS, ("a", "b", "a"), (0, 0, mark)) for mark in (0, DIFFICULT, CROWD)]
    assert len({label_digest(target) for target in marked}) == 3


def test_ignored_boxes_show_no_class() -> None:
    assert shown_classes(MIXED) == {"a"}
    assert shown_classes(ALL_OBJECTS) == {"a", "b"}


def test_renaming_and_leaving_out_classes_keep_the_marks_of_the_others() -> None:
    assert renamed(MIXED, {"a": "c"}).marks == (OBJECT, DIFFICULT, CROWD)
    left = without(MIXED, {"b"})
    assert isinstance(left, Boxes)
    assert (left.classes, left.marks) == (("a", "a"), (OBJECT, CROWD))
    assert left.xyxy.tolist() == CORNERS[[0, 2]].tolist()


def test_marks_must_be_as_many_as_boxes() -> None:
    with pytest.raises(ValueError, match="3 boxes, and 2 marks"):
        Boxes(CORNERS, ("a", "b", "a"), (OBJECT, CROWD))


def test_a_stored_snapshot_keeps_the_marks(tmp_path: Path) -> None:
    items = data(MIXED, ALL_OBJECTS).snapshot.items
    store(tmp_path / "kept", "boxes", ["a", "b"], items)
    found = Stored().read(tmp_path / "kept").items
    assert [item.target.ignored for item in found] == [(0, 1, 2), ()] * 3


def test_a_batch_has_the_ignored_boxes_apart() -> None:
    ((_, targets),) = data(MIXED, ALL_OBJECTS).val_dataloader()
    first, second = targets
    # The image is 8x8, resized to 16 high and 8 wide.
    assert first["boxes"].tolist() == [[1, 2, 5, 10]]
    assert first["labels"].tolist() == [0]
    assert first["ignored_boxes"].tolist() == [[2, 0, 6, 6], [0, 0, 8, 16]]
    assert first["ignored_labels"].tolist() == [1, 0]
    assert first["is_crowd"].tolist() == [False, True]
    assert len(second["boxes"]) == 3
    assert second["ignored_boxes"].shape == (0, 4)
    assert second["is_crowd"].dtype == torch.bool


def test_batches_of_data_without_ignored_boxes_have_no_such_keys() -> None:
    ((_, (target,)),) = data(ALL_OBJECTS).val_dataloader()
    assert target.keys() == {"boxes", "labels"}


def test_ignored_boxes_are_told_with_their_number() -> None:
    found = data(MIXED, MIXED)
    _ = found.snapshot
    assert found.remarks.count("difficult objects ignored, as in VOC's evaluation") == 6
    assert found.remarks.count("crowds ignored, as in COCO's evaluation") == 6


def test_separating_comes_back_together() -> None:
    boxes, labels, marks = torch.rand(5, 4), torch.arange(5), torch.tensor([0, 2, 1, 0, 2])
    target = separated(boxes, labels, marks)
    order = torch.tensor([0, 3, 1, 2, 4])
    for found, whole in zip(together(target), (boxes, labels, marks), strict=True):
        assert torch.equal(found, whole[order])


class DropsTheSecond(v2.Transform):
    """Leaves out the second box, and its label."""

    def forward(self, image: Any, target: Any) -> Any:
        stay = torch.arange(len(target["labels"])) != 1
        boxes = torch.Tensor(target["boxes"])[stay]
        return image, {"boxes": boxes, "labels": target["labels"][stay]}


def test_augmentation_moves_ignored_boxes_too_and_keeps_their_marks() -> None:
    target = separated(
        torch.from_numpy(CORNERS), torch.tensor([0, 1, 0]), torch.tensor(MIXED.marks)
    )
    image = torch.zeros(3, 8, 8, dtype=torch.uint8)
    _, flipped = augmented(image, target, [v2.RandomHorizontalFlip(p=1.0)], 0)
    assert flipped["boxes"].tolist() == [[3, 1, 7, 5]]
    assert flipped["ignored_boxes"].tolist() == [[2, 0, 6, 3], [0, 0, 8, 8]]
    assert flipped["ignored_labels"].tolist() == [1, 0]
    assert flipped["is_crowd"].tolist() == [False, True]
    _, fewer = augmented(image, target, [DropsTheSecond()], 0)
    assert fewer["labels"].tolist() == [0]
    assert fewer["ignored_boxes"].tolist() == [[0, 0, 8, 8]]
    assert fewer["is_crowd"].tolist() == [True]
