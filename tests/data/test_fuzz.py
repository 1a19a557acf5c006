"""Damaged annotations, masks, images and memories: one line or sound data, and nothing else done.

Of each kind of file 500 damaged ones are read, by a seed: bits, stretches and lengths of bytes, and
odd values in the place of sound ones. The seed of a failure is in its message.
"""

import json
import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regrow.data.formats import (
    Coco,
    HuggingFace,
    ImageFolder,
    LabelMe,
    LabelStudio,
    ManifestFile,
    Masks,
    Part,
    Several,
    Voc,
    Yolo,
)
from regrow.data.module import GrowingData
from regrow.data.sagemaker import SageMakerBoxes, SageMakerList, SageMakerMasks
from regrow.data.source import Source
from regrow.data.stored import Stored, store
from regrow.errors import BadInput

NUM_MUTATIONS, NUM_IMAGES, SIDE = 500, 8, 16
MAX_GROWTH = 500 * 2**10  # kilobytes of memory that no file of these may cost
STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect")
CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "shutil.rmtree", "os.link")


class Watch:
    """Notes the programs that are started and the files that are changed while it is on."""

    def __init__(self) -> None:
        self.is_on, self.seen = False, list[tuple[str, tuple[Any, ...]]]()
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        is_written = event == "open" and isinstance(args[2], int) and args[2] & WRITES
        if event in STARTS or event in CHANGES or is_written:
            self.seen.append((event, args))


WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


@pytest.fixture(scope="module")
def watch() -> Iterator[Watch]:
    watch = Watch()  # a hook stays for ever, so that it is switched off
    yield watch
    watch.is_on = False


def numbers() -> range:
    return range(NUM_IMAGES)


