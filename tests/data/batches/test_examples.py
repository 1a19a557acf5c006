"""The examples of a split, and their batches."""

import numpy as np
import torch
from torchvision.transforms import v2

from regrow.data.batches.examples import Examples, collate, make_loader
from regrow.data.batches.sampling import EpochSampler
from regrow.data.images.pixels import Pixels
from regrow.data.targets.labels import DIFFICULT, Boxes, Item, Mask, Target


def picture(value: int) -> np.ndarray:
    return np.full((4, 6, 3), value, np.uint8)


def examples(targets: list[Target], augment: tuple[v2.Transform, ...] = (), **known) -> Examples:
    items = [Item(f"{n}", picture(n), target, **known) for n, target in enumerate(targets)]
    rows = {"a": 0, "b": 2}
    return Examples(items, [Pixels((4, 6))] * len(items), rows, (4, 6), augment, 0, 3)


def test_an_example_is_an_image_and_the_row_of_its_class() -> None:
    images, labels = collate([examples(["a", "b"])[0, n] for n in (1, 0)])
    assert images.tolist() == [[[[1] * 6] * 4] * 3, [[[0] * 6] * 4] * 3]
    assert labels.tolist() == [2, 0]


def test_boxes_stay_mappings_and_ignored_ones_stand_apart() -> None:
    corners = np.array([[0, 0, 6, 4], [1, 1, 2, 2]], np.float32)
    given = examples([Boxes(corners, ("b", "a"), (0, DIFFICULT)), Boxes(corners[:1], ("a",))])
    _, (first, second) = collate([given[0, 0], given[0, 1]])
    assert (first["boxes"].tolist(), first["labels"].tolist()) == ([[0, 0, 6, 4]], [2])
    assert first["ignored_boxes"].tolist() == [[1, 1, 2, 2]]
    assert second["ignored_boxes"].shape == (0, 4)


def test_partial_labels_say_which_rows_they_know() -> None:
    mask = Mask(np.zeros((4, 6), np.uint8), {0: "a"})
    _, (target,) = collate([examples([mask], known=frozenset({"a"}))[0, 0]])
    assert target["known"].tolist() == [True, True, False]
    assert target["mask"].tolist() == [[0] * 6] * 4
    _, masks = collate([examples([mask])[0, 0]])
    assert masks.shape == (1, 4, 6)


def test_copies_of_an_image_in_an_epoch_are_augmented_each_in_its_own_way() -> None:
    given = examples(["a"], (v2.GaussianNoise(sigma=0.5),))
    first, again, copy = (given[key][0] for key in ((0, 0), (0, 0), (0, 0, 1)))
    assert torch.equal(first, again)
    assert not torch.equal(first, copy)


def test_a_small_last_batch_is_left_out_of_training_alone() -> None:
    given = examples(["a"] * 5)
    for shuffle, sizes in ((True, [2, 2]), (False, [2, 2, 1])):
        loader = make_loader(given, 2, 0, EpochSampler(5, shuffle=shuffle))
        assert [len(labels) for _, labels in loader] == sizes
    few = make_loader(given, 8, 0, EpochSampler(5, shuffle=True))
    assert [len(labels) for _, labels in few] == [5]
