"""What an annotation says of its image is compared with the image, in every format."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regrow.data.formats import Coco, ManifestFile, Voc
from regrow.data.module import GrowingData
from regrow.data.sagemaker import SageMakerBoxes
from regrow.data.source import Content, Source
from regrow.data.targets.labels import Boxes, Item
from regrow.errors import BadInput

COUNT = 6
WIDTH, HEIGHT = 40, 20


class Given(Source):
    def __init__(self, items: list[Item], classes: list[str]) -> None:
        self.items, self.classes = items, classes

    def read(self, root: Path | None) -> Content:
        return Content("boxes", self.classes, self.items)


def picture(file: Path, seed: int, width: int = WIDTH, height: int = HEIGHT, **more: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, **more)


def turned() -> Image.Exif:
    """Return EXIF data that turns an image by a quarter, as it is shown."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def box(number: int) -> tuple[int, int, int, int]:
    return 2 + number // 4, 3, 10, 12  # left, top, width, height


def coco(root: Path, width: Any, height: Any) -> Source:
    for split in ("train", "val"):
        images = [
            {"id": n, "file_name": f"{n}.jpg", "width": width, "height": height}
            for n in range(COUNT)
        ]
        boxes = [
            {"id": n, "image_id": n, "category_id": 1, "bbox": list(box(n))} for n in range(COUNT)
        ]
        content = {
            "images": images,
            "annotations": boxes,
            "categories": [{"id": 1, "name": "ant"}],
        }
        for n in range(COUNT):
            image_of(root / "images" / split / f"{n}.jpg", n)
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return Coco()


EXIF: dict[str, Any] = {}


def image_of(file: Path, seed: int) -> None:
    picture(file, seed + 100 * len(file.parent.name), **EXIF)


def voc(root: Path, width: Any, height: Any) -> Source:
    (root / "Annotations").mkdir(parents=True)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for n in range(2 * COUNT):
        left, top, across, down = box(n)
        corners = f"<xmin>{left + 1}</xmin><ymin>{top + 1}</ymin><xmax>{left + across}</xmax>"
        (root / "Annotations" / f"{n}.xml").write_text(
            f"<annotation><filename>{n}.jpg</filename><size><width>{width}</width>"
            f"<height>{height}</height><depth>3</depth></size><object><name>ant</name><bndbox>"
            f"{corners}<ymax>{top + down}</ymax></bndbox></object></annotation>"
        )
        image_of(root / "JPEGImages" / f"{n}.jpg", n)
    for split, numbers in (("train", range(COUNT)), ("val", range(COUNT, 2 * COUNT))):
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(map(str, numbers)))
    return Voc()


def sized_boxes(n: int, width: Any, height: Any) -> dict[str, Any]:
    left, top, across, down = box(n)
    entry = {"class_id": 0, "left": left, "top": top, "width": across, "height": down}
    return {
        "image_size": [{"width": width, "height": height, "depth": 3}],
        "annotations": [entry],
    }


def sagemaker(root: Path, width: Any, height: Any) -> Source:
    for channel in ("train", "validation"):
        (root / f"{channel}_annotation").mkdir(parents=True)
        for n in range(COUNT):
            image_of(root / channel / f"{n}.jpg", n)
            content = {"file": f"{n}.jpg", **sized_boxes(n, width, height)}
            (root / f"{channel}_annotation" / f"{n}.json").write_text(json.dumps(content))
    return SageMakerBoxes()


def manifest(root: Path, width: Any, height: Any) -> Source:
    rows = []
    for n in range(2 * COUNT):
        image_of(root / f"{n}.jpg", n)
        boxes = sized_boxes(n, width, height)
        rows.append(
            {
                "source-ref": f"s3://b/{n}.jpg",
                "bb": boxes,
                "split": "train" if n < COUNT else "val",
            }
        )
    (root / "l.manifest").write_text("\n".join(map(json.dumps, rows)))
    return ManifestFile(attribute="bb")


LAYOUTS = [coco, voc, sagemaker, manifest]
Layout = Callable[[Path, Any, Any], Source]


