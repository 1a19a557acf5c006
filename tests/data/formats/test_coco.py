"""COCO's annotations."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layouts import picture, write
from regrow.data.formats import Coco
from regrow.data.targets.labels import CROWD, OBJECT
from regrow.errors import BadInput


def coco(boxes: Sequence[Sequence[float]] = ((1, 2, 3, 4),)) -> dict[str, Any]:
    return {
        "images": [{"id": 9, "file_name": "a.png"}, {"id": 4, "file_name": "sub/b.png"}],
        "categories": [{"id": 7, "name": "wbc"}, {"id": 3, "name": "rbc"}],
        "annotations": [
            {"id": number, "image_id": 9, "category_id": 3, "bbox": list(box)}
            for number, box in enumerate(boxes)
        ],
    }


def pictures(folder: Path) -> None:
    """Make the images that `coco` lists."""
    for name in ("a.png", "sub/b.png"):
        picture(folder / name)


def test_coco_with_splits_by_another_name(tmp_path: Path) -> None:
    pictures(tmp_path / "valid")
    write(tmp_path / "valid" / "boxes.json", coco())
    item, _ = Coco("{split}", "{split}/boxes.json").read(tmp_path).items
    assert (item.name, item.split) == ("valid/a.png", "val")


def test_coco_may_lie_beside_its_root(tmp_path: Path) -> None:
    pictures(tmp_path / "images")
    write(tmp_path / "lists" / "train.json", coco())
    item, _ = Coco("../images", "{split}.json").read(tmp_path / "lists").items
    assert item.name == "../images/a.png"


def test_coco_gives_corners_and_names(tmp_path: Path) -> None:
    content = coco([(1, 2, 3, 4), (0.5, 0, 2, 2.5)])
    content["annotations"][1]["category_id"] = 7
    content["annotations"].append(
        {"id": 5, "image_id": 9, "category_id": 7, "bbox": [0, 0, 8, 8], "iscrowd": 1}
    )
    write(tmp_path / "annotations" / "instances_train.json", content)
    more = coco([])
    more["categories"].append({"id": 1, "name": "platelet"})
    write(tmp_path / "annotations" / "instances_test.json", more)
    pictures(tmp_path / "images" / "train")
    pictures(tmp_path / "images" / "test")
    found = Coco().read(tmp_path)
    assert (found.kind, found.classes) == ("boxes", ["wbc", "rbc", "platelet"])
    names = ["images/train/a.png", "images/train/sub/b.png"]
    assert [item.name for item in found.items][:2] == names
    assert [item.split for item in found.items] == ["train", "train", "test", "test"]
    assert found.items[0].image == tmp_path / "images" / "train" / "a.png"
    assert found.items[0].target.xyxy.tolist()[:2] == [[1, 2, 4, 6], [0.5, 0, 2.5, 2.5]]
    assert found.items[0].target.xyxy.dtype == np.float32
    assert found.items[0].target.classes == ("rbc", "wbc", "wbc")
    assert found.items[0].target.ignored == (OBJECT, OBJECT, CROWD)
    assert found.items[1].target.xyxy.shape == (0, 4)
    assert found.items[1].target.classes == ()


def test_coco_with_a_single_file_has_no_official_split(tmp_path: Path) -> None:
    pictures(tmp_path / "images")
    write(tmp_path / "labels.json", coco())
    found = Coco(images="images", annotations="labels.json").read(tmp_path)
    assert [(item.name, item.split) for item in found.items] == [
        ("images/a.png", None),
        ("images/sub/b.png", None),
    ]
    assert found.items[0].image == tmp_path / "images" / "a.png"


def without(part: str, key: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content[part][0].pop(key)


def setting(part: str, key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content[part][0].update({key: value})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("images", "file_name"), "an entry has no 'file_name'"),
        (without("images", "id"), "an entry has no 'id'"),
        (without("annotations", "bbox"), "an entry has no 'bbox'"),
        (without("categories", "name"), "an entry has no 'name'"),
        (lambda content: content.pop("images"), "an entry has no 'images'"),
        (setting("images", "file_name", None), "not COCO's layout"),
        (setting("annotations", "bbox", [1, 2, 3]), "not COCO's layout"),
        (setting("annotations", "bbox", [1, 2, 3, 4] * 2), "not COCO's layout"),
        (setting("annotations", "bbox", "1 2 3 4"), "not COCO's layout"),
        (lambda content: content.update(annotations=["box"]), "not COCO's layout"),
        (setting("annotations", "category_id", 8), "annotation 0 has the category 8, which is not"),
        (setting("annotations", "image_id", 5), "annotations are of the image 5, which is not"),
        (setting("categories", "name", "rbc"), "rbc is named twice"),
    ],
)
def test_coco_refuses_another_layout(tmp_path: Path, spoil, message: str) -> None:
    pictures(tmp_path / "images" / "train")
    content = coco()
    spoil(content)
    write(tmp_path / "annotations" / "instances_train.json", content)
    with pytest.raises(BadInput, match=f"instances_train.json: .*{message}") as found:
        Coco().read(tmp_path)
    assert "\n" not in str(found.value)


def test_coco_refuses_what_is_no_json(tmp_path: Path) -> None:
    write(tmp_path / "annotations" / "instances_train.json", "{")
    with pytest.raises(BadInput, match=r"instances_train\.json: not JSON"):
        Coco().read(tmp_path)


def test_coco_reads_the_blood_cells(data_root: Path) -> None:
    content = Coco().read(data_root / "bccd")
    counts = [sum(item.split == split for item in content.items) for split in ("train", "val")]
    assert counts == [205, 87]
    assert sorted(content.classes) == ["Platelets", "RBC", "WBC"]
    assert sum(len(item.target.classes) for item in content.items) == 2804 + 1137 + 945
