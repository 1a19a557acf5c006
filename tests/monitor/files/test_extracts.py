"""Extracts say exactly what was computed; damaged ones are refused in one line."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from regrow.errors import BadInput
from regrow.monitor.features import PICTURE, picture_features, pixels_key
from regrow.monitor.files.captures import parse_event
from regrow.monitor.files.extracts import (
    MAX_PICTURES,
    PART,
    Extract,
    Measured,
    extracted_line,
    parse_extract,
    unreadable_line,
)

# The example of SageMaker's developer guide, and a key that regrow does not know.
LINE = (
    b'{"captureData":{"endpointInput":{"observedContentType":"image/jpeg","mode":"INPUT",'
    b'"data":"/9j/4AAQSkZJRg==","encoding":"BASE64"},"endpointOutput":{"observedContentType":'
    b'"application/json","mode":"OUTPUT","data":"{\\"label\\":\\"car\\",\\"score\\":0.93}",'
    b'"encoding":"JSON"}},"eventMetadata":{"eventId":"74b0dd56","inferenceId":"cam3-000017",'
    b'"customAttributes":["camera=3;site=north"],"inferenceTime":"2026-11-30T07:30:50.123456Z",'
    b'"other":[1,2]},"eventVersion":"0"}'
)


def _measured(seed: int, num_bytes: int | None = 123) -> Measured:
    draw = np.random.default_rng(seed)
    size = (*draw.integers(1, 40, 2), 3)
    pixels = draw.integers(0, 256, size, dtype=np.uint8)
    return Measured(picture_features(pixels, num_bytes), pixels_key(pixels))


EXTRACT = Extract((_measured(0),), "", None)


@pytest.mark.parametrize(
    "extract",
    [
        *(Extract((_measured(seed),), "", None) for seed in range(20)),
        Extract((_measured(1, None), _measured(2, None)), "", (3, 65535)),
        Extract((), "the picture is corrupt", None),
        Extract((), "", None),
    ],
)
def test_an_extract_is_read_as_it_was_written(extract: Extract) -> None:
    content = json.loads(json.dumps({PART: extract.to_dict()}))
    found = parse_extract(content)
    assert found == extract
    assert found is not None
    assert all([*one.values] == [*PICTURE] for one in found.pictures)
    assert found.fits(extract.grey_range)
    assert not found.fits((0, 1))


@pytest.mark.parametrize("level", [0, 255])
def test_the_ends_of_all_features_are_in_their_ranges(level: int) -> None:
    checkers = np.indices((16, 16)).sum(0)[..., None] % 2 * np.full(3, level, np.uint8)
    for pixels in (np.full((5, 400, 3), level, np.uint8), checkers.astype(np.uint8)):
        own = Measured(picture_features(pixels, None), 2**64 - 1)
        assert own.size == pixels.shape[:2]
        extract = Extract((own,), "", None)
        assert parse_extract({PART: extract.to_dict()}) == extract


def test_a_line_without_one_has_none() -> None:
    assert parse_extract({"captureData": {}}) is None
    assert parse_extract([]) is None
    assert parse_event(LINE).extract is None


def _with(**changes: Any) -> dict[str, Any]:
    return EXTRACT.to_dict() | changes


def _with_value(name: str, value: Any) -> dict[str, Any]:
    (one,) = EXTRACT.to_dict()["pictures"]
    return _with(pictures=[one | {"values": one["values"] | {name: value}}])


@pytest.mark.parametrize(
    ("part", "match"),
    [
        (7, "damaged"),
        ("unreadable", "damaged"),
        ([], "damaged"),
        ({}, "damaged"),
        (_with(version=True), "the version is no whole number"),
        (_with(version="1"), "the version is no whole number"),
        (_with(reason=3), "the reason is no short text"),
        (_with(reason="x" * 201), "the reason is no short text"),
        (_with(reason="broken"), "the pictures are no list"),
        (_with(pictures=None), "the pictures are no list"),
        (_with(pictures=[{}] * (MAX_PICTURES + 1)), "or too many"),
        (_with(pictures=[{}]), "damaged"),
        (_with(pictures=[{"pixels": "0" * 16, "values": {}}]), "not those of a picture"),
        (_with(pictures=[{"pixels": "g" * 16, "values": {}}]), "no hexadecimal number"),
        (_with(pictures=[{"pixels": 7, "values": {}}]), "no hexadecimal number"),
        (_with(grey_range=[1]), "damaged"),
        (_with(grey_range=[0, 0.5]), "the grey range is no two whole numbers"),
        (_with_value("confidence", 0.5), "not those of a picture"),
        (_with_value("brightness", None), "brightness is no finite number"),
        (_with_value("brightness", float("nan")), "brightness is no finite number"),
        (_with_value("brightness", True), "brightness is no finite number"),
        (_with_value("brightness", "0.5"), "brightness is no finite number"),
        (_with_value("brightness", 1.5), "brightness is out of its range"),
        (_with_value("brightness", -0.1), "brightness is out of its range"),
        (_with_value("width", 0), "width is out of its range"),
        (_with_value("width", 2.5), "width is no whole number"),
        (_with_value("height", 10**400), "damaged"),
        (_with_value("aspect", 0.0), "aspect is out of its range"),
        (_with_value("grey", 0.5), "grey is no whole number"),
    ],
)
def test_a_damaged_extract_is_refused(part: Any, match: str) -> None:
    line = json.dumps(json.loads(LINE) | {PART: part})
    with pytest.raises(BadInput, match=match) as caught:
        parse_event(line)
    assert len(str(caught.value)) < 200


def test_one_of_another_version_is_no_damage_but_does_not_fit() -> None:
    found = parse_extract({PART: {"version": 2, "reason": 7, "pictures": "elsewhere"}})
    assert found is not None
    assert not found.fits(None)


def test_odd_extracts_are_refused_or_read(mutated_plain: Callable[[Any, int], Any]) -> None:
    kinds = set()
    for seed in range(400):
        odd = mutated_plain(EXTRACT.to_dict(), seed)
        try:
            kinds.add(type(parse_extract({PART: odd})))
        except BadInput:
            kinds.add(BadInput)
    assert kinds >= {Extract, BadInput}
    assert kinds <= {Extract, BadInput, type(None)}


def test_a_line_keeps_all_but_its_request() -> None:
    before, made = json.loads(LINE), extracted_line(LINE, EXTRACT, keeps_request=False)
    after = json.loads(made)
    assert made.endswith(b"\n")
    assert made.count(b"\n") == 1
    assert after.pop(PART) == json.loads(json.dumps(EXTRACT.to_dict()))
    del before["captureData"]["endpointInput"]
    assert after == before
    event, plain = parse_event(made), parse_event(LINE)
    assert (event.input, event.extract) == (None, EXTRACT)
    assert (event.id, event.time, event.attributes) == (plain.id, plain.time, plain.attributes)
    kept = json.loads(extracted_line(LINE, EXTRACT, keeps_request=True))
    del kept[PART]
    assert kept == json.loads(LINE)
    # Extracted again, it has the new extract alone.
    other = Extract((), "broken", None)
    assert parse_event(extracted_line(made, other, keeps_request=False)).extract == other


def test_an_unreadable_line_is_refused_for_the_same_reason() -> None:
    with pytest.raises(BadInput, match="^a line: not JSON$"):
        parse_event(unreadable_line("a line: not JSON"))
    with pytest.raises(BadInput) as caught:
        parse_event(unreadable_line("x" * 500))
    assert len(str(caught.value)) == 200
