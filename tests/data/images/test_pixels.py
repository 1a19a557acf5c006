"""Memory for resized images and masks."""

from pathlib import Path

import numpy as np
from PIL import Image

from regrow.data.images.pixels import PixelStore
from regrow.data.targets.labels import Item, Mask


def test_what_was_read_once_is_not_read_again(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.new("RGB", (4, 4), (9, 8, 7)).save(file)
    numbers = np.arange(16, dtype=np.uint8).reshape(4, 4)
    item = Item("a", file, Mask(numbers, {n: str(n) for n in range(16)}))
    kept = PixelStore(10**6).place((4, 4), (2, 2), tuple(range(16)))
    assert kept.num_bytes == 0
    image, mask = kept.read(item, (2, 2))
    assert image[:, 0, 0].tolist() == [9, 8, 7]
    # Of each two by two the pixel whose centre is nearest, as NEAREST_EXACT takes it.
    assert mask is not None
    assert mask.tolist() == [[5, 7], [13, 15]]
    assert kept.num_bytes == 3 * 4 + 4
    file.unlink()
    again, numbers_again = kept.read(item, (2, 2))
    assert (again == image).all()
    assert numbers_again is not None
    assert (numbers_again == mask).all()


def test_a_store_gives_out_no_more_than_it_has() -> None:
    store = PixelStore(3 * 4 + 1)
    assert store.place((4, 4), (2, 2), None).image is not None
    assert store.place((4, 4), (2, 2), None).image is None
    store = PixelStore(100)
    assert store.place((9, 9), (9, 9), None).image is None
    assert store.place((1, 1), (1, 1), None).image is None  # none after one that did not fit


def test_large_numbers_of_masks_take_more_room() -> None:
    kept = PixelStore(10**6).place((4, 4), (2, 2), (0, 300))
    assert kept.mask is not None
    assert kept.mask.dtype == np.int32
