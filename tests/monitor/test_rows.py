"""Rows of captures: pictures are decoded, answers read, and what is broken is missing."""

import base64
import io
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from regrow.data.images.conversion import Decoding
from regrow.errors import BadInput
from regrow.monitor import rows
from regrow.monitor.features import picture_features, pixels_key
from regrow.monitor.files.captures import Body, Event
from regrow.monitor.files.extracts import Extract
from regrow.monitor.files.sent import BINARY, JSON
from regrow.monitor.rows import NPY, STALE, kept_pixels, measure, model_of, pictures_of, rows_of

Encoded = Callable[[np.ndarray], bytes]
Made = Callable[..., Event]
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
CAR = {"label": "car", "score": 0.5}
ANSWER = {"model": "ab12", "predictions": [CAR]}


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_a_picture_and_its_answer(png: Encoded, event: Made) -> None:
    content = png(PIXELS)
    (row,) = rows_of(event(content, ANSWER), ["car"])
    expected = picture_features(PIXELS, len(content))
    assert row.values == expected | {"predicted_class": "car", "confidence": 0.5}
    np.testing.assert_array_equal(row.pixels, PIXELS)
    assert (row.prediction, row.is_corrupt, row.reason) == (CAR, False, "")
    assert row.key == pixels_key(PIXELS)


def test_a_picture_that_cannot_be_decoded_is_corrupt(png: Encoded, event: Made) -> None:
    (row,) = rows_of(event(png(PIXELS)[:100], ANSWER), ["car"])
    assert row.is_corrupt
    assert "corrupt" in row.reason
    assert row.values["brightness"] is None
    assert row.values["confidence"] == 0.5


@pytest.mark.parametrize("shape", [(12, 20, 3), (1, 12, 20, 3), (1, 3, 12, 20), (3, 12, 20)])
def test_arrays_hold_pictures_with_channels_first_or_last(
    event: Made, shape: tuple[int, ...]
) -> None:
    first = len(shape) - 3
    array = PIXELS.transpose(2, 0, 1) if shape[first] == 3 else PIXELS
    (row,) = rows_of(event(_npy(array.reshape(shape)), content_type=NPY), [])
    assert row.values == picture_features(PIXELS, None)


