import csv
import gzip
import json
import pickle
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regrow.data.formats import Coco, ImageFolder, ManifestFile, Masks, Torchvision, Voc
from regrow.data.images.transforms import decode
from regrow.data.labels import CROWD, OBJECT
from regrow.data.source import Content, Source, locate
from regrow.errors import BadInput


def picture(path: Path, size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), len(path.name), np.uint8)).save(path)
    return path


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def rows(content: Content) -> list[tuple[str, Any, str | None]]:
    return [(item.name, item.target, item.split) for item in content.items]


# Where the data is.


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
    with pytest.raises(BadInput, match="no folder nothing nor elsewhere/nothing; set --data.root"):
        locate(Path("nothing"))
    with pytest.raises(BadInput, match=r"data\.root is not set"):
        locate(None)
    with pytest.raises(BadInput, match=r"no folder .*a\.csv"):
        locate(write(tmp_path / "a.csv", "image,label\n"))


SOURCES = [ImageFolder(), ManifestFile(), Coco(), Voc(), Masks()]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: type(source).__name__)
def test_an_empty_folder_is_refused_by_name(tmp_path: Path, source: Source) -> None:
    with pytest.raises(BadInput, match=str(tmp_path)):
        source.read(tmp_path)


# Folders.


def test_folders_are_classes(tmp_path: Path) -> None:
    picture(tmp_path / "dog" / "1.png")
    picture(tmp_path / "cat" / "sub" / "2.JPG")
    content = ImageFolder().read(tmp_path)
    assert content.kind == "labels"
    assert content.classes == ["cat", "dog"]
    assert rows(content) == [("cat/sub/2.JPG", "cat", None), ("dog/1.png", "dog", None)]
    assert content.items[1].image == tmp_path / "dog" / "1.png"


def test_folders_of_splits(tmp_path: Path) -> None:
    for split in ("training", "valid", "test"):
        picture(tmp_path / split / "dog" / "1.png")
    (tmp_path / "train" / "cat").mkdir(parents=True)  # empty: no class
    content = ImageFolder().read(tmp_path)
    assert content.classes == ["dog"]
    assert sorted(rows(content)) == [
        ("test/dog/1.png", "dog", "test"),
        ("training/dog/1.png", "dog", "train"),
        ("valid/dog/1.png", "dog", "val"),
    ]


def test_folders_of_splits_by_any_of_their_names(tmp_path: Path) -> None:
    for name in ("Train/ant", "VALIDATION/ant", "Test/ant"):
        picture(tmp_path / name / "a.png")
    assert rows(ImageFolder().read(tmp_path)) == [
        ("Test/ant/a.png", "ant", "test"),
        ("Train/ant/a.png", "ant", "train"),
        ("VALIDATION/ant/a.png", "ant", "val"),
    ]


def test_folders_of_splits_and_classes_side_by_side_are_refused(tmp_path: Path) -> None:
    for name in ("train/ant", "bee"):
        picture(tmp_path / name / "a.png")
    with pytest.raises(BadInput, match=r"holds splits \(train\) beside other folders .*\(bee\)"):
        ImageFolder().read(tmp_path)
    (tmp_path / "bee" / "a.png").rename(tmp_path / "bee" / "notes.txt")
    assert rows(ImageFolder().read(tmp_path)) == [("train/ant/a.png", "ant", "train")]


def test_folders_ignore_what_is_no_image(tmp_path: Path) -> None:
    picture(tmp_path / "dog" / "1.png")
    for name in ("notes.txt", "Thumbs.db", "._1.png", ".ipynb_checkpoints/1.png"):
        write(tmp_path / "dog" / name, "no image")
    write(tmp_path / ".git" / "1.png", "no image")
    (tmp_path / "dog" / "folder.png").mkdir()
    assert rows(ImageFolder().read(tmp_path)) == [("dog/1.png", "dog", None)]


