"""Masks from COCO's segmentations, against masks by hand and faster-coco-eval's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_coco_eval.core import mask as coco_mask
from PIL import Image

from regrow.data.formats import Coco
from regrow.data.formats.coco_regions import region_of
from regrow.data.images.decoding import decode_mask
from regrow.data.module import GrowingData
from regrow.data.targets.labels import Mask
from regrow.errors import BadInput


def annotated(root: Path, *entries: dict[str, Any], width: int = 5, height: int = 4) -> None:
    (root / "images").mkdir(exist_ok=True)
    Image.new("RGB", (width, height)).save(root / "images" / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": width, "height": height}],
        "annotations": [{"id": n, "image_id": 1, **own} for n, own in enumerate(entries)],
        "categories": [{"id": 3, "name": "ant"}, {"id": 9, "name": "bee"}],
    }
    (root / "a.json").write_text(json.dumps(content))


def entry(category: int, segmentation: Any, **values: Any) -> dict[str, Any]:
    return {"category_id": category, "segmentation": segmentation, **values}


def read(root: Path, **arguments: Any) -> tuple[list[str], list[list[int]]]:
    content = Coco("images", "a.json", kind="masks", **arguments).read(root)
    assert content.kind == "masks"
    target = content.items[0].target
    assert isinstance(target, Mask)
    return list(content.classes), decode_mask(target.pixels).tolist()


LARGE = entry(3, [[0, 0, 4, 0, 4, 4, 0, 4]])
SMALL = entry(9, [[0, 0, 1, 0, 1, 1, 0, 1], [3, 2, 5, 2, 5, 4, 3, 4]], bbox=[0, 0, 5, 4], area=5)
WANTED = [[2, 1, 1, 1, 0], [1, 1, 1, 1, 0], [1, 1, 1, 2, 2], [1, 1, 1, 2, 2]]


@pytest.mark.parametrize("entries", [(LARGE, SMALL), (SMALL, LARGE)])
def test_polygons_are_masks_the_smallest_on_top(tmp_path: Path, entries: Any) -> None:
    annotated(tmp_path, *entries)
    assert read(tmp_path) == (["background", "ant", "bee"], WANTED)


def test_pixels_of_nothing_may_be_void(tmp_path: Path) -> None:
    annotated(tmp_path, LARGE, SMALL)
    void = [[{0: 255, 1: 0, 2: 1}[n] for n in row] for row in WANTED]
    assert read(tmp_path, background=None) == (["ant", "bee"], void)
    assert read(tmp_path, background="bee")[0] == ["bee", "ant"]


@pytest.mark.parametrize("is_text", [True, False])
def test_run_lengths_are_masks(tmp_path: Path, is_text: bool) -> None:
    wanted = np.array([[0, 1, 1, 0, 0], [0, 1, 0, 0, 1], [0, 0, 0, 0, 1], [1, 0, 0, 0, 1]])
    # By columns: 3 outside, 3 inside (down to the next column), and so on.
    counts: Any = [3, 3, 2, 1, 8, 3]
    if is_text:
        encoded = coco_mask.encode(np.asfortranarray(wanted.astype(np.uint8)))["counts"]
        counts = encoded.decode() if isinstance(encoded, bytes) else encoded
    annotated(tmp_path, entry(3, {"counts": counts, "size": [4, 5]}, iscrowd=1))
    assert read(tmp_path)[1] == wanted.tolist()


def test_polygons_agree_with_those_of_coco_but_for_their_edges() -> None:
    random = np.random.default_rng(0)
    for _ in range(10):
        angles = np.sort(random.uniform(0, 2 * np.pi, 9))
        radii = random.uniform(30, 60, 9)
        corners = np.stack([80 + radii * np.cos(angles), 70 + radii * np.sin(angles)], 1)
        region, _ = region_of({"segmentation": [corners.ravel().tolist()]})
        own = region.pixels((140, 160))
        encoded = coco_mask.frPyObjects([corners.ravel().tolist()], 140, 160)
        theirs = coco_mask.decode(encoded)[..., 0].astype(bool)
        assert (own & theirs).sum() / (own | theirs).sum() > 0.97


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], r"its segmentation is \[\], no list of polygons"),
        (3, "its segmentation is 3"),
        ([[1, 2, 3, 4]], "its polygon has 2 points; it needs three or more"),
        ([[1, 2, 3, 4, 5]], "its polygon is no list of x and y"),
        ([["a", 2, 3, 4, 5, 6]], "could not convert"),
        ({"counts": [1, 2]}, "an entry has no 'size'|has no size"),
        ({"counts": 3, "size": [4, 5]}, "its run lengths are 3"),
        ({"counts": [-1], "size": [4, 5]}, "run length -1 is not a whole number"),
        ({"counts": [20], "size": [4, -5]}, "size -5 is not a whole number"),
        ({"counts": [20], "size": [4]}, "unpack"),
    ],
)
def test_what_is_no_region_is_refused_by_its_annotation(
    tmp_path: Path, segmentation: Any, message: str
) -> None:
    annotated(tmp_path, LARGE, entry(3, segmentation))
    with pytest.raises(BadInput, match=message) as refused:
        read(tmp_path)
    assert "a.json: annotation 1" in str(refused.value)


def test_an_annotation_without_a_region_is_refused(tmp_path: Path) -> None:
    region = {"category_id": 3, "bbox": [1, 1, 2, 2], "segmentation": [[1, 1, 3, 1, 3, 3]]}
    annotated(tmp_path, region, {"category_id": 3, "bbox": [1, 2, 3, 4]})
    with pytest.raises(BadInput, match="annotation 1: .*an entry has no 'segmentation'"):
        read(tmp_path)


def test_a_file_of_boxes_alone_is_refused_at_once(tmp_path: Path) -> None:
    annotated(tmp_path, *[{"category_id": 3, "bbox": [1, 2, 3, 4]}] * 9)
    with pytest.raises(BadInput, match="boxes alone, no segmentation; train detection on it"):
        read(tmp_path)


@pytest.mark.parametrize(
    "region",
    [
        {"counts": [20], "size": [4, 6]},
        {"counts": [10], "size": [4, 5]},
        {"counts": "~", "size": [4, 5]},
        {"counts": [2**31 - 1] * 3, "size": [2**31 - 1, 2**31 - 1]},
        [[0, 0, 500, 0, 500, 4]],
    ],
)
def test_a_region_of_another_image_is_refused_before_anything_is_drawn(
    tmp_path: Path, region: Any
) -> None:
    annotated(tmp_path, entry(3, region))
    source = Coco("images", "a.json", kind="masks")
    with pytest.raises(BadInput, match=r"a\.png: a region of its mask"):
        _ = GrowingData(source, tmp_path, (4, 5)).snapshot
