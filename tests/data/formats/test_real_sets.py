"""Real sets rewritten in each format: every box and every pixel is that of the original."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from faster_coco_eval.core import mask as coco_mask
from PIL import Image

from regrow.data.described import build_data
from regrow.data.detect import detect
from regrow.data.formats import Coco, Masks
from regrow.data.images.decoding import decode_mask
from regrow.data.module import GrowingData
from regrow.data.targets.labels import Boxes, Mask

Found = dict[tuple[str, str], list[tuple[str, list[float]]]]


def found_in(data: GrowingData) -> Found:
    """Return the boxes of each image by its own name and split."""
    found: Found = {}
    for item, split in zip(data.snapshot.items, data.snapshot.splits, strict=True):
        assert isinstance(item.target, Boxes)
        pairs = zip(item.target.classes, item.target.xyxy.tolist(), strict=True)
        found[Path(item.name).name, split] = [*pairs]
    return found


def size_of(image: Path) -> tuple[int, int]:
    with Image.open(image) as opened:
        return opened.size


def bccd(root: Path) -> GrowingData:
    return GrowingData(Coco(), root / "bccd", (32, 32))


def as_yolo(data: GrowingData, root: Path) -> None:
    for item, split in zip(data.snapshot.items, data.snapshot.splits, strict=True):
        assert isinstance(item.image, Path)
        assert isinstance(item.target, Boxes)
        image = root / split / "images" / item.image.name
        label = root / split / "labels" / f"{item.image.stem}.txt"
        for file in (image, label):
            file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(item.image, image)
        width, height = size_of(image)
        rows = []
        for name, (left, top, right, bottom) in zip(
            item.target.classes, item.target.xyxy.tolist(), strict=True
        ):
            centre = ((left + right) / 2 / width, (top + bottom) / 2 / height)
            sides = ((right - left) / width, (bottom - top) / height)
            numbers = " ".join(f"{number:.6f}" for number in (*centre, *sides))
            rows.append(f"{data.classes.index(name)} {numbers}\n")
        label.write_text("".join(rows))
    described = {
        "train": "../train/images",
        "val": "../val/images",
        "test": "../test/images",
        "nc": len(data.classes),
        "names": data.classes,
    }
    (root / "data.yaml").write_text(yaml.safe_dump(described))


def as_labelme(data: GrowingData, root: Path) -> None:
    for item, split in zip(data.snapshot.items, data.snapshot.splits, strict=True):
        assert isinstance(item.image, Path)
        assert isinstance(item.target, Boxes)
        folder = root / split
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(item.image, folder)
        shapes = [
            {"label": name, "shape_type": "rectangle", "points": [box[:2], box[2:]]}
            for name, box in zip(item.target.classes, item.target.xyxy.tolist(), strict=True)
        ]
        width, height = size_of(item.image)
        sizes = {"imageWidth": width, "imageHeight": height}
        content = {"version": "5.0", "shapes": shapes, "imagePath": item.image.name, **sizes}
        (folder / f"{item.image.stem}.json").write_text(json.dumps(content))


def as_hugging_face(data: GrowingData, root: Path) -> None:
    rows: dict[str, list[str]] = {}
    for item, split in zip(data.snapshot.items, data.snapshot.splits, strict=True):
        assert isinstance(item.image, Path)
        assert isinstance(item.target, Boxes)
        (root / split).mkdir(parents=True, exist_ok=True)
        shutil.copy(item.image, root / split)
        boxes = [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in item.target.xyxy.tolist()]
        objects = {"bbox": boxes, "categories": list(item.target.classes)}
        row = {"file_name": item.image.name, "objects": objects}
        rows.setdefault(split, []).append(json.dumps(row))
    for split, lines in rows.items():
        (root / split / "metadata.jsonl").write_text("\n".join(lines))


def as_label_studio(data: GrowingData, root: Path) -> None:
    tasks = []
    for item, split in zip(data.snapshot.items, data.snapshot.splits, strict=True):
        assert isinstance(item.image, Path)
        assert isinstance(item.target, Boxes)
        (root / split).mkdir(parents=True, exist_ok=True)
        shutil.copy(item.image, root / split)
        width, height = size_of(item.image)
        results: list[dict[str, Any]] = []
        for name, (x1, y1, x2, y2) in zip(
            item.target.classes, item.target.xyxy.tolist(), strict=True
        ):
            place = {"x": 100 * x1 / width, "y": 100 * y1 / height, "rotation": 0}
            sides = {"width": 100 * (x2 - x1) / width, "height": 100 * (y2 - y1) / height}
            value = {**place, **sides, "rectanglelabels": [name]}
            sizes = {"original_width": width, "original_height": height}
            results.append(
                {"from_name": "label", "type": "rectanglelabels", "value": value, **sizes}
            )
        image = f"/data/local-files/?d=cells/{split}/{item.image.name}"
        tasks.append({"data": {"image": image}, "annotations": [{"result": results}]})
    (root / "export.json").write_text(json.dumps(tasks))


@pytest.mark.slow
@pytest.mark.parametrize("rewrite", [as_yolo, as_labelme, as_hugging_face, as_label_studio])
def test_blood_cells_are_the_same_in_every_format(
    data_root: Path, tmp_path: Path, rewrite: Callable[[GrowingData, Path], None]
) -> None:
    data = bccd(data_root)
    rewrite(data, tmp_path)
    source = detect(tmp_path, "boxes")
    again = build_data({"source": source, "root": str(tmp_path), "size": [32, 32]})
    wanted, found = found_in(data), found_in(again)
    assert found.keys() == wanted.keys()
    count = 0
    for key, rows in wanted.items():
        assert [name for name, _ in found[key]] == [name for name, _ in rows], key
        for (_, box), (_, own) in zip(rows, found[key], strict=True):
            assert own == pytest.approx(box, abs=1e-3)  # six digits of a share of 640 pixels
            count += 1
    assert count == 2804 + 1137 + 945


def drive(root: Path, out: Path, count: int = 4) -> tuple[list[Path], dict[int, str], list[Any]]:
    """Copy some images of CamVid, and return them, its classes and the numbers of each pixel."""
    content = Masks().read(root / "camvid")
    items = content.items[:: len(content.items) // count][:count]
    target = items[0].target
    assert isinstance(target, Mask)
    masks = [decode_mask(i.target.pixels) for i in items if isinstance(i.target, Mask)]
    (out / "images").mkdir(parents=True)
    files = [Path(shutil.copy(i.image, out / "images")) for i in items if isinstance(i.image, Path)]
    return files, dict(target.names), masks


def check(source: Any, out: Path, names: dict[int, str], masks: list[Any]) -> None:
    """Compare every pixel of every image, by the names of classes."""
    data = build_data({"source": source, "root": str(out)}).source.read(out)
    assert len(data.items) == len(masks)
    for item, wanted in zip(sorted(data.items, key=lambda item: item.name), masks, strict=True):
        assert isinstance(item.target, Mask)
        drawn = decode_mask(item.target.pixels)
        for number, name in names.items():
            own = [place for place, called in item.target.names.items() if called == name]
            assert (np.isin(drawn, own) == (wanted == number)).all(), (item.name, name)


def runs(mask: np.ndarray) -> list[tuple[int, int, int]]:
    """Return the row, start and end of each run along the rows of a mask."""
    padded = np.pad(mask.astype(int), ((0, 0), (1, 1)))
    rows, starts = np.nonzero(np.diff(padded, axis=1) == 1)
    _, stops = np.nonzero(np.diff(padded, axis=1) == -1)
    return [*zip(rows.tolist(), starts.tolist(), stops.tolist(), strict=True)]


@pytest.mark.slow
def test_streets_are_the_same_as_polygons_of_yolo(data_root: Path, tmp_path: Path) -> None:
    files, names, masks = drive(data_root, tmp_path)
    (tmp_path / "labels").mkdir()
    numbers = sorted(names)
    for file, mask in zip(files, masks, strict=True):
        height, width = mask.shape
        rows = []
        for number in numbers:
            for row, start, stop in runs(mask == number):
                corners = ((start, row), (stop, row), (stop, row + 1), (start, row + 1))
                shares = " ".join(f"{x / width:.6f} {y / height:.6f}" for x, y in corners)
                rows.append(f"{numbers.index(number)} {shares}\n")
        (tmp_path / "labels" / f"{file.stem}.txt").write_text("".join(rows))
    listed = yaml.safe_dump({"train": "images", "names": [names[number] for number in numbers]})
    (tmp_path / "data.yaml").write_text(listed)
    order = np.argsort([file.name for file in files])
    check(detect(tmp_path, "masks"), tmp_path, names, [masks[place] for place in order])


@pytest.mark.slow
def test_streets_are_the_same_as_run_lengths_of_coco(data_root: Path, tmp_path: Path) -> None:
    files, names, masks = drive(data_root, tmp_path)
    annotations = []
    for place, mask in enumerate(masks):
        for number in names:
            own = np.asfortranarray((mask == number).astype(np.uint8))
            if own.any():
                encoded = coco_mask.encode(own)
                text = encoded["counts"]
                text = text.decode() if isinstance(text, bytes) else text
                region = {"counts": text, "size": list(mask.shape)}
                entry = {"image_id": place, "category_id": number, "segmentation": region}
                annotations.append({"id": len(annotations), "iscrowd": 0, **entry})
    images = [{"id": n, "file_name": file.name} for n, file in enumerate(files)]
    categories = [{"id": number, "name": name} for number, name in names.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    order = np.argsort([file.name for file in files])
    check(detect(tmp_path, "masks"), tmp_path, names, [masks[place] for place in order])
