"""Several sources in one run, each with the classes that it knows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from regrow.cli import parse
from regrow.data.config import write_data_file
from regrow.data.described import build_data
from regrow.data.formats import Coco, ImageFolder, Masks, Part, Several
from regrow.data.module import GrowingData
from regrow.data.targets.labels import Boxes
from regrow.errors import BadInput


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([*"/".join(path.parts[-3:]).encode()]).integers(
        0, 256, (20, 20, 3)
    )
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


Rows = dict[str, list[tuple[str, list[float]]]]


def coco(file: Path, classes: list[str], images: Rows) -> None:
    """Write annotations: by image the class and the left, top, width and height of each box."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "images": [{"id": n, "file_name": name} for n, name in enumerate(images)],
        "annotations": [
            {"id": 0, "image_id": n, "category_id": classes.index(label), "bbox": box}
            for n, rows in enumerate(images.values())
            for label, box in rows
        ],
        "categories": [{"id": n, "name": name} for n, name in enumerate(classes)],
    }
    file.write_text(json.dumps(content))


def days_and_nights(root: Path) -> Several:
    """Write two sets: in one people have looked for cars, in the other for cars and people."""
    for name in ("day/images/a.png", "day/images/b.png", "night/images/a.png"):
        picture(root / name)
    cars: Rows = {"a.png": [("car", [1, 2, 3, 4])], "b.png": []}
    coco(root / "day" / "labels.json", ["car"], cars)
    both: Rows = {"a.png": [("person", [5, 5, 5, 5]), ("car", [0, 0, 4, 4])]}
    coco(root / "night" / "labels.json", ["person", "car"], both)
    own = [Part(Coco("images", "labels.json"), Path(name)) for name in ("day", "night")]
    return Several(own)


def test_images_know_the_classes_of_their_own_source(tmp_path: Path) -> None:
    content = days_and_nights(tmp_path).read(tmp_path)
    assert (content.kind, content.classes) == ("boxes", ["car", "person"])
    found = {item.name: item.known for item in content.items}
    assert found == {
        "day/images/a.png": frozenset({"car"}),
        "day/images/b.png": frozenset({"car"}),
        "night/images/a.png": None,
    }


def test_a_batch_says_what_is_unknown(tmp_path: Path) -> None:
    data = GrowingData(days_and_nights(tmp_path), tmp_path, (20, 20), val_share=0.4, test_share=0)
    known = {}
    for split in ("train", "val"):
        examples = data.examples(split)
        for index in range(len(examples)):
            own = examples[(0, index)][1].get("known")  # none where a whole split knows all
            known[examples.items[index].name] = [True, True] if own is None else own.tolist()
    assert data.classes == ["car", "person"]
    assert known == {
        "day/images/a.png": [True, False],
        "day/images/b.png": [True, False],
        "night/images/a.png": [True, True],
    }


def test_what_is_left_out_is_told_once(tmp_path: Path) -> None:
    lines = days_and_nights(tmp_path).read(tmp_path).remarks.lines
    assert lines == ["1 image listed without a box: they count as background: images/b.png"]


def test_an_image_that_two_files_list_has_the_boxes_of_both(tmp_path: Path) -> None:
    for name in "abc":
        picture(tmp_path / "images" / f"{name}.png")
    car, dog, cow = ("car", [1.0, 2, 3, 4]), ("dog", [5.0, 5, 5, 5]), ("cow", [0.0, 0, 9, 9])
    coco(tmp_path / "cars.json", ["car", "dog"], {"a.png": [car, dog], "b.png": [car]})
    coco(tmp_path / "animals.json", ["dog", "cow"], {"a.png": [dog, cow], "c.png": []})
    source = Several([Part(Coco("images", f"{name}.json")) for name in ("cars", "animals")])
    content = source.read(tmp_path)
    assert content.classes == ["car", "dog", "cow"]
    found = {item.name: item for item in content.items}
    assert [*found] == ["images/a.png", "images/b.png", "images/c.png"]
    target = found["images/a.png"].target
    assert isinstance(target, Boxes)
    assert target.classes == ("car", "dog", "cow")
    assert target.xyxy.tolist() == [[1, 2, 4, 6], [5, 5, 10, 10], [0, 0, 9, 9]]
    assert [found[f"images/{name}.png"].known for name in "abc"] == [
        None,
        frozenset({"car", "dog"}),
        frozenset({"dog", "cow"}),
    ]
    assert content.remarks.lines == [
        "1 image listed without a box: they count as background: images/c.png",
        "1 image that several sources list, taken with the boxes of each: images/a.png",
    ]


