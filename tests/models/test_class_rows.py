import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.models.class_rows import ClassRows


def test_plain_layer_has_one_row_a_class() -> None:
    rows = ClassRows("fc")
    assert rows.num_rows(3) == 3
    assert [rows.indices(c, 3) for c in range(3)] == [[0], [1], [2]]
    assert rows.background_indices(3) == []


def test_anchor_major_rows_with_background_worked_by_hand() -> None:
    # Two anchors, one background, two classes: bg x y | bg x y
    rows = ClassRows("score", num_anchors=2, background=1)
    assert rows.num_rows(2) == 6
    assert rows.background_indices(2) == [0, 3]
    assert rows.indices(0, 2) == [1, 4]
    assert rows.indices(1, 2) == [2, 5]


def test_several_rows_a_class_worked_by_hand() -> None:
    # One background and two classes with two rows each, for two anchors:
    # bg bg x x y y | bg bg x x y y
    rows = ClassRows("box", num_anchors=2, background=1, rows_per_class=2)
    assert rows.num_rows(2) == 12
    assert rows.background_indices(2) == [0, 1, 6, 7]
    assert rows.indices(0, 2) == [2, 3, 8, 9]
    assert rows.indices(1, 2) == [4, 5, 10, 11]


@pytest.mark.parametrize("index", [-1, 2])
def test_no_such_class_is_an_error(index: int) -> None:
    with pytest.raises(IndexError, match=rf"fc has 2 classes, and no class {index}"):
        ClassRows("fc").indices(index, 2)


@given(
    num_anchors=st.integers(1, 4),
    background=st.integers(0, 2),
    rows_per_class=st.integers(1, 4),
    num_classes=st.integers(1, 6),
)
def test_rows_are_a_bijection(
    num_anchors: int, background: int, rows_per_class: int, num_classes: int
) -> None:
    rows = ClassRows("fc", num_anchors, background, rows_per_class)
    every = rows.background_indices(num_classes)
    for index in range(num_classes):
        own = rows.indices(index, num_classes)
        assert own == sorted(own)
        assert len(own) == num_anchors * rows_per_class
        every += own
    assert sorted(every) == list(range(rows.num_rows(num_classes)))
