"""Run lengths, against masks by hand, faster-coco-eval, and bytes that Label Studio wrote."""

import numpy as np
import pytest
from faster_coco_eval.core import mask as coco_mask

from regrow.data.images.run_lengths import (
    BrushRuns,
    CocoRuns,
    brush_values,
    class_runs,
    uncompressed,
)


def test_runs_of_coco_go_down_the_columns() -> None:
    # Of 2 x 3 pixels by columns: 1 outside, 2 inside, 1 outside, 2 inside.
    drawn = CocoRuns((2, 3), (1, 2, 1, 2)).pixels((2, 3))
    assert drawn.astype(int).tolist() == [[0, 1, 1], [1, 0, 1]]
    assert CocoRuns((2, 3), (0, 6)).pixels((2, 3)).all()


def test_runs_of_each_class_by_hand() -> None:
    # By columns: 1 2 | 1 1 | 2 2.
    found = class_runs(np.array([[1, 1, 2], [2, 1, 2]]))
    assert {name: runs.tolist() for name, runs in found.items()} == {
        1: [0, 1, 1, 2, 2],
        2: [1, 1, 2, 2],
    }
    assert {name: runs.tolist() for name, runs in class_runs(np.array([[7]])).items()} == {
        7: [0, 1]
    }


@pytest.mark.parametrize("seed", range(8))
def test_runs_of_each_class_are_those_of_coco(seed: int) -> None:
    random = np.random.default_rng(seed)
    size = (int(random.integers(1, 40)), int(random.integers(1, 40)))
    mask = random.choice([0, 3, 255, 300], size, p=[0.9, 0.06, 0.03, 0.01]).astype(np.uint16)
    found = class_runs(mask)
    assert sorted(found) == np.unique(mask).tolist()
    for value, runs in found.items():
        given = {"size": list(size), "counts": runs.tolist()}
        encoded = coco_mask.frPyObjects(given, *size)
        assert np.array_equal(coco_mask.decode(encoded), mask == value)
        wanted = coco_mask.encode(np.asfortranarray((mask == value).astype(np.uint8)))
        assert encoded["counts"] == wanted["counts"]


@pytest.mark.parametrize("seed", range(8))
def test_compressed_runs_are_those_of_coco(seed: int) -> None:
    random = np.random.default_rng(seed)
    size = (int(random.integers(1, 90)), int(random.integers(1, 90)))
    wanted = random.random(size) < random.choice([0.02, 0.5, 0.99])
    encoded = coco_mask.encode(np.asfortranarray(wanted.astype(np.uint8)))
    text = encoded["counts"]
    text = text.decode() if isinstance(text, bytes) else text
    assert (CocoRuns(size, text).pixels(size) == wanted).all()


def test_compressed_runs_by_hand() -> None:
    # 6 is `6`: 48 + 6. 40 is 8 and a further group of 1: 48 + 8 + 32 = `X`, then `1`.
    # From the third on differences: 4 - 40 + 40 is not 4; 4 after 6, 40, 6 + 4 = 10.
    assert uncompressed("6X14") == [6, 40, 4]
    assert uncompressed("6X144") == [6, 40, 4, 44]
    assert uncompressed("6X14N") == [6, 40, 4, 38]  # `N` is 30: -2 with its sign


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (CocoRuns((2, 2), (1, 3)), "is of 2x2, the image 3x2"),
        (CocoRuns((2, 3), (1, 3)), "do not fill the image"),
        (CocoRuns((2, 3), (7, -1)), "do not fill the image"),
        (CocoRuns((2, 3), ()), "do not fill the image"),
        (CocoRuns((2, 3), "X"), "end within one"),
        (CocoRuns((2, 3), "\x00"), "none of COCO's"),
        (CocoRuns((2, 3), "o" * 20), "none of COCO's"),
    ],
)
def test_runs_that_are_none_are_refused(runs: CocoRuns, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        runs.pixels((2, 3))


# What label-studio-sdk 2.1.2, `converter.brush.encode_rle`, writes for the mask below.
PAINTED = [0, 0, 0, 60, 57, 27, 252, 224, 19, 255, 206, 1, 111, 255, 9, 128, 71, 254]
MASK = [[0, 0, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 1]]


def test_what_label_studio_has_painted_is_read() -> None:
    assert BrushRuns(bytes(PAINTED)).pixels((3, 5)).astype(int).tolist() == MASK


def bits(*numbers: tuple[int, int]) -> bytes:
    text = "".join(f"{value:0{width}b}" for value, width in numbers)
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")


HEADER = ((8, 32), (7, 5), (2, 4), (3, 4), (4, 4), (5, 4))


def test_values_that_do_not_repeat_are_read_one_by_one() -> None:
    # Three values one by one: the count less one in 3 bits, the first of four sizes.
    # Then a run of five: in 4 bits, the second size.
    data = bits(
        *HEADER, (0, 1), (0, 2), (2, 3), (9, 8), (8, 8), (7, 8), (1, 1), (1, 2), (4, 4), (6, 8)
    )
    assert brush_values(data, 8).tolist() == [9, 8, 7, 6, 6, 6, 6, 6]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bits(*HEADER, (1, 1), (1, 2), (8, 4), (6, 8)), "do not fill the image"),
        (bits(*HEADER, (1, 1), (1, 2), (4, 4), (6, 8)), "end too early"),
        (b"", "end too early"),
        (bits((9, 32)), "another size"),
    ],
)
def test_strokes_that_are_none_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        brush_values(data, 8)


def test_strokes_of_another_image_are_refused() -> None:
    with pytest.raises(ValueError, match="painted on an image of another size"):
        BrushRuns(bytes(PAINTED)).pixels((4, 5))