def two_classes(root: Path) -> Several:
    (root / "x" / "ant").mkdir(parents=True)
    picture(root / "x" / "ant" / "a.png")
    (root / "y" / "bee").mkdir(parents=True)
    (root / "y" / "bee" / "a.png").symlink_to(root / "x" / "ant" / "a.png")
    return Several([Part(ImageFolder(), Path("x")), Part(ImageFolder(), Path("y"))])


def two_masks(root: Path) -> Several:
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    picture(root / "images" / "a.png")
    Image.new("L", (20, 20)).save(root / "masks" / "a.png")
    (root / "classes.json").write_text('["sky"]')
    return Several([Part(Masks("images", "masks")), Part(Masks("images", "masks"))])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (two_classes, r"y/bee/a\.png: two sources label it \(ant, bee\); list it in one"),
        (two_masks, r"images/a\.png: two sources label it \(masks\)"),
    ],
)
def test_sources_that_contradict_each_other_are_refused(
    tmp_path: Path, make: Callable[[Path], Several], message: str
) -> None:
    source = make(tmp_path)
    with pytest.raises(BadInput, match=message):
        source.read(tmp_path)


def test_an_image_in_two_splits_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    for split in ("train", "val"):
        coco(tmp_path / split / f"x_{split}.json", ["car"], {"a.png": []})
    parts = [Part(Coco("images", f"{s}/x_{{split}}.json")) for s in ("train", "val")]
    with pytest.raises(BadInput, match="one source has it in train, another in val"):
        Several(parts).read(tmp_path)


def test_sources_of_two_kinds_are_refused(tmp_path: Path) -> None:
    days_and_nights(tmp_path)
    picture(tmp_path / "folders" / "ant" / "a.png")
    parts = [Part(Coco("images", "labels.json"), Path("day")), Part(ImageFolder(), Path("folders"))]
    with pytest.raises(BadInput, match=r"Coco \(day\) has boxes, ImageFolder \(folders\) has lab"):
        Several(parts).read(tmp_path)


def test_no_sources_are_refused() -> None:
    for count in (0, 101):
        with pytest.raises(
            BadInput, match=f"data.source.sources has {count} sources; give 1 to 100"
        ):
            Several([Part(ImageFolder())] * count)


def test_faults_of_all_sources_are_refused_at_once(tmp_path: Path) -> None:
    source = days_and_nights(tmp_path)
    for name in ("day", "night"):
        coco(tmp_path / name / "labels.json", ["car"], {"gone.png": [], "a.png": []})
    with pytest.raises(BadInput) as refused:
        source.read(tmp_path)
    line = str(refused.value)
    assert line.startswith(f"{tmp_path}: 2 bad rows or boxes: day/labels.json: image 0: no image")
    assert "night/labels.json: image 0: no image gone.png" in line


def test_folders_may_lie_anywhere_and_are_told_apart(tmp_path: Path) -> None:
    days_and_nights(tmp_path)
    part = Coco("images", "labels.json")
    parts = [Part(part, tmp_path / "day"), Part(part, tmp_path / "x" / ".." / "night")]
    (tmp_path / "x").mkdir()
    names = [item.name for item in Several(parts).read(None).items]
    assert names == ["day/images/a.png", "day/images/b.png", "night/images/a.png"]
    (tmp_path / "more").mkdir()
    (tmp_path / "night").rename(tmp_path / "more" / "day")
    names = [
        item.name
        for item in Several([Part(part, tmp_path / "day"), Part(part, tmp_path / "more" / "day")])
        .read(None)
        .items
    ]
    assert names == ["day/images/a.png", "day/images/b.png", "day-2/images/a.png"]


def test_it_is_described_in_yaml_and_read_by_itself(tmp_path: Path) -> None:
    days_and_nights(tmp_path)
    path, arguments = "regrow.data.formats.Coco", {"images": "images", "annotations": "labels.json"}
    parts = [
        {"source": {"class_path": path, "init_args": arguments}, "root": name}
        for name in ("day", "night")
    ]
    source = {"class_path": "regrow.data.formats.Several", "init_args": {"sources": parts}}
    described: dict[str, Any] = {"data": {"source": source, "root": str(tmp_path)}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(described))

    def only(data: GrowingData) -> None:
        """Take the data."""

    values, plain = parse(only, ["--config", str(tmp_path / "config.yaml")], description="")
    assert len(values["data"].source.read(tmp_path).items) == 3
    write_data_file(tmp_path, plain)
    again = build_data(yaml.safe_load((tmp_path / "data.yaml").read_text())["data"])
    assert [item.name for item in again.source.read(tmp_path).items] == [
        item.name for item in values["data"].source.read(tmp_path).items
    ]
    parts[0]["source"] = {"class_path": "subprocess.Popen"}
    with pytest.raises(BadInput, match="names 'subprocess.Popen', which is not taken"):
        build_data(described["data"])
