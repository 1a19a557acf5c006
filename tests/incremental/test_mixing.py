"""How often images come, by weights worked by hand."""

import math
from typing import Any

import pytest

from regrow.data.batches.mixture import Mixture
from regrow.errors import BadInput
from regrow.incremental.mixing import Mixing

# Two old images and one that the old network was not trained on, of a class new to it.
SHOWN: list[set[str]] = [{"a"}, {"b"}, {"c"}]
IS_NEW = [False, False, True]


def shares(weights: Any) -> list[float]:
    return (weights / weights.sum()).tolist()


def mixed(mixing: Mixing, shown: Any = SHOWN, is_new: Any = IS_NEW, **options: Any) -> Mixture:
    options = {"new_classes": ["c"], "num_epochs": 8} | options
    found = mixing.mixture(shown, is_new, **options)
    assert found is not None
    return found


def test_images_of_new_classes_come_more_often_at_first() -> None:
    found = mixed(Mixing())
    # By default twice as often, in the first quarter of the epochs.
    assert shares(found.first) == pytest.approx([1 / 4, 1 / 4, 2 / 4])
    assert found.num_first == 2
    assert shares(found.weights) == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(("num_epochs", "num_first"), [(1, 0), (2, 1), (3, 2), (10, 6)])
def test_the_first_epochs_are_a_share_of_the_run(num_epochs: int, num_first: int) -> None:
    mixing = Mixing(boosted=0.6, new_share=0.9)
    assert mixed(mixing, num_epochs=num_epochs).num_first == num_first or num_epochs == 1
    assert mixed(mixing, num_epochs=num_epochs).num_first == round(0.6 * num_epochs)


def test_new_images_make_up_the_share_asked_for() -> None:
    shown = [{"a"}] * 6
    found = mixed(Mixing(new_share=0.25), shown, [True] * 4 + [False] * 2)
    # A quarter among four, three quarters among two.
    assert shares(found.weights) == pytest.approx([1 / 16] * 4 + [3 / 8] * 2)
    assert found.num_first == 0


def test_new_images_and_images_of_new_classes_are_told_apart() -> None:
    # A new image of an old class is no image of a new class: the boost is for the last alone.
    shown, is_new = [{"a"}, {"a"}, {"c"}], [False, True, True]
    found = mixed(Mixing(new_share=0.5, boost=3), shown, is_new)
    assert shares(found.weights) == pytest.approx([2 / 4, 1 / 4, 1 / 4])
    assert shares(found.first) == pytest.approx([2 / 6, 1 / 6, 3 / 6])


@pytest.mark.parametrize("is_new", [[True] * 3, [False] * 3])
def test_a_share_of_new_images_needs_old_and_new_ones(is_new: list[bool]) -> None:
    assert Mixing(new_share=0.9, boost=1).mixture(SHOWN, is_new, ["c"], 8) is None


def test_balanced_classes_come_equally_often() -> None:
    shown = [{"a"}, {"a"}, {"a"}, {"b"}]
    found = mixed(Mixing(balance=True), shown, [False] * 4)
    assert shares(found.weights) == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])


def test_a_memory_is_balanced_if_nobody_says_otherwise() -> None:
    shown, is_new = [{"a"}, {"a"}, {"b"}], [True, True, False]
    found = mixed(Mixing(), shown, is_new, new_classes=[], has_memory=True)
    assert shares(found.weights) == pytest.approx([1 / 4, 1 / 4, 1 / 2])
    assert Mixing().mixture(shown, is_new, [], 8) is None
    assert Mixing(balance=False).mixture(shown, is_new, [], 8, has_memory=True) is None


def test_balance_share_and_boost_multiply() -> None:
    shown, is_new = [{"a"}, {"a"}, {"b"}, {"c"}], [False, False, False, True]
    found = mixed(Mixing(new_share=0.2, boost=5, balance=True), shown, is_new)
    # Balanced 1/2, 1/2, 1 of the old, which are 0.8 together; then 5 times 0.2.
    assert shares(found.weights) == pytest.approx([0.2, 0.2, 0.4, 0.2])
    assert shares(found.first) == pytest.approx([0.2 / 1.8, 0.2 / 1.8, 0.4 / 1.8, 1 / 1.8])


@pytest.mark.parametrize(
    ("mixing", "new_classes", "num_epochs"),
    [
        (Mixing(), [], 8),  # no new class
        (Mixing(), ["other"], 8),  # one that no image shows
        (Mixing(boost=1), ["c"], 8),
        (Mixing(boosted=0), ["c"], 8),
        (Mixing(), ["c"], 1),  # a quarter of an epoch is none
        (Mixing(balance=True), [], 8),  # they come equally often anyhow
        (Mixing(), ["a", "b", "c"], 8),  # all come twice as often
    ],
)
def test_nothing_is_mixed_where_each_image_comes_once(
    mixing: Mixing, new_classes: list[str], num_epochs: int
) -> None:
    assert mixing.mixture(SHOWN, IS_NEW, new_classes, num_epochs) is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"new_share": 0}, r"mixing\.new_share is 0, it must lie in \(0, 1\), or null"),
        ({"new_share": 1}, r"mixing\.new_share is 1"),
        ({"new_share": math.nan}, r"mixing\.new_share is nan"),
        ({"boost": 0.9}, r"mixing\.boost is 0\.9, it must be 1 or more"),
        ({"boost": math.inf}, r"mixing\.boost is inf"),
        ({"boost": math.nan}, r"mixing\.boost is nan"),
        ({"boosted": -0.1}, r"mixing\.boosted is -0\.1, it must lie in \[0, 1\]"),
        ({"boosted": 1.1}, r"mixing\.boosted is 1\.1"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Mixing(**values)  # type: ignore[arg-type]


def test_the_balance_of_the_data_decides_how_far_classes_are_balanced() -> None:
    shown = [{"a"}] * 4 + [{"b"}]
    for mixing in (Mixing(), Mixing(balance=True), Mixing(balance=False)):
        mixture = mixing.mixture(shown, [True] * 5, [], 10, has_memory=True, exponent=0.5)
        assert mixture is not None
        assert mixture.weights.tolist() == pytest.approx([0.5] * 4 + [1.0])
