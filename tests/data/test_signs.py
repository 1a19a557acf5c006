"""The signs of formats: what names and first bytes of files say."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from layouts import write
from regrow.data import signs
from regrow.data.formats import Coco, Voc


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20)).save(path)


def coco_of(name: str) -> dict[str, Any]:
    return {
        "info": {"year": 2020},
        "images": [{"id": 1, "file_name": name, "width": 20, "height": 20}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 1, "name": "ant"}],
    }


@pytest.mark.parametrize(
    ("file", "images", "name"),
    [
        ("annotations/instances_train.json", "images/train", "a.png"),
        ("annotations/instances_train2017.json", "train2017", "a.png"),
        ("annotations/instances_val2017.json", "images/val2017", "a.png"),
        ("annotations/train.json", "train", "a.png"),
        ("annotations/Test.json", "images", "a.png"),
        ("valid/_annotations.coco.json", "valid", "a.png"),
        ("annotations/all.json", "images", "a.png"),
        ("all.json", ".", "a.png"),
        ("all.json", ".", "deep/a.png"),
        ("result.json", ".", "images/a.png"),
    ],
)
def test_layouts_of_coco_are_read_as_they_lie(
    tmp_path: Path, file: str, images: str, name: str
) -> None:
    picture(tmp_path / images / name)
    write(tmp_path / file, coco_of(name))
    found = signs.coco(tmp_path)
    assert found is not None
    assert (found.file, found.is_sure) == (file, True)
    items = Coco(**found.arguments).read(tmp_path).items
    assert [item.image for item in items] == [tmp_path / images / name]


def test_instances_go_before_other_annotations_of_coco(tmp_path: Path) -> None:
    for kind in ("captions", "instances", "person_keypoints"):
        picture(tmp_path / "images" / "train" / "a.png")
        write(tmp_path / "annotations" / f"{kind}_train.json", coco_of("a.png"))
    found = signs.coco(tmp_path)
    assert found is not None
    assert found.arguments["annotations"] == "annotations/instances_{split}.json"


def test_regions_of_coco_are_found_however_late_they_come(tmp_path: Path) -> None:
    content = coco_of("a.png")
    path = write(tmp_path / "a.json", content)
    found = signs.coco(tmp_path)
    assert found is not None
    assert found.kinds == ("boxes",)
    content["images"][0]["note"] = "x" * (signs.PART - 500)
    for count in range(400, 460, 7):  # at the end of a part, across it and behind
        content["images"][0]["more"] = "x" * count
        content["annotations"][0]["segmentation"] = [[1, 2, 3, 4, 5, 6]]
        write(path, content)
        found = signs.coco(tmp_path)
        assert found is not None
        assert found.kinds == ("boxes", "masks")
    assert not signs.holds(tmp_path / "nothing", signs.REGION)


def test_other_json_is_not_coco_for_sure(tmp_path: Path) -> None:
    assert signs.coco(tmp_path) is None
    write(tmp_path / "settings.json", {"images": 3, "info": {}})
    assert signs.coco(tmp_path) is None
    write(tmp_path / "annotations" / "a.json", ["images"])
    found = signs.coco(tmp_path)
    assert found is not None
    assert not found.is_sure


@pytest.mark.parametrize(
    ("annotations", "images", "arguments"),
    [
        ("Annotations", "JPEGImages", {}),
        ("annotations", "images", {"annotations": "annotations", "images": "images"}),
        ("labels", "images", {"annotations": "labels", "images": "images"}),
        ("all", "all", {"annotations": "all", "images": "all"}),
        (".", ".", {"annotations": ".", "images": "."}),
    ],
)
def test_layouts_of_voc_are_read_as_they_lie(
    tmp_path: Path, annotations: str, images: str, arguments: dict[str, str]
) -> None:
    picture(tmp_path / images / "a.png")
    write(tmp_path / annotations / "a.xml", "<annotation><object/></annotation>")
    found = signs.voc(tmp_path)
    assert found is not None
    assert (found.arguments, found.is_sure) == (arguments, True)
    write(
        tmp_path / annotations / "a.xml",
        "<annotation><object><name>b</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax>"
        "<ymax>9</ymax></bndbox></object></annotation>",
    )
    items = Voc(**found.arguments).read(tmp_path).items
    assert [item.image for item in items] == [tmp_path / images / "a.png"]


def test_other_xml_is_not_voc(tmp_path: Path) -> None:
    write(tmp_path / "a.xml", "<annotations><image/></annotations>")
    assert signs.voc(tmp_path) is None
    write(tmp_path / "Annotations" / "a.xml", "<svg/>")
    found = signs.voc(tmp_path)
    assert found is not None
    assert not found.is_sure


@pytest.mark.parametrize(
    ("name", "text", "kinds"),
    [
        ("a.csv", "image, label\na.png,b\n", ("labels",)),
        ("a.csv", "id,score\n", ()),
        ("a.csv", "", ()),
        ("a.jsonl", '\n{"image": "a.png", "label": "b"}\n', ("labels",)),
        ("a.jsonl", '{"file_name": "a.png"}', ()),
        ("a.jsonl", "no json", ()),
        ("a.jsonl", "[" * 5000, ()),
        ("a.manifest", '{"source-ref": "a.png", "class": 0}', ("labels",)),
        ("a.manifest", '{"source-ref": "a.png", "x-ref": "b.png"}', ("masks",)),
        ("a.manifest", '{"source-ref": "a.png", "x": {"annotations": []}}', ("boxes",)),
    ],
)
def test_the_first_row_of_a_list_says_what_it_labels(
    tmp_path: Path, name: str, text: str, kinds: tuple[str, ...]
) -> None:
    write(tmp_path / "train" / name, text)
    found = signs.manifest(tmp_path)
    assert found is not None
    assert (found.kinds, found.is_sure) == (kinds, bool(kinds))


def test_a_list_that_is_one_goes_before_other_tables(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "id,score\n")
    write(tmp_path / "b.csv", "image,label\n")
    found = signs.manifest(tmp_path)
    assert found is not None
    assert found.file == "b.csv"


def test_masks_lie_by_split_or_without(tmp_path: Path) -> None:
    assert signs.masks(tmp_path) is None
    write(tmp_path / "classes.json", ["sky"])
    for folder in ("images", "masks"):
        picture(tmp_path / folder / "a.png")
    found = signs.masks(tmp_path)
    assert found is not None
    assert found.arguments == {"images": "images", "masks": "masks"}
    picture(tmp_path / "images" / "val" / "a.png")
    found = signs.masks(tmp_path)
    assert found is not None
    assert found.arguments == {}


@pytest.mark.parametrize(
    ("files", "file", "kinds"),
    [
        ({"data.yaml": "names: [a]\ntrain: x\n"}, "data.yaml", ("boxes",)),
        ({"coco8.yml": "val: x\nnames:\n  0: a\n"}, "coco8.yml", ("boxes",)),
        (
            {"data.yaml": "names: [a]\ntrain: x\n", "labels/train/a.txt": "0 0 0 1 0 1 1\n"},
            "data.yaml",
            ("masks", "boxes"),
        ),
        ({"classes.txt": "a\n", "a.txt": "0 .5 .5 1e-1 0.5\n"}, "classes.txt", ("boxes",)),
        ({"obj.names": "a\n", "obj_train_data/a.txt": "0 0 0 1 1\n"}, "obj.names", ("boxes",)),
        (
            {"labels/classes.txt": "a\n", "labels/a.txt": "0 0 0 1 1"},
            "labels/classes.txt",
            ("boxes",),
        ),
        ({"classes.txt": "a\n"}, None, ()),
        ({"classes.txt": "a\n", "notes.txt": "0 apples and 5 pears\n"}, None, ()),
        ({"data.yaml": "data:\n  root: x\n"}, None, ()),
        ({"a.txt": "0 0 0 1 1\n"}, None, ()),
    ],
)
def test_layouts_of_yolo(
    tmp_path: Path, files: dict[str, str], file: str | None, kinds: tuple[str, ...]
) -> None:
    for name, text in files.items():
        write(tmp_path / name, text)
    found = signs.yolo(tmp_path)
    assert (found and found.file, found.kinds if found else ()) == (file, kinds)


@pytest.mark.parametrize(
    ("tasks", "kinds"),
    [
        ([{"annotations": [{"result": [{"value": {"choices": ["a"]}}]}]}], ("labels",)),
        (
            [{"annotations": [{"result": [{"value": {"polygonlabels": ["a"]}}]}]}],
            ("masks", "boxes"),
        ),
        ([{"annotations": [{"result": [{"value": {"brushlabels": ["a"]}}]}]}], ("masks",)),
        ([{"annotation_id": 3, "box": [{"rectanglelabels": ["a"]}]}], ("boxes", "masks")),
        ([{"annotation_id": 3, "animal": "cat"}], ("labels",)),
        ({"annotations": [{"choices": 3}]}, None),
        ([{"image": "a.png"}], None),
        ([3], None),
    ],
)
def test_exports_of_label_studio(tmp_path: Path, tasks: Any, kinds: tuple[str, ...] | None) -> None:
    write(tmp_path / "export.json", tasks)
    found = signs.label_studio(tmp_path)
    assert (found and found.kinds) == kinds


@pytest.mark.parametrize(
    ("name", "content", "kinds"),
    [
        ("a.json", {"shapes": [{"shape_type": "polygon"}]}, ("masks", "boxes")),
        ("x/y/a.json", {"shapes": [{"shape_type": "circle"}]}, ("boxes", "masks")),
        ("a.json", {"shapes": []}, ("boxes", "masks")),
        ("a.json", {"shapes": 3}, None),
        ("a.json", [{"shapes": []}], None),
    ],
)
def test_files_of_labelme(
    tmp_path: Path, name: str, content: Any, kinds: tuple[str, ...] | None
) -> None:
    write(tmp_path / name, content)
    found = signs.labelme(tmp_path)
    assert (found and found.kinds) == kinds


@pytest.mark.parametrize(
    ("name", "text", "kinds", "is_sure"),
    [
        ("metadata.csv", "file_name,label\n", ("labels",), True),
        ("train/metadata.csv", "file_name,text\n", ("labels",), False),
        ("metadata.jsonl", '{"file_name": "a", "objects": {}}', ("boxes",), True),
        ("metadata.jsonl", "[]", None, None),
        ("metadata.csv", "image,label\n", None, None),
    ],
)
def test_metadata_of_hugging_face(
    tmp_path: Path, name: str, text: str, kinds: Any, is_sure: Any
) -> None:
    write(tmp_path / name, text)
    found = signs.hugging_face(tmp_path)
    assert (found and found.kinds, found and found.is_sure) == (kinds, is_sure)
    assert (signs.manifest(tmp_path) is None) == (kinds is not None or name.endswith("jsonl"))


def test_only_so_much_of_a_file_is_looked_at(tmp_path: Path) -> None:
    assert signs.head(write(tmp_path / "a.json", "a" * 10**6)) == "a" * signs.HEAD
    assert signs.head(tmp_path / "nothing") == ""
    assert signs.head(tmp_path) == ""
