"""A captured line is SageMaker's, and a sample depends on the ids alone."""

import json
from typing import Any

import pytest

from exchanges import TIME, body, told
from regrow.deploy.capture.lines import Capturing, capture_line, utc
from regrow.errors import BadInput

# The example of the developer guide, with the keys that its other pages add.
EXAMPLE = (
    '{"captureData":{"endpointInput":{"observedContentType":"image/jpeg","mode":"INPUT",'
    '"data":"/9j/4AAQSkZJRg==","encoding":"BASE64"},"endpointOutput":{"observedContentType":'
    '"application/json","mode":"OUTPUT","data":"{\\"label\\":\\"car\\",\\"score\\":0.93}",'
    '"encoding":"JSON"}},"eventMetadata":{"eventId":"74b0dd56-e7c8-368e-94b1-14a138a96000",'
    '"inferenceId":"cam3-000017","customAttributes":["camera=3;site=north"],'
    '"inferenceTime":"2026-11-30T07:30:50Z"},"eventVersion":"0"}\n'
)


def _line(capturing: Capturing = Capturing(), **about: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capture_line(told(**about), capturing))
    return found


def test_the_guides_example_is_written_to_the_byte() -> None:
    asked = told(
        inference_id="cam3-000017",
        custom_attributes="camera=3;site=north",
        time=1_796_023_850.0,
        request_body=b"\xff\xd8\xff\xe0\x00\x10JFIF",
        response_body=b'{"label":"car","score":0.93}',
    )
    assert capture_line(asked, Capturing()).decode() == EXAMPLE


def test_ids_and_attributes_that_were_not_sent_are_left_out() -> None:
    assert _line()["eventMetadata"] == {
        "eventId": "74b0dd56-e7c8-368e-94b1-14a138a96000",
        "inferenceTime": "2026-11-30T07:34:10Z",
    }


@pytest.mark.parametrize(
    ("kind", "content", "encoding"),
    [
        ("text/csv; charset=utf-8", "1,é\n".encode(), "CSV"),
        ("TEXT/CSV;header=present", b"1,2", "CSV"),
        ("application/json ; a=b", b'{"a": "\x01\xc3\xa9"}', "JSON"),
        ("application/json", b"{broken", "JSON"),
        ("application/json; charset=latin-1", b'{"a":"\xe9"}', "BASE64"),
        ("text/html", b"<p>", "BASE64"),
        ("application/jsonlines", b"{}", "BASE64"),
        ("", b"\x00", "BASE64"),
        ("image/png", b"", "BASE64"),
    ],
)
def test_a_body_is_text_by_its_type_and_is_had_back_to_the_byte(
    kind: str, content: bytes, encoding: str
) -> None:
    found = _line(request_type=kind, request_body=content)["captureData"]["endpointInput"]
    assert (found["observedContentType"], found["mode"]) == (kind, "INPUT")
    assert found["encoding"] == encoding
    assert body(found) == content


def test_types_are_configured() -> None:
    own = Capturing(csv_types=["Text/X-Rows"], json_types=[])
    assert _line(own, request_type="text/x-rows")["captureData"]["endpointInput"]["encoding"] == (
        "BASE64"  # the picture is no UTF-8
    )
    found = _line(own, request_type="text/x-rows; v=1", request_body=b"1")["captureData"]
    assert found["endpointInput"]["encoding"] == "CSV"
    assert found["endpointOutput"]["encoding"] == "BASE64"


@pytest.mark.parametrize(
    ("mode", "keys"),
    [
        ("Input", ["endpointInput"]),
        ("Output", ["endpointOutput"]),
        ("InputAndOutput", ["endpointInput", "endpointOutput"]),
    ],
)
def test_input_or_output_or_both_are_captured(mode: Any, keys: list[str]) -> None:
    assert list(_line(Capturing(mode=mode))["captureData"]) == keys


def test_a_line_has_one_line_end_whatever_it_holds() -> None:
    hostile = "a\r\n\u2028\x85\ud800"
    line = capture_line(
        told(inference_id=hostile, custom_attributes=hostile, response_body=hostile[:4].encode()),
        Capturing(),
    )
    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert line.endswith(b"}\n")
    assert json.loads(line)["eventMetadata"]["inferenceId"] == hostile


@pytest.mark.parametrize("time", [1e300, -1e300, float("inf"), float("nan"), 1e12])
def test_a_time_in_no_year_is_refused(time: float) -> None:
    with pytest.raises(ValueError, match="seconds since 1970 are no time"):
        utc(time)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "Both"}, "'Both'; it may be InputAndOutput, Input, Output"),
        ({"csv_types": ["a/b"] * 11}, "csv_types has 11 content types; it may have 10"),
        ({"json_types": ["a/b"] * 11}, "json_types has 11 content types; it may have 10"),
    ],
)
def test_settings_without_a_meaning_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Capturing(**options)


def test_the_time_is_utc() -> None:
    assert utc(TIME).isoformat() == "2026-11-30T07:34:10.900000+00:00"
