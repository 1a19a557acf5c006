"""Label Studio's exports, as its documentation and converter have them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regrow.data.formats import LabelStudio
from regrow.data.images.decoding import decode_mask
from regrow.data.module import GrowingData
from regrow.data.targets.labels import Boxes, Mask
from regrow.errors import BadInput


def picture(path: Path, width: int = 200, height: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([*path.name.encode()]).integers(0, 256, (height, width, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def result(kind: str, label: Any, tag: str = "label", **value: Any) -> dict[str, Any]:
    return {
        "id": "x",
        "type": kind,
        "from_name": tag,
        "to_name": "image",
        "original_width": 200,
        "original_height": 100,
        "image_rotation": 0,
        "value": {**value, kind: [label] if isinstance(label, str) else label},
    }


RECTANGLE = result("rectanglelabels", "Car", x=10, y=20, width=30, height=40, rotation=0)
POLYGON = result("polygonlabels", "Road", points=[[0, 50], [100, 50], [100, 100], [0, 100]])
ELLIPSE = result("ellipselabels", "Sun", x=50, y=50, radiusX=10, radiusY=40, rotation=0)


def task(image: str, *results: Any, **values: Any) -> dict[str, Any]:
    annotation = {"id": 1, "was_cancelled": False, "result": [*results]}
    return {"id": 7, "data": {"image": image}, "annotations": [annotation], **values}


def export(root: Path, *tasks: Any, name: str = "export.json") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps([*tasks]))
    return root / name


def boxes(root: Path, **arguments: Any) -> dict[str, list[tuple[str, list[float]]]]:
    found = {}
    for item in LabelStudio(**arguments).read(root).items:
        assert isinstance(item.target, Boxes)
        pairs = zip(item.target.classes, item.target.xyxy.round(3).tolist(), strict=True)
        found[item.name] = [*pairs]
    return found


def refusal(root: Path, **arguments: Any) -> str:
    with pytest.raises(BadInput) as refused:
        LabelStudio(**arguments).read(root)
    return str(refused.value)


def test_rectangles_are_percent_of_the_image(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    export(tmp_path, task("/data/upload/1/a.png", RECTANGLE))
    content = LabelStudio().read(tmp_path)
    assert (content.kind, content.classes) == ("boxes", ["Car"])
    assert boxes(tmp_path) == {"a.png": [("Car", [20, 20, 80, 60])]}
    assert content.items[0].declared == (100, 200, 0)


def test_a_turned_rectangle_lies_in_its_box(tmp_path: Path) -> None:
    # Of 200 x 100: from (100, 20), 40 wide, 10 high, turned by 90 degrees: it hangs down.
    picture(tmp_path / "a.png")
    turned = result("rectanglelabels", "Car", x=50, y=20, width=20, height=10, rotation=90)
    export(tmp_path, task("a.png", turned))
    assert boxes(tmp_path) == {"a.png": [("Car", [90, 20, 100, 60])]}


def test_boxes_lie_around_polygons_and_ellipses(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    export(tmp_path, task("a.png", POLYGON, ELLIPSE))
    assert boxes(tmp_path, kind="boxes") == {
        "a.png": [("Road", [0, 50, 200, 100]), ("Sun", [80, 10, 120, 90])]
    }


def test_polygons_and_rectangles_are_masks(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    export(tmp_path, task("a.png", POLYGON, RECTANGLE))
    content = LabelStudio().read(tmp_path)
    assert (content.kind, content.classes) == ("masks", ["background", "Car", "Road"])
    target = content.items[0].target
    assert isinstance(target, Mask)
    wanted = np.zeros((100, 200))
    wanted[50:] = 2
    wanted[20:60, 20:80] = 1
    assert (decode_mask(target.pixels) == wanted).all()


def test_brush_strokes_are_masks(tmp_path: Path) -> None:
    # What label-studio-sdk 2.1.2 writes for this mask, see test_run_lengths.
    rle = [0, 0, 0, 60, 57, 27, 252, 224, 19, 255, 206, 1, 111, 255, 9, 128, 71, 254]
    picture(tmp_path / "a.png", 5, 3)
    stroke = result("brushlabels", "Road", format="rle", rle=rle)
    stroke |= {"original_width": 5, "original_height": 3}
    export(tmp_path, task("a.png", stroke))
    target = LabelStudio().read(tmp_path).items[0].target
    assert isinstance(target, Mask)
    wanted = [[0, 0, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 1]]
    assert decode_mask(target.pixels).tolist() == wanted
    assert "is a brush stroke; read it as masks" in refusal(tmp_path, kind="boxes")


def test_strokes_of_another_image_are_a_fault_of_theirs(tmp_path: Path) -> None:
    stroke = result("brushlabels", "Road", format="rle", rle=[0] * 20)
    for name in "abcd":
        picture(tmp_path / f"{name}.png")
    export(tmp_path, *[task(f"{name}.png", stroke if name == "a" else POLYGON) for name in "abcd"])
    with pytest.raises(BadInput, match=r"a\.png: a region of its mask was painted on an image of"):
        _ = GrowingData(LabelStudio(), tmp_path, (8, 8)).snapshot


def test_choices_are_classes(tmp_path: Path) -> None:
    for name in "abc":
        picture(tmp_path / f"{name}.png")
    export(
        tmp_path,
        task("a.png", result("choices", "Cat", tag="animal")),
        task("b.png", result("choices", "Dog", tag="animal")),
    )
    content = LabelStudio().read(tmp_path)
    assert (content.kind, content.classes) == ("labels", ["Cat", "Dog"])
    assert [item.target for item in content.items] == ["Cat", "Dog"]
    assert content.remarks.lines == ["1 image left out that no annotation lists: c.png"]
    export(tmp_path, task("a.png", result("choices", ["Cat", "Dog"], tag="animal")), task("b.png"))
    line = refusal(tmp_path, kind="labels")
    assert "task 1: 2 choices (Cat, Dog)" in line
    assert "an image has one class" in line
    assert "task 2: 0 choices ()" in line


def test_choices_and_regions_side_by_side_need_a_word(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    weather = result("choices", "Rain", tag="weather")
    export(tmp_path, task("a.png", RECTANGLE, weather))
    assert "has choices and regions; say which to read, data.source.kind" in refusal(tmp_path)
    assert LabelStudio(kind="labels").read(tmp_path).items[0].target == "Rain"
    assert boxes(tmp_path, kind="boxes")["a.png"][0][0] == "Car"
    assert LabelStudio(tag="weather").read(tmp_path).kind == "labels"
    assert LabelStudio(tag="label").read(tmp_path).kind == "boxes"


def test_choices_of_a_region_are_none_of_the_image(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    of_region = result("choices", "Red", tag="colour", x=10, y=20, width=30, height=40)
    export(tmp_path, task("a.png", RECTANGLE, of_region))
    assert LabelStudio().read(tmp_path).kind == "boxes"


def test_rows_of_json_min(tmp_path: Path) -> None:
    for name in "ab":
        picture(tmp_path / f"{name}.png")
    facts = {"annotator": 1, "annotation_id": 2, "created_at": "2024", "lead_time": 1.5}
    entry = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0, "rectanglelabels": ["Car"]}
    sizes = {"original_width": 200, "original_height": 100}
    export(
        tmp_path,
        {"image": "/data/upload/1/a.png", "id": 1, "label": [{**entry, **sizes}], **facts},
        {"image": "/data/upload/1/b.png", "id": 2, **facts},
    )
    assert boxes(tmp_path) == {"a.png": [("Car", [20, 20, 80, 60])], "b.png": []}
    export(
        tmp_path,
        {"image": "a.png", "id": 1, "animal": "Cat", **facts},
        {"image": "b.png", "id": 2, "animal": {"choices": ["Dog"]}, **facts},
    )
    assert [item.target for item in LabelStudio().read(tmp_path).items] == ["Cat", "Dog"]
    export(tmp_path, {"image": "a.png", "animal": "Cat", "place": "Rome", **facts})
    assert "2 choices (Cat, Rome)" in refusal(tmp_path)
    assert LabelStudio(tag="place").read(tmp_path).items[0].target == "Rome"


@pytest.mark.parametrize(
    ("address", "file"),
    [
        ("/data/upload/3/0a1b2c3d-cat.png", "0a1b2c3d-cat.png"),
        ("/data/upload/3/0a1b2c3d-cat.png", "images/0a1b2c3d-cat.png"),
        ("/data/upload/3/0a1b2c3d-cat.png", "cat.png"),
        ("/data/upload/3/0a1b2c3d-cat.png", "images/cat.png"),
        ("/data/local-files/?d=sets/day%201/cat.png", "day 1/cat.png"),
        ("/data/local-files/?d=sets/cat.png", "sets/cat.png"),
        ("s3://bucket/sets/cat.png?X-Amz-Signature=1", "cat.png"),
        ("https://host/sets/my%20cat.png", "my cat.png"),
        ("train/cat.png", "train/cat.png"),
    ],
)
def test_images_are_found_by_the_end_of_their_address(
    tmp_path: Path, address: str, file: str
) -> None:
    image = picture(tmp_path / file)
    export(tmp_path, task(address, RECTANGLE))
    assert [item.image for item in LabelStudio().read(tmp_path).items] == [image]


def test_two_addresses_of_one_file_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "cat.png")
    export(
        tmp_path,
        task("/data/upload/1/0a1b2c3d-cat.png", RECTANGLE),
        task("/data/upload/1/9a1b2c3d-cat.png", RECTANGLE),
    )
    assert "cat.png is listed twice" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["/data/upload/1/gone.png", "/data/local-files/?d=../../gone.png"])
def test_an_image_that_is_not_there_is_refused_by_its_task(tmp_path: Path, name: str) -> None:
    picture(tmp_path / "a.png")
    export(tmp_path, task("a.png", RECTANGLE), task(name, RECTANGLE))
    assert "export.json: task 2: no image" in refusal(tmp_path)


def test_the_last_annotation_counts_and_tasks_without_one_are_told(tmp_path: Path) -> None:
    for name in "abc":
        picture(tmp_path / f"{name}.png")
    first = task("a.png", RECTANGLE)
    first["annotations"].append({"result": []})
    first["annotations"].append({"result": [RECTANGLE], "was_cancelled": True})
    export(tmp_path, first, task("b.png", annotations=[]), task("c.png", RECTANGLE))
    assert [len(own) for own in boxes(tmp_path).values()] == [0, 1]
    lines = LabelStudio().read(tmp_path).remarks.lines
    assert "1 tasks left out that nobody has annotated: b.png" in lines
    assert "1 image of several annotations, of which the last is read: a.png" in lines


def test_another_key_may_hold_the_image(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    own = task("", RECTANGLE, data={"photo": "a.png", "note": "x"})
    export(tmp_path, own)
    assert [*boxes(tmp_path)] == ["a.png"]
    export(tmp_path, {**own, "data": {"photo": "a.png", "before": "b.png"}})
    assert "2 images in {'photo'" in refusal(tmp_path)
    assert [*boxes(tmp_path, image="photo")] == ["a.png"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (result("keypointlabels", "Eye", x=1, y=2, width=0.5), "kind key point; regrow reads"),
        (
            result("labels", "Name", start=1, end=2),
            "kind labels; regrow reads brush stroke, polygon",
        ),
        (
            result("rectanglelabels", "A", x=90, y=0, width=20, height=5),
            "lies outside of its image",
        ),
        (result("rectanglelabels", "A", x="q", y=0, width=20, height=5), "could not convert"),
        (result("rectanglelabels", "A", x=float("nan"), y=0, width=2, height=5), "lies outside"),
        (result("rectanglelabels", "A", y=0, width=20, height=5), "has no 'x'"),
        (result("rectanglelabels", ["A", "B"], x=1, y=0, width=2, height=5), "has 2 classes"),
        (result("rectanglelabels", [], x=1, y=0, width=2, height=5), "has 0 classes"),
        (result("polygonlabels", "A", points=[[1, 2], [3, 4]]), "its polygon has 2 points"),
        (result("polygonlabels", "A", points=[[1], [3, 4]]), "not enough values"),
        (result("brushlabels", "A", format="rle", rle="xyz"), "not in run lengths"),
        (result("brushlabels", "A", format="rle", rle=[700]), "must be in range"),
        (result("brushlabels", "A", format="png", rle=[]), "not in run lengths"),
    ],
)
def test_a_bad_region_is_refused_by_number_or_left_out(
    tmp_path: Path, entry: Any, message: str
) -> None:
    for name in "abcd":
        picture(tmp_path / f"{name}.png")
    tasks = [task("a.png", POLYGON, entry), *(task(f"{n}.png", POLYGON) for n in "bcd")]
    export(tmp_path, *tasks)
    line = refusal(tmp_path, kind="masks")
    assert "export.json: task 1 region 2" in line
    assert message in line
    source = LabelStudio(kind="masks")
    data = GrowingData(source, tmp_path, (8, 8), val_share=0.4, test_share=0, skip_bad=True)
    assert len(data.snapshot.items) == 4


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (3, "3 is no task"),
        ({"data": 3, "annotations": []}, "0 images in 3"),
        ({"data": {"image": "a.png"}, "annotations": 3}, "its annotations are 3"),
        ({"data": {"image": "a.png"}, "annotations": [3]}, "its annotations are [3]"),
        ({"data": {"image": "a.png"}, "annotations": [{"result": 3}]}, "has no list of results"),
        ({"data": {"image": "a.png"}, "annotations": [{"result": [3]}]}, "has the result 3"),
        (task("a.png", result("choices", [[1]])), "the class name [1] is no text"),
        (
            task("a.png", RECTANGLE, {**RECTANGLE, "original_width": 300}),
            "its regions are of images of several sizes",
        ),
    ],
)
def test_a_bad_task_is_refused_by_number(tmp_path: Path, entry: Any, message: str) -> None:
    picture(tmp_path / "a.png")
    export(tmp_path, entry)
    line = refusal(tmp_path)
    assert "export.json: task 1" in line
    assert message in line


def test_an_annotation_of_another_size_is_refused(tmp_path: Path) -> None:
    for name in "abcd":
        picture(tmp_path / f"{name}.png", 100, 100)
    export(tmp_path, *[task(f"{name}.png", RECTANGLE) for name in "abcd"])
    with pytest.raises(BadInput, match=r"task 1 says 200x100, .* is 100x100"):
        _ = GrowingData(LabelStudio(), tmp_path, (8, 8)).snapshot


def test_which_file_is_read(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    assert "0 JSON files in it; name the export, data.source.file" in refusal(tmp_path)
    export(tmp_path, task("a.png", RECTANGLE))
    export(tmp_path, name="more.json")
    assert "2 JSON files in it" in refusal(tmp_path)
    assert len(boxes(tmp_path, file="export.json")) == 1
    assert "has no annotated images" in refusal(tmp_path, file="more.json")
    (tmp_path / "more.json").write_text("{}")
    assert "not Label Studio's JSON; it is a list" in refusal(tmp_path, file="more.json")