def test_a_batch_has_a_row_for_each_picture(event: Made) -> None:
    answer = {"predictions": [CAR, {"label": "dog", "score": 0.25}]}
    rows = rows_of(event(_npy(np.stack([PIXELS, PIXELS // 2])), answer, content_type=NPY), [])
    assert [row.values["predicted_class"] for row in rows] == ["car", "dog"]
    assert rows[1].values["brightness"] == picture_features(PIXELS // 2, None)["brightness"]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"x", "cannot be read"),
        (_npy(np.zeros((2, 2, 3))), "none of uint8"),
        (_npy(np.zeros((2, 2), np.uint8)), r"has the shape \(2, 2\)"),
        (_npy(np.zeros((0, 2, 3), np.uint8)), "none of uint8"),
        (_npy(np.array([{}], dtype=object)), "cannot be read"),
    ],
)
def test_arrays_of_another_kind_are_refused(event: Made, content: bytes, match: str) -> None:
    body = event(content, content_type=NPY).input
    assert body is not None
    with pytest.raises(BadInput, match=match):
        pictures_of(body)


def test_tensors_and_events_without_a_body_have_no_picture(event: Made) -> None:
    (row,) = rows_of(event(b"[1]", ANSWER, content_type="application/json"), ["car"])
    assert (row.pixels, row.is_corrupt) == (None, False)
    assert list(row.values) == ["predicted_class", "confidence"]
    kind = "application/vnd.sagemaker-triton.binary+json"
    (row,) = rows_of(event(b"{}\0\0", ANSWER, content_type=kind), ["car"])
    assert (row.pixels, row.is_corrupt) == (None, False)
    (row,) = rows_of(event(None), [])
    assert row.values == {}


def test_pictures_within_json_are_looked_at(png: Encoded, event: Made) -> None:
    texts = [base64.b64encode(png(own)).decode() for own in (PIXELS, PIXELS // 2)]
    content = json.dumps({"instances": [{"b64": text} for text in texts]}).encode()
    answer = {"predictions": [CAR, {"label": "dog", "score": 0.25}]}
    rows = rows_of(event(content, answer, content_type="application/json"), ["car"])
    assert [row.values["predicted_class"] for row in rows] == ["car", "dog"]
    for row, pixels in zip(rows, (PIXELS, PIXELS // 2), strict=True):
        assert picture_features(pixels, None).items() <= row.values.items()
    # One that is broken is corrupt, as it is outside of JSON.
    content = json.dumps({"instances": [{"b64": texts[0][:100]}]}).encode()
    (row,) = rows_of(event(content, ANSWER, content_type="application/json"), ["car"])
    assert (row.is_corrupt, row.values["brightness"]) == (True, None)
    (row,) = rows_of(event(b'{"instances": 3}', ANSWER, content_type="application/json"), [])
    assert (row.is_corrupt, row.reason) == (True, "a body of JSON whose pictures cannot be read")


def test_all_pictures_of_a_request_share_a_limit_of_pixels(png: Encoded, event: Made) -> None:
    one = {"b64": base64.b64encode(png(PIXELS)).decode()}
    body = event(json.dumps({"instances": [one] * 3}).encode(), content_type=JSON).input
    assert body is not None
    assert len(pictures_of(body, Decoding(max_pixels=3 * 240))) == 3
    with pytest.raises(BadInput, match="pixels"):
        pictures_of(body, Decoding(max_pixels=3 * 240 - 1))


@pytest.mark.parametrize("kind", ["application/octet-stream", "binary/octet-stream", ""])
def test_bytes_of_no_kind_are_a_picture_if_they_can_be_one(
    png: Encoded, event: Made, kind: str
) -> None:
    (row,) = rows_of(event(png(PIXELS), ANSWER, content_type=kind), ["car"])
    np.testing.assert_array_equal(row.pixels, PIXELS)
    (row,) = rows_of(event(b"\0" * 40, ANSWER, content_type=kind), ["car"])
    assert (row.pixels, row.is_corrupt) == (None, not kind)


def test_a_broken_answer_leaves_the_picture(png: Encoded, event: Made) -> None:
    (row,) = rows_of(event(png(PIXELS), {"error": "busy"}), ["car"])
    assert row.values["brightness"] is not None
    assert "without a list of predictions" in row.reason
    (row,) = rows_of(event(png(PIXELS), {"predictions": [{"label": "a"}]}), ["car"])
    assert "values of another kind" in row.reason


def test_the_answer_names_its_model(event: Made) -> None:
    assert model_of(event(None, ANSWER)) == "ab12"
    assert model_of(event(None, [])) is None
    assert model_of(event(None)) is None


def test_an_answer_in_tensors_names_its_model_and_has_no_predictions(
    png: Encoded, event: Made
) -> None:
    head = json.dumps({"model_name": "regrow", "model_version": "ab12" * 16, "outputs": []})
    binary = Body(
        BINARY,
        base64.b64encode(head.encode() + b"\x00\xff").decode(),
        "BASE64",
        f"json-header-size={len(head)}",
    )
    for output in (Body(JSON, head, "JSON"), binary):
        own = replace(event(png(PIXELS)), output=output)
        assert model_of(own) == "ab12" * 16
        (row,) = rows_of(own, ["car"])
        assert (row.model, row.prediction, row.is_corrupt) == ("ab12" * 16, None, False)
        assert row.reason == "an answer in tensors, of V2, which are not read"
        assert row.values["width"] == 20
    # Other servers number their versions.
    other = Body(JSON, head.replace("ab12" * 16, "1"), "JSON")
    assert model_of(replace(event(png(PIXELS)), output=other)) is None


def _extracted(event: Event, decoding: Decoding = Decoding()) -> Event:
    """Return an event with what was computed from its pictures, and without them."""
    try:
        own = Extract(tuple(measure(event, decoding)[0]), "", decoding.grey_range)
    except BadInput as error:
        own = Extract((), str(error), decoding.grey_range)
    return replace(event, input=None, extract=own)


BOXES = {"objects": [{"label": "car", "score": 0.5, "box": [1, 2, 11, 7]}]}


@pytest.mark.parametrize("answer", [None, ANSWER, {"predictions": [BOXES]}, {"error": "busy"}, []])
def test_an_extract_has_the_rows_of_its_pictures(png: Encoded, event: Made, answer: object) -> None:
    kinds = (
        (png(PIXELS), "image/png"),
        (png(PIXELS)[:100], "image/png"),
        (_npy(np.stack([PIXELS, PIXELS // 2])), NPY),
        (_npy(PIXELS[..., 0]), NPY),
        (b"[1]", "application/json"),
        (b"0" * 40, "application/octet-stream"),
        (None, "image/png"),
    )
    for content, kind in kinds:
        plain = event(content, answer, content_type=kind)
        pairs = zip(
            rows_of(plain, ["car"]), rows_of(_extracted(plain), ["car"]), strict=True
        )  # fmt: skip
        for before, after in pairs:
            assert after == replace(before, event=after.event, pixels=None)
            assert [*after.values] == [*before.values]


def test_pictures_with_an_extract_are_not_decoded(
    png: Encoded, event: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = event(png(PIXELS), ANSWER)
    both = replace(_extracted(plain), input=plain.input)
    (expected,) = rows_of(plain, ["car"])
    monkeypatch.setattr(rows, "decode", None)
    (row,) = rows_of(both, ["car"])
    assert (row.values, row.key, row.pixels) == (expected.values, expected.key, None)
    monkeypatch.undo()
    np.testing.assert_array_equal(kept_pixels(both, 0), PIXELS)
    assert kept_pixels(both, 1) is None
    assert kept_pixels(_extracted(plain), 0) is None
    broken = event(png(PIXELS)[:100])
    assert kept_pixels(replace(broken, extract=both.extract), 0) is None


def test_an_extract_that_is_not_what_would_be_computed_now_is_told_or_computed_again(
    png: Encoded, event: Made
) -> None:
    plain, now = event(png(PIXELS), ANSWER), Decoding(grey_range=(0, 9))
    old = _extracted(plain)
    assert old.extract is not None
    for odd, decoding in (
        (old, now),
        (replace(old, extract=replace(old.extract, version=2)), Decoding()),
    ):
        (row,) = rows_of(odd, ["car"], decoding)
        assert (row.reason, row.key, row.is_corrupt) == (STALE, None, False)
        assert row.values == {"predicted_class": "car", "confidence": 0.5}
        (row,) = rows_of(replace(odd, input=plain.input), ["car"], decoding)
        assert (row.reason, row.key) == ("", pixels_key(PIXELS))
        np.testing.assert_array_equal(row.pixels, PIXELS)