def pictures(folder: Path, ending: str = "png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers():
        pixels = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.{ending}")


def masks(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers():
        pixels = np.random.default_rng(number).integers(0, 2, (SIDE, SIDE), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def coco(root: Path) -> None:
    pictures(root / "images")
    images = [{"id": n, "file_name": f"{n}.png", "width": SIDE, "height": SIDE} for n in numbers()]
    boxes = [
        {"id": n, "image_id": n, "category_id": n % 2, "bbox": [1, 2, 8, 9], "iscrowd": 0}
        for n in numbers()
    ]
    categories = [{"id": 0, "name": "ant"}, {"id": 1, "name": "bee"}]
    content = {"images": images, "annotations": boxes, "categories": categories}
    write(root / "x.json", json.dumps(content))


def voc(root: Path) -> None:
    pictures(root / "JPEGImages")
    for number in numbers():
        write(
            root / "Annotations" / f"{number}.xml",
            f"<annotation><filename>{number}.png</filename><size><width>{SIDE}</width><height>"
            f"{SIDE}</height></size><object><name>{'ab'[number % 2]}</name><difficult>0</difficult>"
            "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>9</xmax><ymax>11</ymax></bndbox></object>"
            "</annotation>",
        )
    write(root / "ImageSets/Main/train.txt", "".join(f"{n}\n" for n in numbers() if n < 5))
    write(root / "ImageSets/Main/val.txt", "".join(f"{n}\n" for n in numbers() if n >= 5))


def table(root: Path) -> None:
    pictures(root)
    rows = [f"{n}.png,{'ab'[n % 2]},{'train' if n < 5 else 'val'}\n" for n in numbers()]
    write(root / "x.csv", "image,label,split\n" + "".join(rows))


def manifest(root: Path) -> None:
    pictures(root)
    size = [{"width": SIDE, "height": SIDE, "depth": 3}]
    box = {"class_id": 0, "left": 1, "top": 2, "width": 8, "height": 9}
    rows = [
        {
            "source-ref": f"s3://bucket/set/{n}.png",
            "bb": {"image_size": size, "annotations": [{**box, "class_id": n % 2}]},
            "bb-metadata": {"class-map": {"0": "ant", "1": "bee"}},
        }
        for n in numbers()
    ]
    write(root / "x.manifest", "".join(json.dumps(row) + "\n" for row in rows))


def listed(root: Path) -> None:
    pictures(root / "train")
    rows = "".join(f"{n}\t{n % 2}\t{n}.png\n" for n in numbers())
    write(root / "train_lst" / "train.lst", rows)


def sagemaker_boxes(root: Path) -> None:
    pictures(root / "train")
    for n in numbers():
        content = {
            "file": f"{n}.png",
            "image_size": [{"width": SIDE, "height": SIDE, "depth": 3}],
            "annotations": [{"class_id": n % 2, "left": 1, "top": 2, "width": 8, "height": 9}],
            "categories": [{"class_id": 0, "name": "ant"}, {"class_id": 1, "name": "bee"}],
        }
        write(root / "train_annotation" / f"{n}.json", json.dumps(content))


def masked(root: Path) -> None:
    pictures(root / "images")
    masks(root / "masks")
    write(root / "classes.json", json.dumps({"classes": {"sky": 0, "road": 1}, "void": 255}))


def sagemaker_masks(root: Path) -> None:
    pictures(root / "train")
    masks(root / "train_annotation")
    write(root / "label_map" / "train_label_map.json", json.dumps({"map": {"0": 0, "1": 1}}))


def yolo(root: Path) -> None:
    pictures(root / "images")
    for n in numbers():
        row = "0.1 0.1 0.6 0.1 0.6 0.7" if n % 2 else "0.1 0.2 0.7 0.3 0.5 0.9 0.2 0.8"
        write(root / "labels" / f"{n}.txt", f"{n % 2} {row}\n")
    write(root / "data.yaml", "path: ../x\ntrain: ../images\nnames:\n  0: ant\n  1: bee\nnc: 2\n")


def labelme(root: Path) -> None:
    pictures(root)
    kinds = (("rectangle", 2), ("polygon", 4), ("circle", 2))
    for n in numbers():
        kind, count = kinds[n % 3]
        points = [[5.5, 6.0], [8.0, 9.5], [5.0, 10.0], [4.0, 7.0]][:count]
        shape = {"label": "ab"[n % 2], "points": points, "shape_type": kind}
        content = {"shapes": [shape], "imagePath": f"{n}.png", "imageHeight": SIDE}
        write(root / f"{n}.json", json.dumps({**content, "imageWidth": SIDE}))


def hugging_face(root: Path) -> None:
    pictures(root)
    rows = [
        {"file_name": f"{n}.png", "objects": {"bbox": [[1, 2, 8, 9]], "categories": [n % 2]}}
        for n in numbers()
    ]
    write(root / "metadata.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def label_studio(root: Path) -> None:
    pictures(root / "images")
    # A brush stroke over all: 32 bits of the number of values, 5 and four times 4 of the widths.
    bits = f"{4 * SIDE * SIDE:032b}{7:05b}{'1111' * 4}1{0:02b}{4 * SIDE * SIDE - 1:016b}{255:08b}"
    stroke = [int(bits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(bits), 8)]
    values: list[dict[str, Any]] = [
        {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 5, "rectanglelabels": ["a"]},
        {"points": [[10, 20], [60, 30], [50, 70]], "polygonlabels": ["b"]},
        {"x": 50, "y": 50, "radiusX": 20, "radiusY": 30, "rotation": 9, "ellipselabels": ["a"]},
        {"format": "rle", "rle": stroke, "brushlabels": ["b"]},
    ]
    tasks = []
    for n in numbers():
        result = {"from_name": "x", "value": values[n % 4]}
        result |= {"original_width": SIDE, "original_height": SIDE}
        data = {"image": f"/data/upload/1/{n}.png"}
        tasks.append({"data": data, "annotations": [{"result": [result]}]})
    write(root / "x.json", json.dumps(tasks))


def coco_masks(root: Path) -> None:
    coco(root)
    content = json.loads((root / "x.json").read_text())
    forms: tuple[Any, ...] = (
        [[1, 2, 9, 2, 9, 11, 1, 11]],
        {"counts": [20, SIDE * SIDE - 20], "size": [SIDE, SIDE]},
        {"counts": "d0\\7", "size": [SIDE, SIDE]},
    )
    for n, entry in enumerate(content["annotations"]):
        entry["segmentation"] = forms[n % 3]
    write(root / "x.json", json.dumps(content))


def several(root: Path) -> None:
    coco(root)
    labelme(root / "more")


def classes_in_folders(root: Path) -> None:
    for name, ending in (("a", "png"), ("b", "jpg"), ("c", "tif"), ("d", "webp")):
        pictures(root / name, ending)


def memory(root: Path) -> None:
    masked(root / "from")
    content = Masks("images", "masks").read(root / "from")
    store(root / "kept", content.kind, content.classes, content.items, {"num_stood_for": 80})
    shutil.rmtree(root / "from")
    for path in sorted((root / "kept").iterdir()):
        path.rename(root / path.name)
    (root / "kept").rmdir()


Make = Callable[[Path], None]
LAYOUTS: dict[str, tuple[Source, Make, str]] = {
    "coco": (Coco("images", "x.json"), coco, "x.json"),
    "voc": (Voc(), voc, "Annotations/*.xml"),
    "voc lists": (Voc(), voc, "ImageSets/Main/*.txt"),
    "csv": (ManifestFile("x.csv"), table, "x.csv"),
    "augmented manifest": (ManifestFile("x.manifest"), manifest, "x.manifest"),
    "lst": (SageMakerList(), listed, "train_lst/*.lst"),
    "sagemaker boxes": (SageMakerBoxes(), sagemaker_boxes, "train_annotation/*.json"),
    "masks": (Masks("images", "masks"), masked, "masks/*.png"),
    "classes of masks": (Masks("images", "masks"), masked, "classes.json"),
    "sagemaker masks": (SageMakerMasks(2), sagemaker_masks, "train_annotation/*.png"),
    "yolo": (Yolo(), yolo, "labels/*.txt"),
    "yolo masks": (Yolo(kind="masks"), yolo, "labels/*.txt"),
    "data.yaml of yolo": (Yolo(), yolo, "data.yaml"),
    "labelme": (LabelMe(), labelme, "*.json"),
    "labelme masks": (LabelMe(kind="masks"), labelme, "*.json"),
    "hugging face": (HuggingFace(), hugging_face, "metadata.jsonl"),
    "label studio": (LabelStudio(kind="masks"), label_studio, "x.json"),
    "coco masks": (Coco("images", "x.json", kind="masks"), coco_masks, "x.json"),
    "several": (
        Several([Part(Coco("images", "x.json")), Part(LabelMe(), Path("more"))]),
        several,
        "more/*.json",
    ),
    "label map": (SageMakerMasks(2), sagemaker_masks, "label_map/*.json"),
    "images": (ImageFolder(), classes_in_folders, "*/*.*"),
    "memory": (Stored(), memory, "snapshot.json"),
    "images of a memory": (Stored(), memory, "images/*"),
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", LAYOUTS)
def test_damaged_files_end_in_one_line_or_are_read(
    tmp_path: Path,
    name: str,
    watch: Watch,
    mutated_bytes: Callable[[bytes, int], bytes],
    mutated_plain: Callable[[Any, int], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REGROW_CACHE", "off")
    source, make, pattern = LAYOUTS[name]
    root = tmp_path / "data"
    make(root)
    files = sorted(root.glob(pattern))
    assert files
    assert read_all(source, root) is None
    before, refused = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
    for seed in range(NUM_MUTATIONS):
        file = files[seed % len(files)]
        sound = file.read_bytes()
        if file.suffix == ".json" and seed % 2:
            damaged = json.dumps(mutated_plain(json.loads(sound), seed)).encode()
        else:
            damaged = mutated_bytes(sound, seed)
        file.write_bytes(damaged)
        watch.is_on = True
        try:
            said = read_all(source, root)
        except Exception as error:
            raise AssertionError(f"seed {seed} of {name}: {error!r}") from error
        finally:
            watch.is_on = False
        assert said is None or (said.isprintable() and len(said) < 3000), seed
        refused += said is not None
        assert not watch.seen, (seed, watch.seen)
        file.write_bytes(sound)
    assert refused > NUM_MUTATIONS // 20
    assert read_all(source, root) is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MAX_GROWTH


def read_all(source: Source, root: Path) -> str | None:
    """Read all images as training does; give what a refusal says."""
    try:
        data = GrowingData(source, root, (8, 8), val_share=0.3, test_share=0.0, cache_bytes=0)
        for split in ("train", "val"):
            examples = data.examples(split)
            for index in range(len(examples)):
                examples[(0, index)]
    except BadInput as error:
        return str(error)
    return None
