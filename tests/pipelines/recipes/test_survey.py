"""What a folder holds, as far as lists and headers tell."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regrow.data.module import GrowingData
from regrow.data.source import Content, Source
from regrow.data.targets.labels import DIFFICULT, Boxes, Item
from regrow.errors import BadInput
from regrow.pipelines.recipes.survey import Machine, survey


class Given(Source):
    """Items held in memory."""

    def __init__(self, items: Sequence[Item], kind: str = "labels") -> None:
        self.items, self.kind = items, kind

    def read(self, root: Path | None) -> Content:
        return Content(self.kind, ["a", "b"], self.items)  # type: ignore[arg-type]


def picture(height: int, width: int) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def test_images_splits_and_classes_are_counted() -> None:
    items = [Item(f"{n}", picture(4, 6), "ab"[n % 3 == 0]) for n in range(9)]
    items += [Item("test", picture(4, 6), "a", "test")]
    found = survey(GrowingData(Given(items)))
    assert found.num_images == {"test": 1, "open": 9}
    assert found.num_shown == {"a": 7, "b": 3}
    assert (found.kind, found.classes, found.size) == ("labels", ("a", "b"), (4, 6))
    assert (found.total, found.num_training) == (10, 9)
    assert str(found) == (
        "10 images (test 1, no split 9), 6x4 pixels in the median, labelled as 2 classes (a, b)"
    )
    assert survey(GrowingData(Given(items), max_images=2)).num_images == {"test": 1, "open": 2}


def test_sizes_are_read_from_headers_alone(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # stored on its side
    items = []
    for number, (height, width) in enumerate([(10, 20), (10, 20), (50, 60)]):
        file = tmp_path / f"{number}.png"
        Image.fromarray(picture(width, height)).save(file, exif=exif)
        content = file.read_bytes()
        place = content.index(b"IDAT")
        file.write_bytes(content[: place + 4])  # no pixels follow
        items.append(Item(str(number), file, "a"))
    gone = [Item("gone", tmp_path / "gone.png", "a")]
    assert survey(GrowingData(Given([*items, *gone]))).size == (10, 20)
    with pytest.raises(BadInput, match="gone: cannot be read as an image, nor others"):
        survey(GrowingData(Given(gone)))


def test_sides_of_objects_are_shares_of_those_of_their_image() -> None:
    corners = np.array([[0, 0, 10, 10], [0, 0, 40, 20], [0, 0, 1, 1]], np.float32)
    target = Boxes(corners, ("a", "b", "a"), (0, 0, DIFFICULT))
    empty = Boxes(np.zeros((0, 4), np.float32), ())
    items = [Item("0", picture(40, 100), target), Item("1", picture(40, 100), empty)]
    found = survey(GrowingData(Given(items, "boxes")))
    # Sides 0.1 x 0.25 and 0.4 x 0.5 of the image; quantiles 0.1 and 0.9 of two values.
    assert found.object_sides == pytest.approx((0.1 + 0.1 * 0.3, 0.25 + 0.9 * 0.25))
    assert found.num_shown == {"a": 1, "b": 1}
    assert survey(GrowingData(Given(items[1:], "boxes"))).object_sides is None


def test_a_folder_without_images_is_refused() -> None:
    with pytest.raises(BadInput, match="no images with labels in it"):
        survey(GrowingData(Given([])))


def test_the_machine_at_hand_has_a_core_and_memory() -> None:
    machine = Machine.at_hand()
    assert machine.num_cores >= 1
    assert machine.memory > 2**28
    assert str(Machine(False, 2, 2**33)) == "CPU, 2 cores, 8 GiB of memory"
