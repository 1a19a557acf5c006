"""What lies beside a data set that no annotation lists."""

from pathlib import Path

import numpy as np
from PIL import Image

from regrow.data.checks.remarks import Remarks
from regrow.data.formats.unlisted import UNLISTED, count_unlisted, files_of
from regrow.data.targets.labels import Item, Mask


def test_files_of_an_item_are_its_image_and_mask() -> None:
    assert files_of(Item("a", Path("a.png"), "ant")) == [Path("a.png")]
    mask = Mask(Path("m.png"), {})
    assert files_of(Item("a", Path("a.png"), mask)) == [Path("a.png"), Path("m.png")]
    assert files_of(Item("a", np.zeros((1, 1, 3)), Mask(np.zeros((1, 1)), {}))) == []


def test_images_that_are_not_used_are_counted(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "notes.txt"):
        Image.new("L", (2, 2)).save(tmp_path / name, format="PNG")
    remarks = Remarks()
    count_unlisted(tmp_path, [tmp_path / "a.png"], remarks, tmp_path.parent)
    count_unlisted(tmp_path / "nothing", [], remarks)
    assert remarks.to_dict() == {UNLISTED: {"count": 1, "first": [f"{tmp_path.name}/b.png"]}}
