"""Facets come from attributes and from the picture; what has too many values is none."""

from itertools import permutations
from typing import Any

import pytest

from regrow.monitor.bias.facets import (
    MOST_CUSTOM,
    MOST_VALUES,
    Seen,
    Subject,
    object_size_of,
    shape_of,
    terciles,
)

EDGES = {"brightness": (0.3, 0.6), "object_size": (0.1, 0.2)}


def _subject(**own: Any) -> Subject:
    return Subject("boxes", ("a", "b"), "b", **({"edges": EDGES} | own))


def test_a_picture_has_values_of_all_its_facets() -> None:
    features = {"brightness": 0.3, "aspect": 1.5, "contrast": 0.1}
    found = _subject().values(features, {"camera": "3", "brightness": "mine"}, 0.25)
    assert found == {
        "camera": "3", "brightness": "dark", "aspect": "landscape", "object_size": "large"
    }  # fmt: skip
    assert _subject().values({"brightness": None}, {}) == {}
    assert _subject(edges={}).values({"brightness": 0.5}, {}) == {}


@pytest.mark.parametrize(
    ("light", "value"), [(0.0, "dark"), (0.31, "medium"), (0.6, "medium"), (0.61, "light")]
)
def test_terciles_are_words(light: float, value: str) -> None:
    assert _subject().values({"brightness": light}, {}) == {"brightness": value}


def test_only_facets_asked_for_are_looked_at() -> None:
    own = _subject(chosen=("camera",))
    assert own.values({"brightness": 0.5, "aspect": 1.0}, {"camera": "3", "site": "x"}) == {
        "camera": "3"
    }
    assert not own.needs_pixels
    assert _subject().needs_pixels
    assert _subject(chosen=("aspect",)).needs_pixels


@pytest.mark.parametrize(
    ("aspect", "shape"),
    [(1.0, "square"), (1.04, "square"), (1.34, "landscape"), (0.75, "portrait")],
)
def test_shapes_are_told_by_the_sides(aspect: float, shape: str) -> None:
    assert shape_of(aspect) == shape


def test_the_size_of_objects_is_their_mean_share_of_the_picture() -> None:
    boxes = [("a", (0.0, 0.0, 10.0, 10.0)), ("b", (5.0, 5.0, 7.0, 10.0))]
    assert object_size_of(boxes, (10, 20)) == pytest.approx((100 + 10) / 2 / 200)
    assert object_size_of([], (10, 20)) is None
    assert object_size_of("a", (10, 20)) is None


def test_terciles_part_a_reference_in_three() -> None:
    low, high = terciles([*range(9)]) or (0.0, 0.0)
    assert [sum(v <= low for v in range(9)), sum(low < v <= high for v in range(9))] == [3, 3]
    assert terciles([]) is None
    assert terciles([0.5] * 9) is None
    assert terciles([0.0] * 8 + [1.0]) is None


def test_an_attribute_with_a_value_of_its_own_for_each_picture_is_no_facet() -> None:
    seen = Seen()
    for number in range(10_000):
        seen.add("request", [str(number)])
        seen.add("camera", [str(number % MOST_VALUES)])
        seen.add("always", ["x"])
    assert seen.facets() == {"camera": sorted(map(str, range(MOST_VALUES)))}
    assert seen.crowded() == ["request"]
    assert sum(len(own or ()) for own in seen.values.values()) == MOST_VALUES + 1


def test_which_of_too_many_attributes_stay_does_not_depend_on_their_order() -> None:
    names = [f"name{n}" for n in range(3 * MOST_CUSTOM)]
    kept = []
    for order in (names, names[::-1], sorted(names, key=hash)):
        seen = Seen(["chosen", names[7]])
        for name in order:
            for value in "ab":
                seen.add(name, [value])
        seen.add("chosen", ["x"])
        kept.append(seen.to_dict())
    assert kept[0] == kept[1] == kept[2]
    assert len(kept[0]) == MOST_CUSTOM + 2
    assert {"chosen", names[7]} <= kept[0].keys()
    assert all(own == ["a", "b"] for name, own in kept[0].items() if name != "chosen")


def test_parts_add_up_and_are_read_back() -> None:
    parts = []
    for values in (["1", "2"], ["2", "3"], [str(n) for n in range(30)]):
        part = Seen()
        part.add("camera", values[:2])
        part.add("many", values)
        parts.append(part)
    found = []
    for order in permutations(parts):
        whole = Seen()
        for part in order:
            whole.merge(part)
        found.append(whole.to_dict())
    assert all(own == found[0] for own in found)
    assert found[0] == {"camera": ["0", "1", "2", "3"], "many": None}
    assert Seen.from_dict(found[0]).to_dict() == found[0]
