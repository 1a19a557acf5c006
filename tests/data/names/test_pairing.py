"""Masks found for images by their names."""

from pathlib import Path

import pytest
from PIL import Image

from regrow.data.checks.faults import Faults
from regrow.data.checks.remarks import Remarks
from regrow.data.names.pairing import UNUSED, pair_masks
from regrow.errors import BadInput


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4)).save(path)
    return path


def test_each_image_has_the_mask_of_its_name(tmp_path: Path) -> None:
    images = [picture(tmp_path / "images" / name) for name in ("a.jpg", "sub/b.png")]
    masks = [picture(tmp_path / "masks" / name) for name in ("a_m.png", "sub/b_m.png", "c_m.png")]
    faults, remarks = Faults(), Remarks()
    pairs = pair_masks(tmp_path / "images", tmp_path / "masks", faults, remarks, "{name}_m")
    assert pairs == [*zip(images, masks, strict=False)]
    assert not faults
    assert remarks.lines == [f"1 {UNUSED.replace('masks', 'mask').replace('are', 'is')}: c_m.png"]


def test_a_missing_mask_and_one_of_two_images_are_faults(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.png"):
        picture(tmp_path / "images" / name)
    picture(tmp_path / "masks" / "a.png")
    faults = Faults()
    assert pair_masks(tmp_path / "images", tmp_path / "masks", faults, Remarks()) == []
    with pytest.raises(BadInput, match="3 bad rows") as refused:
        faults.refuse()
    assert "masks/b.png is not there" in str(refused.value)
    assert "masks/a.png is that of" in str(refused.value)
