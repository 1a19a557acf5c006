"""The built-in sample, without a download: handwritten digits, and scenes composed of them.

The digits are scikit-learn's copy of the test set of Alpaydin and Kaynak's Optical Recognition of
Handwritten Digits (1998), 1,797 images of 8x8 pixels. Both sources have two stages, so that there
is data that grows: `young` knows eight digits and half of the images, `grown` has everything.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from regrow.data.batches.sampling import counter_seed
from regrow.data.source import Content, Source
from regrow.data.splits import split_of
from regrow.data.targets.labels import Boxes, Item, Mask, pixels_hash
from regrow.errors import BadInput
from regrow.limits import SIDE, refuse_beyond

Stage = Literal["young", "grown"]
NAMES = tuple(str(digit) for digit in range(10))
YOUNG = NAMES[:8]
BACKGROUND = 10  # what a mask holds where no digit is
NUM_SCENES = 10**6  # of a split, which are held in memory
SIDES = (18, 36)  # pixels, of the smallest and the largest digit of a scene
SPLIT_NUMBERS = {"train": 0, "val": 1, "test": 2}


@lru_cache(maxsize=1)
def split_digits() -> dict[str, list[tuple[np.ndarray, str]]]:
    """Return the digits of each split, float32 (8, 8) in [0, 1], with their names."""
    digits = load_digits()
    splits: dict[str, list[tuple[np.ndarray, str]]] = {"train": [], "val": [], "test": []}
    for pixels, label in zip(digits.images.astype(np.uint8), digits.target, strict=True):
        split = split_of(pixels_hash(pixels), 0.15, 0.15)
        splits[split].append((pixels.astype(np.float32) / 16, NAMES[label]))
    return splits


def enlarged(digit: np.ndarray, size: int) -> np.ndarray:
    """Return a digit resized, float32 (size, size) in [0, 1]."""
    image = Image.fromarray(digit)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC)).clip(0, 1)


class Digits(Source):
    """Handwritten digits as 32x32 images, with a label each.

    Args:
        stage: `young` has eight classes and half of their training images; `grown` has all.
        mislabelled: How many training images of the young stage carry a wrong label, which the
            grown stage corrects.
    """

    def __init__(self, stage: Stage = "grown", mislabelled: int = 0) -> None:
        self.stage, self.mislabelled = stage, mislabelled

    def read(self, root: Path | None) -> Content:
        """Return the digits; the root is not used."""
        names = YOUNG if self.stage == "young" else NAMES
        items, wrong = [], self.mislabelled if self.stage == "young" else 0
        for split, digits in split_digits().items():
            for number, (pixels, name) in enumerate(digits):
                is_late = split == "train" and number % 2 == 1
                if name not in names or (self.stage == "young" and is_late):
                    continue
                image = np.repeat((enlarged(pixels, 32) * 255).astype(np.uint8)[..., None], 3, 2)
                label = name
                if split == "train" and wrong > 0:
                    wrong -= 1
                    label = names[(names.index(name) + 1) % len(names)]
                items.append(Item(f"digits/{split}/{number}", image, label, split))
        return Content("labels", names, items)


class DigitScenes(Source):
    """Scenes of several handwritten digits, with boxes or masks from their strokes.

    A split's scenes show only digits of that split. Scene number i of a split is a function of
    seed, split and i alone.

    Args:
        kind: What the labels are.
        stage: `young` has the first half of the scenes, which show eight digits; `grown` has all,
            and every other digit of the second half is one of the two new ones.
        num_train: Number of training scenes.
        num_val: Number of validation scenes.
        num_test: Number of test scenes.
        scene_size: Height and width, in pixels; 36 or more.
        seed: What the scenes are made from.
    """

    def __init__(
        self,
        kind: Literal["boxes", "masks"],
        stage: Stage = "grown",
        num_train: int = 800,
        num_val: int = 150,
        num_test: int = 300,
        scene_size: int = 64,
        seed: int = 0,
    ) -> None:
        if scene_size < SIDES[1]:
            raise BadInput(f"scene_size is {scene_size}; digits need {SIDES[1]} pixels or more")
        refuse_beyond(SIDE, scene_size=scene_size)
        refuse_beyond(NUM_SCENES, num_train=num_train, num_val=num_val, num_test=num_test)
        self.kind, self.stage = kind, stage
        self.counts = {"train": num_train, "val": num_val, "test": num_test}
        self.scene_size, self.seed = scene_size, seed

    def read(self, root: Path | None) -> Content:
        """Return the scenes; the root is not used."""
        items = []
        known = YOUNG if self.stage == "young" else NAMES
        names = {**{int(name): name for name in known}, BACKGROUND: "background"}
        for split, count in self.counts.items():
            shown = count // 2 if self.stage == "young" else count
            for number in range(shown):
                is_young = number < count // 2
                image, boxes, mask = compose(
                    split, number, is_young, size=self.scene_size, seed=self.seed
                )
                target = boxes if self.kind == "boxes" else Mask(mask, names)
                items.append(Item(f"scenes/{split}/{number}", image, target, split))
        classes = ("background", *known) if self.kind == "masks" else known
        return Content(self.kind, classes, items)


def compose(
    split: str, number: int, is_young: bool, *, size: int, seed: int
) -> tuple[np.ndarray, Boxes, np.ndarray]:
    """Compose one scene.

    Args:
        split: Whose digits it shows.
        number: Its number in the split.
        is_young: Show only the young stage's classes.
        size: Height and width, in pixels.
        seed: What it is made from, with split and number.

    Returns:
        The image, uint8 (size, size, 3); the boxes; the digit of each pixel, 10 for none.
    """
    random = np.random.default_rng(counter_seed(seed, SPLIT_NUMBERS[split], number))
    old = [digit for digit in split_digits()[split] if digit[1] in YOUNG]
    new = [digit for digit in split_digits()[split] if digit[1] not in YOUNG]
    paper, ink = _colors(random)
    slope = np.linspace(-1, 1, size, dtype=np.float32) * random.uniform(-20, 20)
    image = np.broadcast_to(paper, (size, size, 3)) + slope[:, None, None]
    mask = np.full((size, size), BACKGROUND, dtype=np.uint8)
    corners: list[tuple[int, int, int, int]] = []
    names: list[str] = []
    for _ in range(int(random.integers(2, 6))):
        digits = old if is_young or random.random() < 0.5 else new
        pixels, name = digits[int(random.integers(len(digits)))]
        side = int(random.integers(SIDES[0], SIDES[1] + 1))
        place = _free_place(random, corners, side, size)
        if place is None:
            continue
        top, left = place
        stroke = enlarged(pixels, side)
        solid = stroke > 0.4
        window = np.s_[top : top + side, left : left + side]
        image[window] += stroke[..., None] * (ink - image[window])
        mask[window][solid] = int(name)
        rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
        corners.append(
            (left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1)
        )
        names.append(name)
    image = image + random.normal(0, 8, image.shape)
    boxes = Boxes(np.array(corners, dtype=np.float32).reshape(-1, 4), tuple(names))
    return image.clip(0, 255).astype(np.uint8), boxes, mask


def _colors(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    paper = random.uniform(20, 110, 3).astype(np.float32)
    ink = random.uniform(150, 250, 3).astype(np.float32)
    return paper, ink


def _free_place(
    random: np.random.Generator, corners: list[Any], side: int, size: int
) -> tuple[int, int] | None:
    """Find a place whose square overlaps no digit's box."""
    for _ in range(20):
        top, left = (int(v) for v in random.integers(0, size - side + 1, 2))
        if all(
            left >= x2 or left + side <= x1 or top >= y2 or top + side <= y1
            for x1, y1, x2, y2 in corners
        ):
            return top, left
    return None
