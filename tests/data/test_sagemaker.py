"""The layouts of SageMaker's built-in algorithms, written as its developer guide shows them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from layouts import rows, write
from regrow.data.formats import ManifestFile
from regrow.data.module import GrowingData
from regrow.data.sagemaker import SageMakerBoxes, SageMakerList, SageMakerMasks
from regrow.data.source import Content, Source
from regrow.data.targets.labels import Boxes, Mask
from regrow.errors import BadInput

LIST = """5      1   your_image_directory/train_img_dog1.jpg
1000   0   your_image_directory/train_img_cat1.jpg
22     1   your_image_directory/train_img_dog2.jpg
"""
ANNOTATION = """{
   "file": "your_image_directory/sample_image1.jpg",
   "image_size": [{"width": 500, "height": 400, "depth": 3}],
   "annotations": [
      {"class_id": 0, "left": 111, "top": 134, "width": 61, "height": 128},
      {"class_id": 0, "left": 161, "top": 250, "width": 79, "height": 143},
      {"class_id": 1, "left": 101, "top": 185, "width": 42, "height": 130}
   ],
   "categories": [{"class_id": 0, "name": "dog"}, {"class_id": 1, "name": "cat"}]
}"""


def picture(path: Path, size: tuple[int, int] = (8, 8), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([seed, *path.name.encode()]).integers(0, 256, (*size, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def mask(path: Path, numbers: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(numbers, np.uint8)).save(path)
    return path


def boxes(content: Content, index: int = 0) -> tuple[list[list[float]], tuple[str, ...]]:
    target = content.items[index].target
    assert isinstance(target, Boxes)
    return target.xyxy.tolist(), target.classes


@pytest.mark.parametrize("source", [SageMakerList(), SageMakerBoxes(), SageMakerMasks(2)])
def test_an_empty_folder_is_told_the_layout(tmp_path: Path, source: Source) -> None:
    with pytest.raises(BadInput, match=r"no images in it; expected train_"):
        source.read(tmp_path)


# Image Classification.


def test_a_list_of_the_guide(tmp_path: Path) -> None:
    for name in ("dog1", "cat1", "dog2"):
        picture(tmp_path / "train" / "your_image_directory" / f"train_img_{name}.jpg")
    write(tmp_path / "train_lst" / "train.lst", LIST)
    # Tabs, and numbers as MXNet's im2rec writes them.
    picture(tmp_path / "validation" / "class_dog" / "a b.jpg")
    write(tmp_path / "validation_lst" / "val.lst", "0\t10.000000\tclass_dog/a b.jpg\n\n")
    content = SageMakerList().read(tmp_path)
    assert (content.kind, list(content.classes)) == ("labels", ["0", "1", "10"])
    folder = "train/your_image_directory/train_img_"
    assert rows(content) == [
        (f"{folder}dog1.jpg", "1", "train"),
        (f"{folder}cat1.jpg", "0", "train"),
        (f"{folder}dog2.jpg", "1", "train"),
        ("validation/class_dog/a b.jpg", "10", "val"),
    ]
    assert content.items[3].image == tmp_path / "validation" / "class_dog" / "a b.jpg"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0\t1\n", "l.lst line 1: needs an index, a class number and a path, separated by tabs"),
        ("0\t1\ta.png\n1\tdog\ta.png\n", "l.lst line 2: needs an index, a class number"),
        ("0\t0.5\ta.png\n", "line 1: .* has several labels, or none that is a class number"),
        ("0\t-1\ta.png\n", "line 1: .* has several labels, or none that is a class number"),
        ("0\t0\t1\ta.png\n", "line 1: .* has several labels"),
        ("0\t1\tb.png\n", "l.lst line 1: no image b.png below .*train"),
        ("0\t1\t../out.png\n", "l.lst line 1: no image ../out.png below"),
    ],
)
def test_lists_with_mistakes_are_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    picture(tmp_path / "train" / "a.png")
    picture(tmp_path / "out.png")
    write(tmp_path / "train_lst" / "l.lst", text)
    with pytest.raises(BadInput, match=message):
        SageMakerList().read(tmp_path)


def test_channels_without_their_list_or_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train_lst").mkdir()
    with pytest.raises(BadInput, match="train_lst: the folder of its images, .*train, is not"):
        SageMakerList().read(tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(BadInput, match="train_lst: 0 .lst files in it; leave one"):
        SageMakerList().read(tmp_path)


# Object Detection.


def test_annotations_of_the_guide(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "your_image_directory" / "sample_image1.jpg", (400, 500))
    write(tmp_path / "train_annotation" / "sample_image1.json", ANNOTATION)
    # `categories` is optional.
    picture(tmp_path / "validation" / "b.png")
    box = {"class_id": 3, "left": 1, "top": 2, "width": 3, "height": 4}
    write(tmp_path / "validation_annotation" / "b.json", {"file": "b.png", "annotations": [box]})
    content = SageMakerBoxes().read(tmp_path)
    assert (content.kind, list(content.classes)) == ("boxes", ["dog", "cat", "3"])
    assert boxes(content) == (
        [[111, 134, 172, 262], [161, 250, 240, 393], [101, 185, 143, 315]],
        ("dog", "dog", "cat"),
    )
    assert boxes(content, 1) == ([[1, 2, 4, 6]], ("3",))
    assert [(item.name, item.split) for item in content.items] == [
        ("train/your_image_directory/sample_image1.jpg", "train"),
        ("validation/b.png", "val"),
    ]


def test_an_image_without_objects_has_no_boxes(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "a.png")
    write(tmp_path / "train_annotation" / "a.json", {"file": "a.png", "annotations": []})
    assert boxes(SageMakerBoxes().read(tmp_path)) == ([], ())


def annotated(tmp_path: Path, **files: Any) -> Path:
    for name, content in files.items():
        picture(tmp_path / "train" / f"{name}.png")
        write(tmp_path / "train_annotation" / f"{name}.json", content)
    return tmp_path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "a.json: not SageMaker's boxes; `file` names the image"),
        ({"annotations": []}, "a.json: not SageMaker's boxes; `file` names the image"),
        ({"file": "b.png", "annotations": []}, "a.json: no image b.png below"),
        ({"file": "a.png"}, r"a.json: not SageMaker's boxes \('annotations'\)"),
        ({"file": "a.png", "annotations": [{"class_id": 0}]}, r"a.json: not .* \('left'\)"),
        (
            {"file": "a.png", "annotations": [], "categories": [{"name": "dog"}]},
            r"a.json: not SageMaker's categories \('class_id'\)",
        ),
    ],
)
def test_annotations_of_another_layout_are_refused(
    tmp_path: Path, content: Any, message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        SageMakerBoxes().read(annotated(tmp_path, a=content))


@pytest.mark.parametrize("other", [{"class_id": 0, "name": "cat"}, {"class_id": 1, "name": "dog"}])
def test_names_that_contradict_each_other_are_refused(tmp_path: Path, other: Any) -> None:
    first = {"file": "a.png", "annotations": [], "categories": [{"class_id": 0, "name": "dog"}]}
    second = {"file": "b.png", "annotations": [], "categories": [other]}
    with pytest.raises(BadInput, match="b.json: class . is '...', which another file says other"):
        SageMakerBoxes().read(annotated(tmp_path, a=first, b=second))


def test_images_without_annotations_are_counted(tmp_path: Path) -> None:
    root = annotated(tmp_path, a={"file": "a.png", "annotations": []})
    for name in ("b", "c", "d"):
        picture(root / "train" / f"{name}.png")
    with pytest.raises(BadInput, match=": 3 bad rows.*train/b.png: it has no JSON file in"):
        SageMakerBoxes().read(root)


# Semantic Segmentation.


def masked(root: Path, numbers: Any, channel: str = "train") -> Path:
    """Lay out one image and its mask."""
    picture(root / channel / "0000.jpg", np.shape(numbers), seed=len(channel))
    mask(root / f"{channel}_annotation" / "0000.png", numbers)
    return root


def trained_on(root: Path, num_classes: int) -> list[list[int]]:
    """Return the mask that training sees: class numbers, 255 void."""
    masked(root, [[0, 0], [0, 0]], "validation")
    data = GrowingData(SageMakerMasks(num_classes), root, size=(2, 2), test_share=0)
    assert data.classes == [str(number) for number in range(num_classes)]
    return data.examples("train")[0, 0][1].tolist()


def test_masks_index_classes_and_255_is_void(tmp_path: Path, capsys: Any) -> None:
    masked(tmp_path, [[0, 1], [2, 255]])
    content = SageMakerMasks(3).read(tmp_path)
    (item,) = content.items
    assert (content.kind, list(content.classes)) == ("masks", ["0", "1", "2"])
    assert (item.name, item.split) == ("train/0000.jpg", "train")
    assert isinstance(item.target, Mask)
    assert item.target.pixels == tmp_path / "train_annotation" / "0000.png"
    # A class that no image shows is no mistake beside void.
    assert trained_on(tmp_path, 4) == [[0, 1], [2, 255]]
    assert "1 class that no training image shows: 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    "where", ["label_map/train_label_map.json", "train_annotation/label_map.json"]
)
def test_a_scale_divides_the_numbers(tmp_path: Path, where: str) -> None:
    # The guide: with scale 3, encoded 0, 3, 6 are 0, 1, 2; what does not divide is rounded down.
    masked(tmp_path, [[0, 3, 6], [8, 5, 255]])
    write(tmp_path / where, '{"scale": "3"}')
    masked(tmp_path, [[0, 0], [0, 0]], "validation")
    data = GrowingData(SageMakerMasks(3), tmp_path, size=(2, 3), test_share=0)
    assert data.examples("train")[0, 0][1].tolist() == [[0, 1, 2], [2, 1, 255]]


def test_a_map_names_the_number_in_the_file_of_each_class(tmp_path: Path) -> None:
    # The guide: encoded 0, 5, 2 are 1, 0, 2.
    masked(tmp_path, [[0, 5], [2, 255]])
    write(tmp_path / "label_map" / "train_label_map.json", '{"map": {"0": 5, "1": 0, "2": 2}}')
    assert trained_on(tmp_path, 3) == [[1, 0], [2, 255]]


def test_each_channel_has_its_own_label_map(tmp_path: Path) -> None:
    masked(tmp_path, [[10, 20]])
    masked(tmp_path, [[0, 1]], "validation")
    write(tmp_path / "label_map" / "train_label_map.json", '{"scale": "10"}')
    train, validation = SageMakerMasks(3).read(tmp_path).items
    assert isinstance(train.target, Mask)
    assert isinstance(validation.target, Mask)
    assert [train.target.names[n] for n in (9, 10, 29)] == ["0", "1", "2"]
    assert validation.target.names == {0: "0", 1: "1", 2: "2"}


def test_a_number_beyond_the_classes_is_refused(tmp_path: Path) -> None:
    masked(tmp_path, [[0, 7]])
    with pytest.raises(BadInput, match="0000.png: the mask has the number 7.*raise num_classes"):
        trained_on(tmp_path, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"scale": "0"}', "train_label_map.json: not a label map"),
        ('{"scale": "x"}', "train_label_map.json: not a label map"),
        ('{"size": 3}', r"not a label map \('scale'\); it holds `scale`"),
        ("[]", "not a label map"),
        ('{"map": [1]}', "not a label map"),
        ('{"map": {"a": 5}}', "not a label map"),
        ('{"map": {"3": 5}}', "maps to class 3, and num_classes is 3; correct one"),
        ('{"map": {"0": 5, "1": 5}}', "two classes have the same number in the files"),
    ],
)
def test_label_maps_with_mistakes_are_refused(tmp_path: Path, content: str, message: str) -> None:
    masked(tmp_path, [[0, 1]])
    write(tmp_path / "label_map" / "train_label_map.json", content)
    with pytest.raises(BadInput, match=message):
        SageMakerMasks(3).read(tmp_path)


@pytest.mark.parametrize("count", [1, 255])
def test_a_number_of_classes_that_cannot_be_is_refused(count: int) -> None:
    with pytest.raises(BadInput, match=f"num_classes is {count}, it must lie in"):
        SageMakerMasks(count)


def test_a_mask_that_is_missing_is_named(tmp_path: Path) -> None:
    masked(tmp_path, [[0, 1]])
    picture(tmp_path / "train" / "coffee.jpg")
    with pytest.raises(BadInput, match="coffee.jpg: its mask .*coffee.png is not there"):
        SageMakerMasks(3).read(tmp_path)


# Augmented manifests.


def manifest(root: Path, lines: Sequence[str]) -> Path:
    for name in ("image1.jpg", "image2.jpg"):
        picture(root / "train" / name)
    write(root / "train" / "train.manifest", "\n".join(lines))
    return root


def test_a_manifest_of_boxes(tmp_path: Path) -> None:
    lines = [
        '{"source-ref": "s3://your_bucket/image1.jpg", "bounding-box":{"image_size":[{ "width": '
        '500, "height": 400, "depth":3}], "annotations":[{"class_id": 0, "left": 111, "top": 134, '
        '"width": 61, "height": 128}, {"class_id": 5, "left": 161, "top": 250, "width": 80, '
        '"height": 50}]}, "bounding-box-metadata":{"class-map":{"0": "dog", "5": "horse"}, "type": '
        '"groundtruth/object_detection"}}',
        '{"source-ref": "s3://your_bucket/image2.jpg", "bounding-box":{"image_size":[{ "width": '
        '400, "height": 300, "depth":3}], "annotations":[{"class_id": 1, "left": 100, "top": 120, '
        '"width": 43, "height": 78}]}}',
    ]
    content = ManifestFile().read(manifest(tmp_path, lines))
    assert (content.kind, list(content.classes)) == ("boxes", ["1", "dog", "horse"])
    assert boxes(content) == ([[111, 134, 172, 262], [161, 250, 241, 300]], ("dog", "horse"))
    assert boxes(content, 1) == ([[100, 120, 143, 198]], ("1",))
    assert [item.split for item in content.items] == ["train", "train"]


@pytest.mark.parametrize("metadata", ["city-streets-metadata", "city-streets-ref-metadata"])
def test_a_manifest_of_masks(tmp_path: Path, metadata: str) -> None:
    named = {
        "internal-color-map": {
            "0": {"class-name": "BACKGROUND", "hex-color": "#ffffff"},
            "1": {"class-name": "buildings", "hex-color": "#2acf59"},
        }
    }
    line = {"source-ref": "s3://b/image1.jpg", "city-streets-ref": "s3://b/out/1.png"}
    mask(tmp_path / "train" / "out" / "1.png", [[0, 1]])
    content = ManifestFile().read(manifest(tmp_path, [json.dumps(line | {metadata: named})]))
    assert (content.kind, list(content.classes)) == ("masks", ["BACKGROUND", "buildings"])
    target = content.items[0].target
    assert isinstance(target, Mask)
    assert target.pixels == tmp_path / "train" / "out" / "1.png"
    assert target.names == {0: "BACKGROUND", 1: "buildings"}
    assert target.void == {255}
    # As the guide shows it, without names.
    manifest(tmp_path, [json.dumps(line | {metadata: {"job-name": "label-city-streets"}})])
    with pytest.raises(BadInput, match="line 1: its metadata has no internal-color-map"):
        ManifestFile().read(tmp_path)
    assert list(ManifestFile(num_classes=11).read(tmp_path).classes) == [str(n) for n in range(11)]


def test_a_manifest_of_classes_with_an_attribute_of_its_own(tmp_path: Path) -> None:
    lines = [
        '{"source-ref": "s3://AWSDOC-EXAMPLE-BUCKET/image1.jpg", "species": "0", '
        '"species-metadata": {"class-name": "dog", "confidence": 0.00}}',
        '{"image-ref": "s3://mybucket/sample02/image2.jpg", "is-a-cat": 1}',
    ]
    content = ManifestFile().read(manifest(tmp_path, lines))
    assert [item.target for item in content.items] == ["dog", "1"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"class": [0, 2]}, r"line 1: the label \[0, 2\] is not one class name"),
        ({"a": 1, "b": 2}, "line 1: has the attributes a, b; name that of the label"),
        ({"mask-ref": "s3://b/none.png"}, "line 1: no mask s3://b/none.png below"),
        ({"box": {"annotations": [{"left": 1}]}}, r"line 1: not SageMaker's boxes \('top'\)"),
        ({"box": {}}, r"line 1: not SageMaker's boxes \('annotations'\)"),
    ],
)
def test_rows_with_mistakes_are_refused(tmp_path: Path, line: Any, message: str) -> None:
    root = manifest(tmp_path, [json.dumps({"source-ref": "s3://b/image1.jpg"} | line)])
    with pytest.raises(BadInput, match=message):
        ManifestFile().read(root)


def test_several_kinds_of_label_are_refused(tmp_path: Path) -> None:
    lines = [
        '{"source-ref": "image1.jpg", "x": {"annotations": []}}',
        '{"source-ref": "image2.jpg", "x": 1}',
    ]
    with pytest.raises(BadInput, match="has boxes and labels; one kind of label in a list"):
        ManifestFile().read(manifest(tmp_path, lines))
