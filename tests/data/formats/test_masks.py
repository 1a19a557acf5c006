"""Masks with a file of classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from layouts import picture, write
from regrow.data.formats import Masks
from regrow.errors import BadInput


def masked(root: Path, classes: Any, names: Sequence[str] = ("train/a",)) -> Path:
    for name in names:
        picture(root / "images" / f"{name}.jpg")
        picture(root / "masks" / f"{name}.png")
    write(root / "classes.json", classes)
    return root


@pytest.mark.parametrize(
    ("classes", "names", "void"),
    [
        (["road", "sky"], {0: "road", 1: "sky"}, set()),
        (["void", "road"], {1: "road"}, {0}),
        ({"road": 2, "sky": 5}, {2: "road", 5: "sky"}, set()),
        ({"road": 2, "Ignore": 5}, {2: "road"}, {5}),
        ({"road": 2, "void": 5}, {2: "road"}, {5}),
        ({"classes": ["road", "sky"], "void": 1}, {0: "road"}, {1}),
        ({"classes": ["road"], "ignore_index": 11, "names": {"0": "road"}}, {0: "road"}, {11}),
        ({"classes": {"road": 3}, "void": 0}, {3: "road"}, {0}),
    ],
)
def test_masks_have_classes_by_number(tmp_path: Path, classes: Any, names, void) -> None:
    content = Masks().read(masked(tmp_path, classes))
    (item,) = content.items
    assert item.target.names == names
    assert item.target.void == void
    assert item.target.pixels == tmp_path / "masks" / "train" / "a.png"
    assert (content.kind, content.classes) == ("masks", list(names.values()))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("road", "not JSON"),
        (3, "expected a list of class names, as"),
        ({"0": "sky", "1": "road"}, "expected a list of class names, as"),
        ({"classes": {"road": "three"}}, "expected a list of class names"),
        (["road", "road"], "road is named twice"),
        ({"road": 1, "sky": 1}, "two classes have the same number"),
        ({"classes": ["road"], "void": "void"}, "void is 'void'; give its number"),
    ],
)
def test_masks_refuse_other_lists_of_classes(tmp_path: Path, classes: Any, message: str) -> None:
    masked(tmp_path, classes)
    with pytest.raises(BadInput, match=rf"classes\.json: {message}"):
        Masks().read(tmp_path)


def test_masks_lie_where_their_images_do(tmp_path: Path) -> None:
    names = ("train/v1_a", "train/town/v1_b", "val/v2_a")
    content = Masks(group=r"^(v\d)_").read(masked(tmp_path, ["road"], names))
    found = sorted((item.name, item.split, item.group) for item in content.items)
    assert found == [
        ("images/train/town/v1_b.jpg", "train", "v1"),
        ("images/train/v1_a.jpg", "train", "v1"),
        ("images/val/v2_a.jpg", "val", "v2"),
    ]
    (town,) = (item for item in content.items if "town" in item.name)
    assert town.target.pixels == tmp_path / "masks" / "train" / "town" / "v1_b.png"


def test_masks_without_splits(tmp_path: Path) -> None:
    masked(tmp_path, ["road"], ("a",))
    (item,) = Masks(images="images", masks="masks", group="(x)").read(tmp_path).items
    assert (item.name, item.split, item.group) == ("images/a.jpg", None, None)


def test_masks_that_are_missing_or_patterns_that_are_none(tmp_path: Path) -> None:
    picture(masked(tmp_path, ["road"]) / "images" / "train" / "b.png")
    with pytest.raises(BadInput, match=r"b\.png: its mask .*masks/train/b\.png is not there"):
        Masks().read(tmp_path)
    with pytest.raises(BadInput, match=r"data\.source\.group '\(' is not a pattern"):
        Masks(group="(")
    with pytest.raises(BadInput, match=r"data\.source\.group 'v\+' has no group"):
        Masks(group="v+")


def test_masks_without_images_or_classes(tmp_path: Path) -> None:
    write(tmp_path / "classes.json", ["road"])
    with pytest.raises(BadInput, match="no images at images/{split}"):
        Masks().read(tmp_path)
    (tmp_path / "classes.json").unlink()
    with pytest.raises(
        BadInput, match=r"classes\.json: no such list of classes; set data\.source\.classes_file"
    ):
        Masks().read(tmp_path)
