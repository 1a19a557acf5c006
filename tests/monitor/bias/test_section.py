"""The section of the page says in plain words who is answered worse, and shows texts harmlessly."""

import re
from typing import Any

from regrow.monitor.bias.section import MOST, section

EVIL = "<img src=x onerror=alert(1)>" + "x" * 2000


def _row(**own: Any) -> dict[str, Any]:
    shares = {"value": 0.12, "rest": 0.05, "interval": [0.03, 0.11]}
    return {"pictures": 100, "labelled": 40, "predicted": None, "wrong": shares} | own


def _bias(**own: Any) -> dict[str, Any]:
    return {"label": "dog", "smallest_group": 30, "facets": {"camera": {"3": _row()}}} | own


ALARM = {
    "facet": "camera", "limit": 0.05, "interval": [0.03, 0.11],
    "words": "Pictures with camera 3 are answered wrongly more often: 12% against 5%.",
}  # fmt: skip


def test_it_says_which_pictures_how_much_and_what_is_accepted() -> None:
    text = section(_bias(), [ALARM, {"kind": "act", "name": "loss"}])
    assert "<p>Pictures with camera 3 are answered wrongly more often: 12% against 5%" in text
    assert "The gap is 3% to 11%; at most 5% is accepted" in text
    assert "100, 40 labelled" in text
    assert "12.0%, others 5.0% (+3.0% to +11.0%)" in text


def test_nothing_to_show_is_nothing() -> None:
    assert section(None, []) == ""
    assert section(_bias(facets={}), []) == ""
    small = _row(wrong=None)
    assert section(_bias(facets={"camera": {"3": small}}), []) == ""


def test_small_groups_are_named() -> None:
    facets = {"camera": {"3": _row(), "": _row(), "4": _row(wrong=None)}}
    text = section(_bias(facets=facets), [])
    assert "Fewer than 30 pictures, or others: camera 4." in text
    assert "<b>(empty)</b>" in text


def test_texts_of_strangers_are_shown_and_do_nothing() -> None:
    facets = {EVIL: {EVIL: _row(), "b": _row(wrong=None)}}
    text = section(_bias(label=EVIL, facets=facets), [ALARM | {"words": EVIL, "facet": EVIL}])
    assert "<img" not in text
    assert "&lt;img src=x" in text
    assert max(map(len, re.findall(r">([^<]*)<", text))) < 800


def test_many_kinds_are_counted() -> None:
    facets = {"camera": {str(n): _row() for n in range(MOST + 5)}}
    assert section(_bias(facets=facets), []).count("and 5 more") == 1
    text = section(_bias(), [ALARM] * (MOST + 1_234))
    assert text.count("<p>Pictures") == MOST
    assert "and 1,234 more" in text
