import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.errors import BadInput
from regrow.incremental.label_map import LabelMap

NAMES = st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1)


def rows(label_map: LabelMap) -> list[int | None]:
    """Return for each new class the old class it continues, or None where it is new."""
    sources = {new: old for old, new in label_map.kept}
    return [sources.get(index) for index in range(len(label_map.new))]


def test_classes_are_matched_by_name_not_by_position() -> None:
    label_map = LabelMap(["cat", "dog"], ["ant", "dog", "cat"])
    assert label_map.kept == [(0, 2), (1, 1)]
    assert label_map.added == ["ant"]
    assert rows(label_map) == [None, 1, 0]


def test_merged_keeps_the_old_order_and_appends_new_classes() -> None:
    label_map = LabelMap.merged(["dog", "cat"], ["ant", "cat", "bee", "dog"])
    assert label_map.new == ["dog", "cat", "ant", "bee"]
    assert rows(label_map) == [0, 1, None, None]
    assert list(label_map.old_names) == ["dog", "cat"]


def test_renamed_class_keeps_its_place() -> None:
    label_map = LabelMap.merged(["dog", "cat"], ["hound", "cat"], renamed={"dog": "hound"})
    assert label_map.new == ["hound", "cat"]
    assert rows(label_map) == [0, 1]
    assert label_map.old_names == {"hound": "dog", "cat": "cat"}


def test_two_classes_can_swap_names() -> None:
    label_map = LabelMap.merged(["a", "b"], ["a", "b"], renamed={"a": "b", "b": "a"})
    assert label_map.new == ["b", "a"]
    assert rows(LabelMap(["a", "b"], ["a", "b"], {"a": "b", "b": "a"})) == [1, 0]


def test_removed_class_is_given_up() -> None:
    label_map = LabelMap.merged(["a", "b", "c"], ["c", "d", "a"], removed=["b"])
    assert label_map.new == ["a", "c", "d"]
    assert rows(label_map) == [0, 2, None]


def test_removed_name_may_return_as_a_new_class() -> None:
    label_map = LabelMap.merged(["a", "b"], ["a", "b"], removed=["b"])
    assert label_map.added == ["b"]
    assert rows(label_map) == [0, None]


def test_missing_class_lists_both_sides_and_the_way_out() -> None:
    with pytest.raises(BadInput) as error:
        LabelMap.merged(["cat", "dog"], ["hound", "cat"])
    text = str(error.value)
    assert "no class 'dog'" in text
    assert "checkpoint: 'cat', 'dog'" in text
    assert "data: 'hound', 'cat' (new: 'hound')" in text
    assert "renamed" in text
    assert "removed" in text
    assert "\n" not in text
    with pytest.raises(BadInput, match="no class 'dog'"):
        LabelMap(["cat", "dog"], ["hound", "cat"])


@pytest.mark.parametrize(
    ("old", "new", "renamed", "removed", "message"),
    [
        (["a", "a"], ["a"], {}, [], "checkpoint must differ, but 'a' stands there twice"),
        (["a"], ["a", "b", "b"], {}, [], "data must differ, but 'b' stands there twice"),
        (["a", "b"], ["b"], {"a": "b"}, [], "after renaming must differ, but 'b'"),
        (["a"], ["b"], {"x": "b"}, [], "renamed names 'x', but the checkpoint has .*'a'"),
        (["a"], ["a"], {}, ["x"], "removed names 'x', but the checkpoint has .*'a'"),
        (["a", "b"], ["a"], {"b": "c"}, [], r"the data has no class 'b' \(renamed 'c'\) of"),
        (["a"], ["b"], {"a": "b"}, ["a"], "'a' cannot be both renamed and removed"),
    ],
)
def test_contradictions_are_named(
    old: list[str], new: list[str], renamed: dict[str, str], removed: list[str], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        LabelMap(old, new, renamed, removed)
    with pytest.raises(BadInput, match=message):
        LabelMap.merged(old, new, renamed, removed)


@given(old=NAMES, extra=NAMES, data=st.data())
def test_rows_are_a_bijection_on_kept_names(
    old: list[str], extra: list[str], data: st.DataObject
) -> None:
    new = data.draw(st.permutations(sorted({*old, *extra})))
    label_map = LabelMap(old, new)
    for index, name in enumerate(new):  # by brute force, name by name
        source = rows(label_map)[index]
        assert source == (old.index(name) if name in old else None)
    assert sorted(o for o, _ in label_map.kept) == list(range(len(old)))
    assert set(label_map.added) == set(new) - set(old)
    assert label_map.is_identity == (old == new)
