import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.prune.schedule import (
    alignment,
    counts_of,
    first_length,
    kept_shares,
    legal_count,
    removal_order,
)


def test_linear_steps_remove_the_same_cost_each():
    assert kept_shares(0.5, 5) == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5])


def test_geometric_steps_remove_the_same_share_of_the_rest():
    assert kept_shares(0.25, 2, "geometric") == pytest.approx([0.5, 0.25])


@pytest.mark.parametrize(("keep", "steps", "match"), [(0, 1, "keep is 0"), (1.5, 1, "keep is 1.5")])
def test_shares_out_of_range_are_refused(keep, steps, match):
    with pytest.raises(ValueError, match=match):
        kept_shares(keep, steps)


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="num_steps is 0"):
        kept_shares(0.5, 0)


@pytest.mark.parametrize(
    ("width", "expected"), [(512, 8), (32, 8), (31, 4), (16, 4), (8, 2), (6, 1), (1, 1)]
)
def test_narrow_layers_are_aligned_more_finely(width, expected):
    assert alignment(width, 8) == expected


@given(
    asked=st.integers(0, 100),
    width=st.integers(1, 100),
    per_unit=st.integers(1, 4),
    align=st.sampled_from([1, 2, 4, 8]),
    smallest=st.integers(0, 50),
)
def test_a_legal_count_is_aligned_never_more_than_asked_and_the_largest(
    asked, width, per_unit, align, smallest
):
    def is_legal(count: int) -> bool:
        rest = width - count * per_unit
        return count == 0 or (rest >= max(smallest, 1) and rest % align == 0)

    count = legal_count(asked, width, per_unit, align, smallest)
    assert count == max(n for n in range(asked + 1) if is_legal(n))


def test_rounding_keeps_more_rather_than_less():
    # 64 - 20 = 44 is no multiple of 8; 48 is, 40 would be more than asked for.
    assert legal_count(20, 64, 1, 8, 8) == 16


def test_global_order_is_by_score_and_local_order_by_share():
    scores = [[0.1, 0.2], [0.3, 0.4, 0.5, 0.6]]
    assert removal_order(scores, "global") == [0, 0, 1, 1, 1, 1]
    assert removal_order(scores, "local") == [1, 0, 1, 1, 0, 1]


def test_counts_are_of_the_first_entries():
    assert counts_of([1, 0, 1, 1], 3, 3) == [1, 2, 0]


@given(longest=st.integers(0, 50), first=st.integers(0, 60))
def test_the_first_length_that_is_enough_is_found(longest, first):
    found = first_length(lambda length: length >= first, longest)
    assert found == (first if first <= longest else None)
