import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.prune.schedule import (
    Pace,
    alignment,
    counts_of,
    first_length,
    kept_share,
    legal_count,
    removal_order,
)


def test_the_way_removes_evenly():
    assert [kept_share(0.5, done) for done in (0, 0.2, 0.6, 1)] == pytest.approx([1, 0.9, 0.7, 0.5])


def walk(used: list[float], num_steps: int, **options: bool) -> tuple[list[float], bool]:
    """Return where each step ends, and whether the pace gave up."""
    pace, ends = Pace.begin(num_steps), []
    for share in used:
        ends.append(pace.next)
        after = pace.after(share, **options)
        if after is None:
            return ends, True
        pace = after
        if pace.done == 1:
            break
    return ends, False


def test_steps_of_equal_size_end_exactly_at_the_target():
    ends, _ = walk([0.0] * 9, 3, adapts=False)
    assert ends == pytest.approx([1 / 3, 2 / 3, 1])
    assert ends[-1] == 1


def test_steps_grow_to_twice_their_size_while_the_score_holds():
    # Sizes 0.1, 0.15, 0.2, 0.2 and 0.2; the rest is less than the next one.
    ends, _ = walk([0.0] * 9, 10)
    assert ends == pytest.approx([0.1, 0.25, 0.45, 0.65, 0.85, 1])


def test_steps_stay_in_the_middle_of_the_budget_and_shrink_near_its_end():
    ends, _ = walk([0.5, 0.7, 0.8, 0.9, 0.9, 0.9], 5)
    # 0.2, 0.2, then halves: 0.1, 0.05, and no less than a quarter of the first.
    assert ends == pytest.approx([0.2, 0.4, 0.5, 0.55, 0.6, 0.65])


def test_a_step_beyond_the_budget_is_tried_at_half_its_size_until_that_is_too_small():
    ends, gave_up = walk([0.5, 2.0, math.inf, math.nan], 5)
    assert ends == pytest.approx([0.2, 0.4, 0.3, 0.25])
    assert gave_up
    # After a smaller step that holds, it goes on from there.
    ends, gave_up = walk([2.0, 0.5, 2.0, 2.0, 2.0], 5)
    assert ends == pytest.approx([0.2, 0.1, 0.2, 0.15])
    assert gave_up


def test_without_adapting_the_first_broken_step_is_the_last():
    assert walk([0.5, 1.01], 5, adapts=False) == (pytest.approx([0.2, 0.4]), True)
    assert walk([1.0, 1.0], 2, adapts=False) == ([0.5, 1.0], False)


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match="num_steps is 0"):
        Pace.begin(0)


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
    # The first has lost two of its four units before, the second none: it is behind.
    assert removal_order(scores, "local", [4, 4]) == [1, 1, 0, 1, 0, 1]


def test_counts_are_of_the_first_entries():
    assert counts_of([1, 0, 1, 1], 3, 3) == [1, 2, 0]


@given(longest=st.integers(0, 50), first=st.integers(0, 60))
def test_the_first_length_that_is_enough_is_found(longest, first):
    found = first_length(lambda length: length >= first, longest)
    assert found == (first if first <= longest else None)
