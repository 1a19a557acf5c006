"""What all sources have in common: groups, and being tidied once."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regrow.data.formats import Coco, ImageFolder, ManifestFile, Masks, Voc
from regrow.data.module import GrowingData
from regrow.data.sagemaker import SageMakerBoxes, SageMakerList, SageMakerMasks
from regrow.data.source import Source, locate
from regrow.data.staged import Staged
from regrow.errors import BadInput

NAMES = ("v1_0.png", "v1_1.png", "v2_0.png", "still.png")
PATTERN = r"(v\d+)_"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def pictures(folder: Path, mode: str = "RGB") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(NAMES):
        pixels = np.random.default_rng(number).integers(0, 2 if mode == "L" else 256, (16, 16, 3))
        image = Image.fromarray(
            pixels.astype(np.uint8)[..., 0] if mode == "L" else pixels.astype(np.uint8)
        )
        image.save(folder / name)


def folders(root: Path) -> Source:
    pictures(root / "ant")
    return ImageFolder(group=PATTERN)


def table(root: Path) -> Source:
    pictures(root)
    write(root / "a.csv", "image,label\n" + "".join(f"{name},ant\n" for name in NAMES))
    return ManifestFile(group=PATTERN)


def coco(root: Path) -> Source:
    pictures(root)
    images = [{"id": n, "file_name": name} for n, name in enumerate(NAMES)]
    categories = [{"id": 1, "name": "ant"}]
    content = {"images": images, "annotations": [], "categories": categories}
    write(root / "a.json", json.dumps(content))
    return Coco(".", "a.json", group=PATTERN)


def voc(root: Path) -> Source:
    pictures(root / "JPEGImages")
    for name in NAMES:
        write(root / "Annotations" / f"{name[:-4]}.xml", "<annotation/>")
    return Voc(group=PATTERN)


def masks(root: Path) -> Source:
    pictures(root / "images")
    pictures(root / "masks", "L")
    write(root / "classes.json", '["sky", "road"]')
    return Masks("images", "masks", group=PATTERN)


def listed(root: Path) -> Source:
    pictures(root / "train")
    rows = "".join(f"{n}\t0\t{name}\n" for n, name in enumerate(NAMES))
    write(root / "train_lst" / "a.lst", rows)
    return SageMakerList(group=PATTERN)


def boxes_of_sagemaker(root: Path) -> Source:
    pictures(root / "train")
    for name in NAMES:
        content = {"file": name, "annotations": []}
        write(root / "train_annotation" / f"{name[:-4]}.json", json.dumps(content))
    return SageMakerBoxes(group=PATTERN)


def masks_of_sagemaker(root: Path) -> Source:
    pictures(root / "train")
    pictures(root / "train_annotation", "L")
    return SageMakerMasks(2, group=PATTERN)


MAKE = [folders, table, coco, voc, masks, listed, boxes_of_sagemaker, masks_of_sagemaker]


@pytest.mark.parametrize("make", MAKE, ids=lambda make: make.__name__)
def test_every_format_groups_by_name(tmp_path: Path, make: Callable[[Path], Source]) -> None:
    items = make(tmp_path).read(tmp_path).items
    groups = {Path(item.name).name: item.group for item in items}
    assert groups == dict(zip(NAMES, ("v1", "v1", "v2", None), strict=True))


def test_images_of_a_group_are_on_one_side_of_a_split(tmp_path: Path) -> None:
    for number in range(40):
        path = tmp_path / "ant" / f"v{number % 8}_{number}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    data = GrowingData(ImageFolder(group=PATTERN), tmp_path, (8, 8), val_share=0.4, test_share=0)
    sides: dict[str, set[str]] = {}
    for item, split in zip(data.snapshot.items, data.snapshot.splits, strict=True):
        sides.setdefault(str(item.group), set()).add(split)
    assert len(sides) == 8
    assert all(len(side) == 1 for side in sides.values())
    assert {"train", "val"} == {next(iter(side)) for side in sides.values()}


def test_a_pattern_with_a_slash_is_searched_in_the_path(tmp_path: Path) -> None:
    for name in ("ant/day1/0.png", "ant/day2/0.png", "bee/day1/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    items = ImageFolder(group=r"/(day\d)/").read(tmp_path).items
    assert [item.group for item in items] == ["day1", "day2", "day1"]
    assert [i.group for i in ImageFolder(group=r"(day\d)").read(tmp_path).items] == [None] * 3


def test_what_a_list_says_of_groups_goes_before_names(tmp_path: Path) -> None:
    pictures(tmp_path)
    write(tmp_path / "a.csv", "image,label,group\nv1_0.png,ant,own\nv1_1.png,ant,\n")
    items = ManifestFile(group=PATTERN).read(tmp_path).items
    assert [item.group for item in items] == ["own", "v1"]


@pytest.mark.parametrize(
    ("pattern", "message"), [("(", "is not a pattern"), ("v1", "has no group; put one in paren")]
)
def test_a_group_that_is_no_pattern_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        ImageFolder(group=pattern)


def test_what_another_source_read_is_tidied_and_told_once(tmp_path: Path) -> None:
    source = coco(tmp_path)
    lines = source.read(tmp_path).remarks.lines
    assert lines[0].startswith("4 images listed without a box")
    assert Staged(source).read(tmp_path).remarks.lines == lines


def test_locate_looks_below_the_environment_variable(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "stored" / "set").mkdir(parents=True)
    monkeypatch.setenv("REGROW_DATA", str(tmp_path / "stored"))
    monkeypatch.chdir(tmp_path)
    assert locate(Path("set")) == tmp_path / "stored" / "set"
    (tmp_path / "set").mkdir()
    assert locate(Path("set")) == Path("set")
    assert locate(tmp_path) == tmp_path


def test_locate_names_what_it_tried(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("REGROW_DATA", "elsewhere")
    monkeypatch.chdir(tmp_path)
    line = f"no folder nothing nor elsewhere/nothing, seen from {tmp_path}; set --data.root"
    with pytest.raises(BadInput, match=re.escape(line)):
        locate(Path("nothing"))
    with pytest.raises(BadInput, match=r"data\.root is not set"):
        locate(None)
    write(tmp_path / "a.csv", "image,label\n")
    with pytest.raises(BadInput, match=r"no folder .*a\.csv"):
        locate(tmp_path / "a.csv")


SOURCES = [ImageFolder(), ManifestFile(), Coco(), Voc(), Masks()]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: type(source).__name__)
def test_an_empty_folder_is_refused_by_name(tmp_path: Path, source: Source) -> None:
    with pytest.raises(BadInput, match=str(tmp_path)):
        source.read(tmp_path)