def test_images_without_a_folder_of_their_class_are_told_the_layout(tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    with pytest.raises(BadInput, match=r"no images in it; expected .*<class>/<image>\.jpg"):
        ImageFolder().read(tmp_path)


# Lists.


def test_csv_with_splits_and_groups(tmp_path: Path) -> None:
    for name in "abc":
        picture(tmp_path / "images" / f"{name}.png")
    with (tmp_path / "list.csv").open("w", newline="", encoding="utf-8-sig") as file:
        table = csv.writer(file)
        table.writerow(["image", "label", "split", "group"])
        table.writerow(["images/a.png", "dog, big", "training", "7"])
        table.writerow(["images/b.png", "cat", "", ""])
        table.writerow(["images/c.png", "0", "validation"])
    content = ManifestFile().read(tmp_path)
    assert content.classes == ["0", "cat", "dog, big"]
    assert rows(content) == [
        ("images/a.png", "dog, big", "train"),
        ("images/b.png", "cat", None),
        ("images/c.png", "0", "val"),
    ]
    assert [item.group for item in content.items] == ["7", None, None]
    assert content.items[0].image == tmp_path / "images" / "a.png"


def test_json_lines(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    lines = [{"image": "a.png", "label": 0, "group": 3}, {"image": "b.png", "label": "x"}]
    write(tmp_path / "list.jsonl", "\n\n".join(map(json.dumps, lines)) + "\n")
    content = ManifestFile("list.jsonl").read(tmp_path)
    assert rows(content) == [("a.png", "0", None), ("b.png", "x", None)]
    assert [item.group for item in content.items] == ["3", None]


def test_a_sagemaker_augmented_manifest(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        picture(tmp_path / "photos" / f"{name}.png")
    lines: list[dict[str, Any]] = [
        {
            "source-ref": "s3://bucket/some/prefix/photos/a.png",
            "class": 1,
            "class-metadata": {"class-name": "dog", "confidence": 0.9, "human-annotated": "yes"},
        },
        {"source-ref": "s3://bucket/photos/b.png", "class": 0, "class-metadata": {}},
        {"source-ref": "photos/c.png", "class": "cat", "class-metadata": None, "split": "test"},
    ]
    write(tmp_path / "output.manifest", "\n".join(map(json.dumps, lines)))
    content = ManifestFile().read(tmp_path)
    assert content.classes == ["0", "cat", "dog"]
    assert [item.target for item in content.items] == ["dog", "0", "cat"]
    assert [item.split for item in content.items] == [None, None, "test"]
    assert content.items[0].image == tmp_path / "photos" / "a.png"


def test_a_list_in_each_folder_of_a_split(tmp_path: Path) -> None:
    for folder, label in (("train", "ant"), ("validation", "bee")):
        picture(tmp_path / folder / "a.png")
        write(tmp_path / folder / "list.csv", f"image,label\na.png,{label}\n")
    (tmp_path / "test").mkdir()
    assert rows(ManifestFile().read(tmp_path)) == [
        ("train/a.png", "ant", "train"),
        ("validation/a.png", "bee", "val"),
    ]
    write(tmp_path / "train" / "more.csv", "image,label\n")
    with pytest.raises(BadInput, match="train: 2 lists of images in it"):
        ManifestFile().read(tmp_path)


def test_a_group_may_be_number_zero(tmp_path: Path) -> None:
    lines = [{"image": picture(tmp_path / "a.png").name, "label": 0, "group": 0}]
    write(tmp_path / "list.jsonl", "\n".join(map(json.dumps, lines)))
    (item,) = ManifestFile().read(tmp_path).items
    assert (item.target, item.group) == ("0", "0")


def test_a_list_may_name_links_but_nothing_outside(tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "a.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    write(root / "list.csv", "image,label\na.png,ant\n")
    assert rows(ManifestFile().read(root)) == [("a.png", "ant", None)]
    picture(tmp_path / "elsewhere" / "b.png")
    for name in ("../elsewhere/b.png", "x" * 5000):
        write(root / "list.csv", f"image,label\n{name},ant\n")
        with pytest.raises(BadInput, match=r"list\.csv line 2: no image"):
            ManifestFile().read(root)


def test_another_label_attribute(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    line = {"source-ref": "a.png", "kind-metadata": {"class-name": "dog"}, "class": "no"}
    write(tmp_path / "list.manifest", line)
    assert ManifestFile(attribute="kind").read(tmp_path).classes == ["dog"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.csv", "image,label\na.png,x\n,x\n", "l.csv line 3: needs an image and a label"),
        ("l.csv", "file,label\na.png,x\n", "l.csv line 2: needs an image and a label"),
        ("l.csv", "image,label\na.png,\n", "l.csv line 2: needs an image and a label"),
        ("l.csv", "image,label\n", "l.csv: lists no images"),
        ("l.csv", "", "l.csv: lists no images"),
        ("l.jsonl", '{"image": "a.png", "label": ["x", "y"]}', "label .* is not one class name"),
        ("l.csv", "image,label\nb.png,x\n", "l.csv line 2: no image b.png below"),
        ("l.csv", "image,label\n../out.png,x\n", "l.csv line 2: no image ../out.png below"),
        ("l.csv", "image,label,split\na.png,x,fold1\n", "line 2: the split 'fold1' is not train"),
        ("l.jsonl", '{"image": "a.png", "label": "x", "split": ["val"]}', "line 1: the split"),
        ("l.jsonl", '{"image": "a.png"', "l.jsonl line 1: not JSON"),
        ("l.jsonl", '\n["a.png"]', "l.jsonl line 2: not a JSON object"),
        ("l.manifest", '{"source-ref": "a.png"}', "line 1: needs an image and a label"),
    ],
)
def test_lists_with_mistakes_are_refused_by_line(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    picture(tmp_path / "data" / "a.png")
    picture(tmp_path / "out.png")
    write(tmp_path / "data" / name, text)
    with pytest.raises(BadInput, match=message) as found:
        ManifestFile().read(tmp_path / "data")
    assert "\n" not in str(found.value)


def test_lists_that_cannot_be_found_or_read(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "image,label\n")
    write(tmp_path / "b.csv", "image,label\n")
    with pytest.raises(BadInput, match=r"2 lists of images in it; name one, data\.source\.file"):
        ManifestFile().read(tmp_path)
    with pytest.raises(BadInput, match=r"c\.csv: no such list of images"):
        ManifestFile("c.csv").read(tmp_path)
    (tmp_path / "a.csv").write_bytes("image,label\nä.png,x".encode("latin-1"))
    with pytest.raises(BadInput, match=r"a\.csv: cannot be read as UTF-8"):
        ManifestFile("a.csv").read(tmp_path)
    write(tmp_path / "a.csv", f"image,label\n{'a' * 200_000},x")
    with pytest.raises(BadInput, match=r"a\.csv: not CSV"):
        ManifestFile("a.csv").read(tmp_path)


# COCO.


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


# Pascal VOC.

VOC = """<annotation><filename>a.png</filename><size><width>8</width></size>
<object><name>dog</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>8</xmax><ymax>5.5</ymax></bndbox>
<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>
<object><name>cat</name><bndbox><ymin>0</ymin><xmin>0</xmin><xmax>4</xmax><ymax>3</ymax></bndbox>
</object></annotation>"""


def test_voc_counts_pixels_from_one(tmp_path: Path) -> None:
    write(tmp_path / "Annotations" / "a.xml", VOC)
    write(tmp_path / "Annotations" / "b.xml", "<annotation></annotation>")
    for name in ("a.png", "b.jpg"):
        picture(tmp_path / "JPEGImages" / name)
    content = Voc().read(tmp_path)
    assert (content.kind, content.classes) == ("boxes", ["cat", "dog"])
    first, second = content.items
    assert first.image == tmp_path / "JPEGImages" / "a.png"
    assert first.name == "JPEGImages/a.png"
    # The first box covers pixels 1 to 8 of 8; the second was counted from 0.
    assert first.target.xyxy.tolist() == [[0, 1, 8, 5.5], [0, 0, 4, 3]]
    assert first.target.classes == ("dog", "cat")
    assert second.image == tmp_path / "JPEGImages" / "b.jpg"
    assert second.target.xyxy.shape == (0, 4)
    assert (first.split, second.split) == (None, None)


def test_voc_has_official_splits(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / "Annotations" / f"{name}.xml", "<annotation></annotation>")
        picture(tmp_path / "JPEGImages" / f"{name}.jpg")
    write(tmp_path / "ImageSets" / "Main" / "train.txt", "a  1\n\n \n")
    write(tmp_path / "ImageSets" / "Main" / "test.txt", "b\n")
    # What no list names is not part of the set.
    assert [(i.image.stem, i.split) for i in Voc().read(tmp_path).items] == [
        ("a", "train"),
        ("b", "test"),
    ]


def test_voc_tells_of_images_that_several_splits_list(tmp_path: Path) -> None:
    for name in "abcd":
        write(tmp_path / "Annotations" / f"{name}.xml", "<annotation></annotation>")
        picture(tmp_path / "JPEGImages" / f"{name}.jpg")
    for name, listed in {"trainval": "abc", "train": "ab", "val": "bc", "test": "cd"}.items():
        write(tmp_path / "ImageSets" / "Main" / f"{name}.txt", "\n".join(listed))
    content = Voc().read(tmp_path)
    assert [item.split for item in content.items] == ["train", "val", "test", "test"]
    told = [line for line in content.remarks.lines if "several splits" in line]
    assert len(told) == 1
    assert told[0].startswith("2 images")
    assert told[0].endswith(": b, c")


@pytest.mark.parametrize("tag", ["<a>{}</a>", '<annotation xmlns="urn:x">{}</annotation>'])
def test_voc_takes_nothing_else_for_an_image_without_objects(tmp_path: Path, tag: str) -> None:
    write(tmp_path / "Annotations" / "a.xml", tag.format("<object><name>ant</name></object>"))
    picture(tmp_path / "JPEGImages" / "a.jpg")
    with pytest.raises(BadInput, match="not a Pascal VOC annotation .*, not of annotation"):
        Voc().read(tmp_path)


def test_voc_trains_on_a_list_of_both_where_it_lists_neither(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path / "Annotations" / f"{name}.xml", "<annotation></annotation>")
        picture(tmp_path / "JPEGImages" / f"{name}.jpg")
    lists = tmp_path / "ImageSets" / "Main"
    write(lists / "trainval.txt", "a\nb\n")
    assert [item.split for item in Voc().read(tmp_path).items] == ["train", "train"]
    write(lists / "val.txt", "b\n")
    assert [item.split for item in Voc().read(tmp_path).items] == ["train", "val"]
    write(lists / "trainval.txt", "z\n")
    write(lists / "val.txt", "\n")
    with pytest.raises(BadInput, match="lists none of the images"):
        Voc().read(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("</annotation>", "", "not a Pascal VOC annotation"),
        ("<xmax>8</xmax>", "<xmax>right</xmax>", "not a Pascal VOC annotation .*'right'"),
        ("<name>dog</name>", "", "an object has no name"),
        ("<name>dog</name>", "<name></name>", "an object has no name"),
        ("bndbox", "box", "an object has no bndbox"),
    ],
)
def test_voc_refuses_another_layout(tmp_path: Path, old: str, new: str, message: str) -> None:
    picture(tmp_path / "JPEGImages" / "a.png")
    write(tmp_path / "Annotations" / "a.xml", VOC.replace(old, new))
    with pytest.raises(BadInput, match=rf"a\.xml: {message}"):
        Voc().read(tmp_path)


# Masks.


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


# torchvision.


def idx(path: Path, values: np.ndarray) -> None:
    """Write the format of http://yann.lecun.com/exdb/mnist: 0, 0, type 8, dimensions, sizes."""
    head = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    with gzip.open(f"{path}.gz", "wb") as file:
        file.write(head + values.tobytes())
    with gzip.open(f"{path}.gz") as file, path.open("wb") as unpacked:
        shutil.copyfileobj(file, unpacked)


def test_torchvision_reads_fashion_mnist(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    labels = np.array([9, 0, 2, 0, 1], np.uint8)
    idx(raw / "train-images-idx3-ubyte", images[:3])
    idx(raw / "train-labels-idx1-ubyte", labels[:3])
    idx(raw / "t10k-images-idx3-ubyte", images[3:])
    idx(raw / "t10k-labels-idx1-ubyte", labels[3:])
    content = Torchvision("torchvision.datasets.FashionMNIST").read(tmp_path)
    assert len(content.classes) == 10
    assert rows(content) == [
        ("train/0", "Ankle boot", "train"),
        ("train/1", "T-shirt/top", "train"),
        ("train/2", "Pullover", "train"),
        ("test/0", "T-shirt/top", "test"),
        ("test/1", "Trouser", "test"),
    ]
    for item, expected in zip(content.items, images, strict=True):
        assert item.image.shape == (28, 28, 3)
        assert (item.image == expected[..., None]).all()


def test_torchvision_reads_a_set_without_splits(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    for number, name in enumerate(("Forest", "River", "River")):
        folder = tmp_path / "eurosat" / "2750" / name
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels + np.uint8(number)).save(folder / f"{number}.png")
    found = Torchvision("torchvision.datasets.EuroSAT").read(tmp_path)
    assert found.classes == ["Forest", "River"]
    assert rows(found) == [
        ("all/0", "Forest", None),
        ("all/1", "River", None),
        ("all/2", "River", None),
    ]
    for number, item in enumerate(found.items):
        assert np.array_equal(decode(item.image), pixels + np.uint8(number))
        assert np.array_equal(decode(pickle.loads(pickle.dumps(item)).image), decode(item.image))


def test_torchvision_reads_splits_by_their_names(tmp_path: Path) -> None:
    for name in ("train/AD", "train/AE", "valid/AD", "test/AE"):
        picture(tmp_path / "country211" / name / "a.png")
    found = Torchvision("torchvision.datasets.Country211").read(tmp_path)
    assert sorted(rows(found)) == [
        ("test/0", "AE", "test"),
        ("train/0", "AD", "train"),
        ("train/1", "AE", "train"),
        ("val/0", "AD", "val"),
    ]


@pytest.mark.slow
def test_torchvision_reads_cifar10(cifar10_root: Path) -> None:
    content = Torchvision("torchvision.datasets.CIFAR10").read(cifar10_root)
    assert [sum(item.split == split for item in content.items) for split in ("train", "test")] == [
        50_000,
        10_000,
    ]
    assert content.items[0].target == "frog"
    assert content.items[0].image.shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision.datasets.Nothing", "torchvision.datasets has no 'torchvision.datasets.Noth"),
        ("os.system", "torchvision.datasets has no 'os.system'"),
        ("FashionMNIST", "torchvision.datasets has no 'FashionMNIST'"),
        ("torchvision.datasets.FashionMNIST", "FashionMNIST cannot be read: Dataset not found"),
        ("torchvision.datasets.CIFAR10", "CIFAR10 cannot be read: Dataset not found"),
        ("torchvision.datasets.FakeData", "FakeData cannot be read: it reads no folder"),
        ("torchvision.datasets.utils", "utils cannot be read: .*is not a callable"),
    ],
)
def test_torchvision_names_what_cannot_be_read(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as found:
        Torchvision(name).read(tmp_path)
    assert "\n" not in str(found.value)
