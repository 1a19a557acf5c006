"""Reading a source: what is read, checked, skipped, and refused by name."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from given import Given, batches, data, folder, labelled, masked, picture, thrice
from regrow.data.formats import Coco, ImageFolder, Masks
from regrow.data.images.opening import CorruptImage
from regrow.data.targets.labels import VOID, Boxes, Item, Mask
from regrow.errors import BadInput


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    path = folder(tmp_path) / "a" / "4.png"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CorruptImage, match=r"a/4\.png: corrupt .*data\.skip_corrupt=true"):
        _ = data(ImageFolder(), root=tmp_path).snapshot


def test_corrupt_images_are_skipped_and_counted(tmp_path: Path, capsys) -> None:
    folder(tmp_path)
    (tmp_path / "a" / "4.png").write_bytes(b"no image")
    (tmp_path / "b" / "[").mkdir()
    (tmp_path / "b" / "[" / "5].png").write_bytes(b"")
    module = data(ImageFolder(), root=tmp_path, skip_corrupt=True, val_share=0.3)
    assert len(module.snapshot.items) == 30 - 1
    assert len(module.snapshot.hashes) == 29
    assert module.num_skipped == 2
    assert "a/4.png" in module.skipped[0]
    assert not {"a/4.png", "b/[/5].png"} & {item.name for item in module.snapshot.items}
    assert "2 corrupt images skipped: a/4.png" in capsys.readouterr().err
    # The pixels and labels of those that follow are their own.
    examples = module.examples("val")
    assert len(examples) > 2
    for index, place in enumerate(module.snapshot.indices("val")):
        item, (image, label) = module.snapshot.items[place], examples[0, index]
        assert label == "ab".index(item.target)
        whole = v2.functional.pil_to_tensor(Image.open(item.image))
        assert torch.equal(image, v2.functional.resize(whole, [4, 6], antialias=True))


def test_a_corrupt_mask_is_skipped_with_its_image(tmp_path: Path) -> None:
    (masked(tmp_path) / "masks" / "val" / "a.png").write_bytes(b"no image")
    with pytest.raises(CorruptImage, match=r"masks/val/a\.png: corrupt"):
        _ = data(Masks(), root=tmp_path).snapshot
    module = data(Masks(), root=tmp_path, skip_corrupt=True)
    assert [item.name for item in module.snapshot.items if item.split == "val"] == [
        "images/val/b.png"
    ]
    assert module.num_skipped == 1


def test_skip_corrupt_skips_nothing_else(tmp_path: Path) -> None:
    gone = [*labelled(4), *labelled(4, "val"), Item("x", tmp_path / "gone.png", "a", "train")]
    with pytest.raises(BadInput, match=r"gone\.png: no such file"):
        _ = data(gone, skip_corrupt=True).snapshot
    path = masked(tmp_path) / "masks" / "val" / "a.png"
    Image.fromarray(picture(1)).save(path)
    with pytest.raises(BadInput, match="a mask has one channel"):
        _ = data(Masks(), root=tmp_path, skip_corrupt=True).snapshot


@pytest.mark.parametrize("number", [0, 1, 11, 255])
def test_pixels_of_a_class_or_void_are_allowed(tmp_path: Path, number: int) -> None:
    ((_, masks),) = batches(data(Masks(), root=masked(tmp_path, number)).val_dataloader())
    assert set(masks.flatten().tolist()) == {0, 1, number if number < 2 else VOID}


def test_a_pixel_that_is_neither_a_class_nor_void_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"masks/train/a\.png: the mask has the number 7, .*list it in the file"
    ):
        _ = data(Masks(), root=masked(tmp_path, 7)).snapshot
    with pytest.raises(
        BadInput, match=r"^3 bad rows.*: train\.png: the mask has the number 2, which is"
    ):
        _ = data(thrice(Mask(np.full((4, 6), 2), {0: "a"}))).snapshot


def test_training_images_that_show_nothing_are_refused() -> None:
    void = Mask(np.full((4, 6), VOID, np.uint8), {0: "road", 1: "sky"})
    none = Boxes(np.zeros((0, 4), np.float32), ())
    for target in (void, none):
        with pytest.raises(BadInput, match="no training image shows any of"):
            _ = data(Given(thrice(target), ["road", "sky"])).snapshot


def test_a_class_with_the_number_of_void_is_not_taken_for_void() -> None:
    numbers = np.array([[0, 255]], np.uint8).repeat(4, 0).repeat(3, 1)
    names = {0: "ground", 1: "thing"}
    with pytest.raises(BadInput, match="have the number 255, and no training image shows thing"):
        _ = data(Given(thrice(Mask(numbers, names)), ["ground", "thing"])).snapshot
    _ = data(Given(thrice(Mask(numbers, names, frozenset({255}))), ["ground", "thing"])).snapshot
    loader = data(
        Given(thrice(Mask(numbers, {0: "ground", 255: "thing"})), ["ground", "thing"])
    ).val_dataloader()
    ((_, masks),) = batches(loader)
    assert masks[0].tolist() == [[0, 0, 0, 1, 1, 1]] * 4


def test_a_class_that_no_training_image_shows_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    box = Boxes(np.array([[0, 0, 2, 2]], np.float32), ("ant",))
    _ = data(Given(thrice(box), ["ant", "bee"])).snapshot
    said = capsys.readouterr().err
    for split in ("training", "validation", "test"):
        assert f"Given: 1 class that no {split} image shows: bee" in said


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"train/a\.png: the mask is 4x6, the image 6x4"):
        _ = data(Masks(), root=masked(tmp_path, size=(6, 4))).snapshot


@pytest.mark.parametrize(
    "box",
    [(-1, 0, 3, 3), (0, -1, 3, 3), (0, 0, 7, 3), (0, 0, 3, 5), (2, 1, 2, 3), (3, 3, 4, 2)]
    + [(float("nan"), 0, 3, 3), (0, 0, float("inf"), 3)],
)
def test_boxes_that_are_outside_or_empty_are_refused(box: tuple[float, ...]) -> None:
    target = Boxes(np.array([[0, 0, 6, 4], box], np.float32), ("a", "b"))
    corners = ", ".join(f"{value:g}" for value in box)
    with pytest.raises(BadInput, match=rf"train\.png: the box \({corners}\) is empty or outside"):
        _ = data(thrice(target)).snapshot


def test_boxes_may_be_rounded() -> None:
    target = Boxes(np.array([[-0.4, 0, 6.4, 4]], np.float32), ("a",))
    assert len(data(thrice(target)).snapshot.items) == 3


def test_coco_boxes_outside_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.fromarray(picture(0)).save(tmp_path / "images" / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 1, 4, 2]}],
    }
    (tmp_path / "labels.json").write_text(json.dumps(content))
    source = Coco(images="images", annotations="labels.json")
    with pytest.raises(BadInput, match=r"images/a\.png: the box \(4, 1, 8, 3\) is .* of 6x4"):
        _ = data(source, root=tmp_path).snapshot
