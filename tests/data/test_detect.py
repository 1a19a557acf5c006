"""The format of a folder, told by its files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from layouts import write
from regrow.cli import parse
from regrow.data.described import build_data
from regrow.data.detect import arguments_of, detect, find_formats, first_format
from regrow.data.module import GrowingData
from regrow.data.targets.labels import Kind
from regrow.errors import BadInput

FORMATS = "regrow.data.formats"


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20)).save(path)
    return path


COCO = {
    "images": [{"id": 1, "file_name": "a.png", "width": 20, "height": 20}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}],
    "categories": [{"id": 1, "name": "ant"}],
}
XML = "<annotation><object><name>ant</name></object></annotation>"


def folders(root: Path) -> None:
    picture(root / "ant" / "a.png")
    picture(root / "bee" / "b.png")


def table(root: Path) -> None:
    picture(root / "a.png")
    write(root / "list.csv", "image,label\na.png,ant\n")


def table_of_boxes(root: Path) -> None:
    picture(root / "a.png")
    write(root / "list.csv", "filename,class,xmin,ymin,xmax,ymax\na.png,ant,1,2,3,4\n")


def manifest(root: Path, **label: Any) -> None:
    picture(root / "a.png")
    write(root / "list.manifest", json.dumps({"source-ref": "s3://b/a.png", **label}))


def manifest_of_masks(root: Path) -> None:
    manifest(root, **{"x-ref": "s3://b/a.png"})


def manifest_of_boxes(root: Path) -> None:
    manifest(root, x={"annotations": []})


def coco(root: Path) -> None:
    picture(root / "images" / "train" / "a.png")
    write(root / "annotations" / "instances_train.json", COCO)


def voc(root: Path) -> None:
    picture(root / "JPEGImages" / "a.png")
    write(root / "Annotations" / "a.xml", XML)


def masks(root: Path) -> None:
    picture(root / "images" / "train" / "a.png")
    picture(root / "masks" / "train" / "a.png")
    write(root / "classes.json", ["sky", "road"])


def yolo(root: Path) -> None:
    picture(root / "images" / "train" / "a.png")
    write(root / "labels" / "train" / "a.txt", "0 0.5 0.5 0.5 0.5\n")
    write(root / "data.yaml", "train: images/train\nnames: [ant]\n")


def rows_of_hugging_face(root: Path) -> None:
    picture(root / "train" / "a.png")
    write(root / "train" / "metadata.csv", "file_name,label\na.png,ant\n")


def boxes_of_hugging_face(root: Path) -> None:
    picture(root / "train" / "a.png")
    row = {"file_name": "a.png", "objects": {"bbox": [[1, 2, 3, 4]], "categories": [0]}}
    write(root / "train" / "metadata.jsonl", row)


def labelme(root: Path) -> None:
    picture(root / "a.png")
    shape = {"label": "ant", "points": [[1, 2], [5, 6]], "shape_type": "rectangle"}
    write(root / "a.json", {"shapes": [shape], "imagePath": "a.png"})


def label_studio(root: Path) -> None:
    picture(root / "a.png")
    value = {"x": 1, "y": 2, "width": 3, "height": 4, "rectanglelabels": ["ant"]}
    annotations = [{"result": [{"type": "rectanglelabels", "value": value}]}]
    write(root / "export.json", [{"data": {"image": "a.png"}, "annotations": annotations}])


def lists_of_sagemaker(root: Path) -> None:
    picture(root / "train" / "a.png")
    write(root / "train_lst" / "a.lst", "0\t1\ta.png\n")


def boxes_of_sagemaker(root: Path) -> None:
    picture(root / "train" / "a.png")
    write(root / "train_annotation" / "a.json", {"file": "a.png", "annotations": []})


Make = Callable[[Path], None]
KNOWN: list[tuple[Make, Kind, str]] = [
    (folders, "labels", "formats.ImageFolder"),
    (table, "labels", "formats.ManifestFile"),
    (table_of_boxes, "boxes", "formats.ManifestFile"),
    (manifest, "labels", "formats.ManifestFile"),
    (manifest_of_boxes, "boxes", "formats.ManifestFile"),
    (manifest_of_masks, "masks", "formats.ManifestFile"),
    (coco, "boxes", "formats.Coco"),
    (voc, "boxes", "formats.Voc"),
    (masks, "masks", "formats.Masks"),
    (yolo, "boxes", "formats.Yolo"),
    (labelme, "boxes", "formats.LabelMe"),
    (rows_of_hugging_face, "labels", "formats.HuggingFace"),
    (boxes_of_hugging_face, "boxes", "formats.HuggingFace"),
    (lists_of_sagemaker, "labels", "sagemaker.SageMakerList"),
    (boxes_of_sagemaker, "boxes", "sagemaker.SageMakerBoxes"),
]


ALSO: set[tuple[Make, Kind]] = {(labelme, "masks")}
each_format = pytest.mark.parametrize(
    ("make", "kind", "source"), KNOWN, ids=lambda one: getattr(one, "__name__", "")
)


@each_format
def test_a_format_is_told_by_its_files(tmp_path: Path, make: Make, kind: Kind, source: str) -> None:
    make(tmp_path)
    wanted = {"class_path": f"regrow.data.{source}", "init_args": {}}
    assert detect(tmp_path) == wanted
    assert detect(tmp_path, kind) == wanted


@each_format
def test_labels_of_another_task_are_refused_with_the_task_that_they_fit(
    tmp_path: Path, make: Make, kind: Kind, source: str
) -> None:
    make(tmp_path)
    tasks = {"labels": "classification", "boxes": "detection", "masks": "segmentation"}
    for other in ("labels", "boxes", "masks"):
        if other != kind and (make, other) not in ALSO:
            with pytest.raises(BadInput) as refused:
                detect(tmp_path, other)
            line = str(refused.value)
            assert f"holds {kind} ({source.rpartition('.')[2]}, " in line
            assert f"{tasks[other]} needs " in line
            assert f"train with --task {tasks[kind]}" in line


def test_what_is_told_is_built_as_a_config_and_by_itself(tmp_path: Path) -> None:
    coco(tmp_path)
    described = {"data": {"source": detect(tmp_path), "root": str(tmp_path), "val_share": 0.5}}
    assert type(build_data(described["data"]).source).__name__ == "Coco"

    def only(data: GrowingData) -> None:
        """Take the data."""

    config = write(tmp_path / "config.yml", yaml.safe_dump(described))
    values, _ = parse(only, ["--config", str(config)], description="")
    assert [item.name for item in values["data"].source.read(tmp_path).items] == [
        "images/train/a.png"
    ]


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no pictures in it \(\.jpg, .* --data\.root"):
        detect(tmp_path)
    write(tmp_path / "list.csv", "image,label\na.png,ant\n")
    with pytest.raises(BadInput, match="no pictures in it"):
        detect(tmp_path)
    with pytest.raises(BadInput, match="no folder"):
        detect(tmp_path / "nothing")


@pytest.mark.parametrize("folder", [".", "images", "train", "Photos"])
def test_pictures_without_labels_are_told_what_a_task_needs(tmp_path: Path, folder: str) -> None:
    picture(tmp_path / folder / "a.png")
    with pytest.raises(BadInput, match="in no folders of classes.*YOLO's data.yaml.*--data.source"):
        detect(tmp_path, "boxes")
    with pytest.raises(BadInput, match="without labels of a known format; add labels: one folder"):
        detect(tmp_path)


def test_one_folder_is_no_class(tmp_path: Path) -> None:
    picture(tmp_path / "ant" / "a.png")
    with pytest.raises(BadInput, match="all in one folder, ant"):
        detect(tmp_path)
    with pytest.raises(BadInput, match=r"for a warm start: --data\.source regrow\S+\.ImageFolder"):
        detect(tmp_path, "labels")


def test_yolos_names_need_no_splits_beside_labels(tmp_path: Path) -> None:
    yolo(tmp_path)
    write(tmp_path / "data.yaml", "nc: 1\nnames: [ant]\n")
    assert detect(tmp_path, "boxes")["class_path"] == "regrow.data.formats.Yolo"


def test_masks_without_a_list_of_classes_are_told_to_add_it(tmp_path: Path) -> None:
    masks(tmp_path)
    (tmp_path / "classes.json").unlink()
    (tmp_path / "images").rename(tmp_path / "data")
    with pytest.raises(BadInput, match=r"masks/ needs classes\.json beside it"):
        detect(tmp_path, "masks")


def test_two_formats_are_refused_by_name(tmp_path: Path) -> None:
    coco(tmp_path)
    voc(tmp_path)
    with pytest.raises(BadInput) as refused:
        detect(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path}: labels in 2 formats, Coco (annotations/instances_train.json) and Voc "
        "(Annotations/a.xml); name one: --data.source=regrow.data.formats.Coco or "
        "--data.source=regrow.data.formats.Voc"
    )


def test_of_two_formats_the_one_that_fits_the_task_is_taken(tmp_path: Path) -> None:
    table(tmp_path)
    voc(tmp_path)
    assert detect(tmp_path, "boxes")["class_path"] == f"{FORMATS}.Voc"
    assert detect(tmp_path, "labels")["class_path"] == f"{FORMATS}.ManifestFile"
    with pytest.raises(BadInput, match=r"ManifestFile \(list\.csv\) and Voc"):
        detect(tmp_path)


def test_a_file_that_only_looks_like_a_list_does_not_count(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    write(tmp_path / "results.csv", "epoch,loss\n1,0.5\n")
    # There is nothing else, and the reader of lists says what this one lacks.
    assert detect(tmp_path)["class_path"] == f"{FORMATS}.ManifestFile"
    folders(tmp_path)
    assert detect(tmp_path)["class_path"] == f"{FORMATS}.ImageFolder"
    voc(tmp_path)
    assert detect(tmp_path)["class_path"] == f"{FORMATS}.Voc"


def test_masks_of_sagemaker_need_their_number_of_classes(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "a.png")
    picture(tmp_path / "train_annotation" / "a.png")
    with pytest.raises(BadInput, match=r"does not say how many classes .*num_classes=N"):
        detect(tmp_path)


def test_formats_are_listed_in_the_order_of_jobs(tmp_path: Path) -> None:
    for make in (voc, coco, table, lists_of_sagemaker):
        make(tmp_path)
    names = ["SageMakerList", "ManifestFile", "Coco", "Voc"]
    assert [found.name for found in find_formats(tmp_path)] == names
    assert first_format(tmp_path).name == "SageMakerList"
    assert first_format(tmp_path / "JPEGImages").class_path == f"{FORMATS}.ImageFolder"


def test_what_polygons_are_read_as_follows_the_task(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    shape = {"label": "ant", "points": [[1, 2], [5, 6], [1, 6]], "shape_type": "polygon"}
    write(tmp_path / "a.json", {"shapes": [shape], "imagePath": "a.png"})
    path = f"{FORMATS}.LabelMe"
    assert detect(tmp_path) == {"class_path": path, "init_args": {"kind": "masks"}}
    assert detect(tmp_path, "masks") == {"class_path": path, "init_args": {"kind": "masks"}}
    assert detect(tmp_path, "boxes") == {"class_path": path, "init_args": {}}
    with pytest.raises(BadInput, match=r"holds masks \(LabelMe, a\.json\), and classification"):
        detect(tmp_path, "labels")


def test_label_studio_is_read_as_what_it_holds(tmp_path: Path) -> None:
    label_studio(tmp_path)
    path = f"{FORMATS}.LabelStudio"
    assert detect(tmp_path) == {"class_path": path, "init_args": {"kind": "boxes"}}
    assert detect(tmp_path, "masks") == {"class_path": path, "init_args": {"kind": "masks"}}
    with pytest.raises(BadInput, match=r"holds boxes \(LabelStudio, export\.json\)"):
        detect(tmp_path, "labels")


def test_arguments_that_are_the_defaults_are_left_out(tmp_path: Path) -> None:
    coco(tmp_path)
    (found,) = find_formats(tmp_path)
    assert found.arguments["images"] == "images/{split}"
    assert arguments_of(found) == {}
    (tmp_path / "images").rename(tmp_path / "pictures")
    (tmp_path / "pictures" / "train").rename(tmp_path / "train")
    (found,) = find_formats(tmp_path)
    assert arguments_of(found) == {"images": "{split}"}