def read(source: Source, root: Path, **more: Any) -> GrowingData:
    data = GrowingData(source, root, (HEIGHT, WIDTH), test_share=0, **more)
    _ = data.snapshot
    return data


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_declared_size_is_that_of_the_image(tmp_path: Path, layout: Layout) -> None:
    assert len(read(layout(tmp_path, WIDTH, HEIGHT), tmp_path).snapshot.items) == 2 * COUNT


@pytest.mark.parametrize("layout", LAYOUTS)
def test_another_declared_size_is_refused_by_both_names(tmp_path: Path, layout: Layout) -> None:
    source = layout(tmp_path, 400, HEIGHT)
    with pytest.raises(BadInput, match=r": 12 bad rows.* says 400x20, .*0\.jpg is 40x20; .*1\.jpg"):
        read(source, tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sizes_are_those_of_the_image_as_it_is_shown(
    tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXIF, "exif", turned())
    with pytest.raises(BadInput, match=r"says 40x20, .*0\.jpg is 20x40 \(turned by its EXIF tag\)"):
        read(layout(tmp_path / "raw", WIDTH, HEIGHT), tmp_path / "raw")
    read(layout(tmp_path / "shown", HEIGHT, WIDTH), tmp_path / "shown")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_size_of_nought_is_not_said_and_counted(tmp_path: Path, layout: Layout) -> None:
    data = read(layout(tmp_path, 0, 0), tmp_path)
    assert data.remarks.count("sizes of 0 in annotations, taken for unknown") == 2 * COUNT


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("value", ["wide", -1, 10**400, [40]])
def test_a_size_that_is_none_is_refused(tmp_path: Path, layout: Layout, value: Any) -> None:
    with pytest.raises(BadInput, match=": 12 bad rows"):
        read(layout(tmp_path, value, HEIGHT), tmp_path)


def test_every_place_of_a_manifest_that_says_a_size_counts(tmp_path: Path) -> None:
    manifest(tmp_path, WIDTH, HEIGHT)
    file = tmp_path / "l.manifest"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[3]["earlier"] = {"image_size": [{"width": 41, "height": HEIGHT}]}
    file.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(BadInput, match=r"line 4: its image_size is 40x20 and 41x20; correct one"):
        ManifestFile(attribute="bb").read(tmp_path)


# Boxes.


def boxed(*boxes: tuple[float, float, float, float], skip_bad: bool = False) -> GrowingData:
    """Read images of 100x50 with these boxes each."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 50, 100, 3), dtype=np.uint8)
    target = Boxes(np.array(boxes, np.float32), ("ant",) * len(boxes))
    items = [
        Item(split, pixels[n], target, split) for n, split in enumerate(("train", "val", "test"))
    ]
    return read(Given(items, ["ant"]), None, skip_bad=skip_bad)  # type: ignore[arg-type]


def xyxy(data: GrowingData) -> list[list[float]]:
    return data.snapshot.items[0].target.xyxy.tolist()  # type: ignore[union-attr]


# A hair is 2 % of the side: 2 of 100 pixels, 1 of 50.
@pytest.mark.parametrize(
    ("given", "clipped"),
    [
        ((-2, -1, 50, 40), [0, 0, 50, 40]),
        ((10, 10, 102, 51), [10, 10, 100, 50]),
        ((-0.6, 10, 50, 40), [0, 10, 50, 40]),
    ],
)
def test_boxes_a_hair_outside_are_clipped_and_counted(given: Any, clipped: list[float]) -> None:
    data = boxed((1, 1, 99, 49), given)
    assert xyxy(data) == [[1, 1, 99, 49], clipped]
    assert data.remarks.count("boxes clipped at the edge of their image") == 3


def test_boxes_that_are_rounded_stay_as_they_are() -> None:
    data = boxed((-0.4, 0, 100.4, 50.25))
    assert np.allclose(xyxy(data), [[-0.4, 0, 100.4, 50.25]])
    assert not data.remarks


BAD = [
    *[(-3, 0, 50, 40), (0, -2, 50, 40), (0, 0, 103, 40), (0, 0, 50, 52)],  # too far outside
    *[(101, 10, 102, 20), (-2, 10, -1, 20), (100.1, 10, 100.4, 20)],  # wholly outside
    *[(5, 5, 5, 20), (5, 5, 20, 5), (20, 5, 5, 20)],  # empty, or the wrong way round
    *[(float("nan"), 0, 5, 5), (0, 0, float("inf"), 5), (-float("inf"), 0, 5, 5)],
]


@pytest.mark.parametrize("bad", BAD)
def test_other_boxes_are_bad(bad: tuple[float, float, float, float]) -> None:
    with pytest.raises(BadInput, match=r"^3 bad rows.*train: the box \(.* is empty or outside"):
        boxed((1, 1, 99, 49), bad)


def test_bad_boxes_are_left_out_and_counted_where_asked() -> None:
    data = boxed((1, 1, 99, 49), *BAD, skip_bad=True)
    assert xyxy(data) == [[1, 1, 99, 49]]
    left_out = "bad boxes left out (what they show counts as background)"
    assert data.remarks.count(left_out) == 3 * len(BAD)


def test_all_bad_boxes_are_listed_at_once_and_twenty_by_name() -> None:
    with pytest.raises(BadInput, match="^39 bad rows or boxes: ") as found:
        boxed((1, 1, 99, 49), *BAD)
    message = str(found.value)
    assert message.count(" is empty or outside") == 20
    assert "; and 19 more; correct or remove it; --data.skip_bad=true leaves out" in message


@pytest.mark.parametrize(
    "shares",
    [
        [(0.1, 0.2, 0.5, 0.9)],
        [(0.5, 0.5, 1.2, 0.7), (0.5, 0.5, 1.5, 1.5)],  # centre and size, read as corner and size
        [(-0.9, -0.8, 0.5, 0.9)],  # as of VOC, which counts from 1
        [(0, 0, 1, 1)],
    ],
)
def test_shares_of_one_are_no_pixels(shares: list[tuple[float, float, float, float]]) -> None:
    with pytest.raises(BadInput, match="train: all its boxes lie within the first pixel of 100x50"):
        boxed(*shares)
    # Beside others, it is but a small box.
    assert len(xyxy(boxed((1, 1, 99, 49), (0, 0, 1, 1)))) == 2


def test_an_unknown_label_is_bad(tmp_path: Path) -> None:
    target = Boxes(np.array([[1, 1, 9, 9], [2, 2, 8, 8]], np.float32), ("ant", "bee"), (0, 1))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 20, 20, 3), dtype=np.uint8)
    items = [Item(split, pixels[n], target, split) for n, split in enumerate(("train", "val"))]
    with pytest.raises(BadInput, match=": 2 bad rows.*train: its label 'bee' is none of the cl"):
        read(Given(items, ["ant", "bee"]), tmp_path, classes=["ant"])
    data = read(Given(items, ["ant", "bee"]), tmp_path, classes=["ant"], skip_bad=True)
    assert data.snapshot.items[0].target.classes == ("ant",)  # type: ignore[union-attr]


@pytest.mark.parametrize("layout", [voc, sagemaker, manifest])
@pytest.mark.parametrize(
    ("depth", "mode", "num_told"),
    [
        ("1", "RGB", 12),
        ("1", "L", 0),
        ("4", "RGB", 12),
        ("3", "RGB", 0),
        ("3", "L", 0),  # tools write 3 for any image
        ("0", "L", 0),
        ("Unspecified", "RGB", 0),
    ],
)
def test_another_number_of_channels_than_declared_is_told(
    tmp_path: Path, layout: Layout, depth: str, mode: str, num_told: int
) -> None:
    source = layout(tmp_path, WIDTH, HEIGHT)
    number = depth if depth.isdigit() else f'"{depth}"'
    for file in sorted(tmp_path.rglob("*")):
        if file.suffix == ".jpg":
            Image.open(file).convert(mode).save(file)
        elif file.suffix in (".xml", ".json", ".manifest"):
            text = file.read_text().replace("<depth>3<", f"<depth>{depth}<")
            file.write_text(text.replace('"depth": 3', f'"depth": {number}'))
    told = read(source, tmp_path).remarks
    assert told.count("images with another number of channels than their annotation says") == (
        num_told
    )
