"""Test images that were seen before are found by their pixels, and refused by name."""

from pathlib import Path

import pytest

from given import data, picture
from regrow.data.module import GrowingData
from regrow.data.targets.labels import Item
from regrow.errors import BadInput
from regrow.models.checkpoint import save
from regrow.models.classification import Classification
from regrow.models.record.provenance import Provenance
from regrow.pipelines.seen import refuse_seen, seen_before, seen_in_words


def of(**pictures: list[int]) -> GrowingData:
    """Return data with the pictures of these numbers in each split, named after split and place."""
    items = [
        Item(f"{split}{place}", picture(number), "ab"[place % 2], split)
        for split, numbers in pictures.items()
        for place, number in enumerate(numbers)
    ]
    return data(items)


def network(file: Path, trained_on: GrowingData | None) -> Path:
    """Write a checkpoint that remembers its data, or none."""
    task = Classification(["a", "b"], (16, 16), net_args={"width": 4})
    if trained_on is not None:
        task.provenance = Provenance(manifest=trained_on.manifest().to_dict())
    save(file, task)
    return file


def test_test_images_that_train_or_validate_here_are_named() -> None:
    assert seen_before(of(train=[0, 1], val=[2, 3], test=[3, 4, 1, 5]), []) == ["test0", "test2"]


def test_what_a_network_trained_on_counts_and_what_it_was_tested_on_does_not(
    tmp_path: Path,
) -> None:
    now = of(train=[0, 1], val=[2, 3], test=[10, 11, 12, 13, 14])
    one = network(tmp_path / "one.ckpt", of(train=[10, 20], val=[12, 21], test=[13, 22]))
    other = network(tmp_path / "other.ckpt", of(train=[14, 20], val=[21, 22], test=[10, 23]))
    assert seen_before(now, [one]) == ["test0", "test2"]
    assert seen_before(now, [other]) == ["test4"]
    assert seen_before(now, [one, other]) == ["test0", "test2", "test4"]
    # A network that remembers no data can say nothing.
    assert seen_before(now, [network(tmp_path / "none.ckpt", None)]) == []


def test_the_first_five_are_named() -> None:
    now = of(train=[0, 1], val=[2, 3], test=[*range(10, 18)])
    names = [f"test{place}" for place in range(6)]
    said = (
        "of the 8 test images, on which the budget is decided, are also training or validation "
        "images (test0, test1, test2, test3, test4"
    )
    assert seen_in_words(names[:5], now) == f"5 {said})"
    assert seen_in_words(names, now) == f"6 {said}, ...)"


def test_a_budget_is_not_decided_on_images_that_were_seen() -> None:
    now = of(train=[0, 1], val=[2, 3], test=[3, 4])
    refuse_seen([], now)
    with pytest.raises(BadInput) as refused:
        refuse_seen(seen_before(now, []), now)
    assert str(refused.value) == (
        "1 of the 2 test images, on which the budget is decided, are also training or validation "
        "images (test0): take them out of the test split, or accept them with --accept_seen true"
    )
