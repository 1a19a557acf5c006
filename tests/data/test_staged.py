from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regrow.data.formats import ImageFolder
from regrow.data.module import GrowingData
from regrow.data.source import Content, Source
from regrow.data.staged import CORRUPTIONS, Staged
from regrow.data.targets.labels import VOID, Boxes, Item, Mask
from regrow.errors import BadInput


class Given(Source):
    """A source of items that the test has made."""

    def __init__(self, kind, classes, items) -> None:
        self.content = Content(kind, classes, items)

    def read(self, root: Path | None) -> Content:
        return self.content


def picture(value: int) -> np.ndarray:
    return np.full((8, 8, 3), value, dtype=np.uint8)


def labelled(count: int = 60) -> Given:
    names = ["cat", "dog", "owl"]
    items = [
        Item(f"{n}.png", picture(4 * (n % 60)), names[n % 3], ("train", "val", "test")[n // 3 % 3])
        for n in range(count)
    ]
    return Given("labels", names, items)


def names_of(staged: Staged) -> list[str]:
    return [item.name for item in staged.read(None).items]


def test_a_late_class_comes_with_its_images() -> None:
    before = Staged(labelled(), "before", late_classes=["owl"]).read(None)
    assert list(before.classes) == ["cat", "dog"]
    assert {item.target for item in before.items} == {"cat", "dog"}
    assert len(before.items) == 40
    after = Staged(labelled(), late_classes=["owl"]).read(None)
    assert list(after.classes) == ["cat", "dog", "owl"]
    assert len(after.items) == 60


def test_a_share_is_late_in_both_stages_alike() -> None:
    source = labelled(3000)
    early = names_of(Staged(source, "before", late_share=0.3))
    # Of 3,000 draws the standard deviation is 25.
    assert len(early) == pytest.approx(2100, abs=130)
    after = Staged(source, "after", late_share=0.3, corruption="dusk").read(None)
    changed = {item.name for item in after.items if callable(item.image)}
    assert changed == set(names_of(Staged(source))) - set(early)


def test_names_and_groups_are_late_together() -> None:
    early = names_of(Staged(labelled(), "before", late_names="^1"))
    assert early == [f"{n}.png" for n in range(60) if not f"{n}".startswith("1")]
    items = [Item(f"{n}.png", picture(n), "cat", None, f"{n // 20}") for n in range(200)]
    kept = names_of(Staged(Given("labels", ["cat"], items), "before", late_share=0.5))
    by_group = [sum(f"{n}.png" in kept for n in range(20 * g, 20 * g + 20)) for g in range(10)]
    assert set(by_group) == {0, 20}


def test_early_images_may_lack_the_late_labels() -> None:
    boxes = Boxes(np.array([[0, 0, 2, 2], [3, 3, 6, 6]], dtype=np.float32), ("cat", "owl"))
    mask = np.array([[0, 1], [2, VOID]], dtype=np.uint8)
    names = {0: "cat", 1: "owl", 2: "dog"}
    given = Given("boxes", ["cat", "owl"], [Item("a", picture(1), boxes)])
    (item,) = Staged(given, "before", late_classes=["owl"], unlabelled=True).read(None).items
    assert isinstance(item.target, Boxes)
    assert item.target.classes == ("cat",)
    assert item.target.xyxy.tolist() == [[0, 0, 2, 2]]
    given = Given("masks", ["cat", "owl", "dog"], [Item("a", picture(1), Mask(mask, names))])
    (item,) = Staged(given, "before", late_classes=["owl"], unlabelled=True).read(None).items
    assert isinstance(item.target, Mask)
    assert item.target.names == {0: "cat", 2: "dog"}
    assert item.target.void == {1}
    # Shown in the mask, so that without the option the image itself is late.
    with pytest.raises(BadInput, match="all images are late"):
        Staged(given, "before", late_classes=["owl"]).read(None)


def test_the_same_images_are_drawn_for_both_stages() -> None:
    source = labelled(300)
    early = Staged(source, "before", late_share=0.3, max_images=20).read(None).items
    whole = Staged(source, "after", late_share=0.3, max_images=20).read(None).items
    assert len(whole) == 60
    assert {item.name for item in early} < {item.name for item in whole}


def test_dusk_is_darker_and_warmer_and_noise_has_its_deviation() -> None:
    grey = np.full((64, 64, 3), 128, dtype=np.uint8)
    dusk = CORRUPTIONS["dusk"](grey, 3).astype(float)
    assert dusk.mean((0, 1)) == pytest.approx([128 * 0.55 * c for c in (1, 0.92, 0.8)], abs=1)
    noisy = CORRUPTIONS["noise"](grey, 2).astype(float) - 128
    assert noisy.std() == pytest.approx(16, rel=0.05)
    assert abs(noisy.mean()) < 1
    assert (CORRUPTIONS["noise"](grey, 2) == CORRUPTIONS["noise"](grey, 2)).all()


def test_blur_spreads_a_point_by_its_radius() -> None:
    point = np.zeros((101, 101, 3), dtype=np.uint8)
    point[50, 50] = 255
    point[45:56, 45:56] = 255
    blurred = CORRUPTIONS["blur"](point, 5)[..., 0].astype(float)
    assert blurred.sum() == pytest.approx(point[..., 0].sum(), rel=0.02)
    place = np.arange(101) - 50
    spread = (blurred.sum(0) * place**2).sum() / blurred.sum()
    # The variance of an 11-pixel square, and that of a Gaussian of 3 pixels.
    assert spread == pytest.approx(10 + 3.03**2, rel=0.1)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(BadInput, match="late_classes names bear; the classes are cat, dog, owl"):
        Staged(labelled(), late_classes=["bear"]).read(None)
    with pytest.raises(BadInput, match="late_share is 1"):
        Staged(labelled(), late_share=1)
    with pytest.raises(BadInput, match="severity is 6"):
        Staged(labelled(), severity=6)
    with pytest.raises(BadInput, match="is not a pattern"):
        Staged(labelled(), late_names="(")


def test_late_images_alone(tmp_path: Path) -> None:
    for name in ("cat", "owl"):
        for split in ("train", "val", "test"):
            for n in range(4):
                file = tmp_path / split / name / f"{n}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                value = 7 * n + 40 * (name == "owl") + 90 * (split == "val") + 13
                value += 150 * (split == "test")
                Image.fromarray(picture(value % 256)).save(file)
    stages = [
        GrowingData(Staged(ImageFolder(), stage, late_classes=["owl"]), tmp_path, size=(8, 8))
        for stage in ("before", "after")
    ]
    late = stages[1].later_than(stages[0])
    assert {item.target for item in late.snapshot.items} == {"owl"}
    assert [len(late.snapshot.indices(split)) for split in ("train", "val", "test")] == [4, 4, 4]
    with pytest.raises(BadInput, match="no train image that"):
        stages[1].later_than(stages[1])


def test_validation_images_stay_where_none_is_late(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "train", "val", "test")):
        for name in ("cat", "owl"):
            file = tmp_path / split / name / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(50 * number + (name == "owl"))).save(file)
    before, after = (
        GrowingData(Staged(ImageFolder(), stage, late_names="^train/.*/1"), tmp_path, size=(8, 8))
        for stage in ("before", "after")
    )
    names = {item.name for item in after.later_than(before).snapshot.items}
    assert names == {"train/cat/1.png", "train/owl/1.png", "val/cat/2.png", "val/owl/2.png"}
