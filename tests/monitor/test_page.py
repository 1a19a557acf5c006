"""The page of an hour is one file without scripts, and shows strangers' texts as they are."""

import base64
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regrow.monitor.alarms.false_alarms import FalseAlarms
from regrow.monitor.examples import Example, thumbnail
from regrow.monitor.hours.watching import Settings, Watch
from regrow.monitor.network.attributions import CELLS
from regrow.monitor.page import page

CHECK = "missing_column_check"
EVIL = "<img src=x onerror=alert(1)>\"'&</style><script>alert(1)</script>\x1b[2J"


def _report(*alarms: dict[str, Any], **own: Any) -> dict[str, Any]:
    names = [alarm["name"] for alarm in alarms] or ["brightness"]
    score = {"before": 0.5, "now": 0.4, "rank": 0.2, "evidence": 3.0}
    return {
        "hour": "2026-11-30T07:00:00Z",
        "until": "2026-11-30T08:00:00Z",
        "model": "ab12" * 16,
        "name": "model.onnx",
        "message": "Completed: nothing has changed in 5 pictures",
        "counts": {"num_pictures": 5},
        "alarms": list(alarms),
        "violations": [],
        "distances": {},
        "scores": {name: score for name in names},
        "level": 7.0,
        "quality": None,
        "remarks": {},
        "label_remarks": {},
        "missing_hours": {"count": 0, "first": None},
    } | own


def _warning(name: str = "brightness", **own: Any) -> dict[str, Any]:
    return {
        "kind": "warn", "name": name, "since": "2026-11-30T07:10:30Z", "effect": 0.2,
        "interval": [0.1, 0.3], "what": "mean", "before": 0.5, "now": 0.3,
    } | own  # fmt: skip


ACT = {
    "kind": "act", "name": "loss", "since": "2026-11-30T05:00:00Z", "effect": 0.25,
    "interval": [0.2, 0.3], "before": 0.05, "limit": 0.09,
}  # fmt: skip


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def _parsed(text: str) -> _Tags:
    tags = _Tags()
    tags.feed(text)
    return tags


def _page(report: dict[str, Any], examples: Any = ()) -> str:
    history = [
        {"hour": f"2026-11-30T0{n}:00:00Z", "ranks": dict.fromkeys(report["scores"], 0.1 * n)}
        for n in range(3)
    ]
    return page(report, history, examples, examples)


def test_texts_of_strangers_are_shown_and_do_nothing() -> None:
    jpeg = b"\xff\xd8"
    report = _report(
        _warning(EVIL),
        {"kind": "data", "name": EVIL, "check": EVIL, "since": EVIL, "words": EVIL, "effect": None},
        name=EVIL,
        model=EVIL,
        message=EVIL,
        violations=[{"feature_name": EVIL, "constraint_check_type": EVIL, "description": EVIL}],
        remarks={EVIL: {"count": 1, "first": [EVIL]}},
        quality={"name": EVIL, "value": 0.5, "interval": [0, 1], "num_labels": 1, "coverage": 1},
    )
    text = _page(report, [Example(EVIL, {EVIL: 0.5}, jpeg)])
    tags = _parsed(text)
    assert "script" not in {tag for tag, _ in tags.found}
    assert "\x1b" not in text
    for tag, attributes in tags.found:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        if tag == "img":
            assert str(attributes["src"]).startswith("data:image/jpeg;base64,")
    assert any("<img src=x onerror=alert(1)>" in data for data in tags.texts)


def test_nothing_is_loaded_from_elsewhere() -> None:
    text = _page(_report(_warning(), ACT), [Example("a", {"brightness": 0.5}, b"x")])
    links = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s>]+)""", text)
    assert {link.partition(";")[0] for link in links} == {"data:image/jpeg"}
    assert "http:" not in text
    assert "https:" not in text
    assert "default-src 'none'" in text


def test_it_says_what_moved_how_much_since_when_and_what_to_do() -> None:
    text = " ".join(_parsed(_page(_report(_warning()))).texts)
    assert "no longer like the reference" in text
    assert "lower than in the reference since 2026-11-30 07:10 UTC" in re.sub(r"\s+", " ", text)
    assert "in 20% of pairs (10% to 30%; 50% is no change)" in text
    assert "Do not train again on a warning alone" in text
    assert "brightness by the hour" in text


def test_what_is_worst_comes_first() -> None:
    assert "<h1>The model makes more mistakes than was promised.</h1>" in _page(
        _report(_warning(), ACT)
    )
    text = _page(_report(ACT))
    assert "at most 0.090 was" in text
    assert "--warm-start" in text
    assert "<h1>Nothing has changed.</h1>" in _page(_report())
    assert "<h1>There were no pictures.</h1>" in _page(_report(counts={"num_pictures": 0}))


BIAS = {
    "kind": "act", "name": "bias AD camera=3", "facet": "camera", "facet_value": "3",
    "since": "2026-11-30T05:00:00Z", "effect": 0.07, "interval": [0.03, 0.11], "limit": 0.05,
    "words": "Pictures with camera 3 are answered wrongly more often: 12% against 5%.",
}  # fmt: skip
BY_FACET = {"label": "dog", "smallest_group": 30, "facets": {}}


def test_pictures_that_are_answered_worse_are_told_in_words() -> None:
    warning = BIAS | {"kind": "warn", "name": "bias DPPL camera=3", "words": "Shown more often."}
    text = _page(_report(BIAS, warning, bias=BY_FACET))
    assert "<h1>The model makes more mistakes on some pictures than on others.</h1>" in text
    assert "12% against 5%. So since 2026-11-30 05:00 UTC." in text
    assert "raise its limit in analysis.json" in text
    assert "--warm-start" not in text
    assert "What moved" not in text
    # The loss of all pictures is worse than that of some.
    both = _page(_report(BIAS, ACT, _warning(), bias=BY_FACET))
    assert "<h1>The model makes more mistakes than was promised.</h1>" in both
    assert "brightness by the hour" in both


def test_a_change_of_spread_and_many_scores_are_told_in_words() -> None:
    many = [_warning(f"s{n}") for n in range(15)]
    text = _page(_report(_warning(what="spread", effect=0.5), *many))
    assert "<b>brightness</b> spreads differently" in text
    assert "and 9 more scores" in text


@pytest.mark.parametrize("quality", [None, {"value": None}])
def test_labels_may_be_missing(quality: Any) -> None:
    text = _page(_report(quality=quality))
    assert ("No label fits" in text) == (quality is not None)


def test_pictures_before_and_now_are_in_the_file() -> None:
    before, now = [Example("old", {}, b"before")], [Example("new", {}, b"now")]
    text = page(_report(), [], before, now)
    for jpeg in (b"before", b"now"):
        assert base64.b64encode(jpeg).decode() in text
    assert "Pictures before" in text


def test_pictures_and_answers_stand_apart() -> None:
    names = ["confidence", "red", "green", "blue", "contrast", "boxes of 1", "brightness"]
    text = _page(_report(*(_warning(name) for name in names)))
    words = re.sub(r"\s+", " ", " ".join(_parsed(text).texts))
    assert "confidence is lower than in the reference" in words
    told = (
        "Moved too: in the pictures red, green, blue and 2 more; in the model's answers boxes of 1."
    )
    assert told in words
    order = [text.index(f"<tr><td><b>{name}</b>") for name in names]
    pictures, answers = text.index(">in the pictures<"), text.index(">in the model's answers<")
    for name, place in zip(names, order, strict=True):
        is_answer = name in ("confidence", "boxes of 1")
        assert (place > answers) == is_answer, name
        assert place > pictures


def test_a_feature_that_no_picture_has_is_shown_as_broken(
    folder: Path, tmp_path: Path, captured: Callable[..., Any], write: Callable[..., Path]
) -> None:
    """As in amazon-sagemaker-examples#3915, where the view of such a violation failed."""
    file = folder / "constraints.json"
    asked = json.loads(file.read_text())
    asked["features"].append({"name": "speed", "inferred_type": "Fractional", "completeness": 1.0})
    file.write_text(json.dumps(asked))
    hour = datetime(2026, 11, 30, 7, tzinfo=UTC)
    write(tmp_path / "captures", captured(hour, 5))
    settings = Settings(hour + timedelta(hours=1), FalseAlarms(images=1e5))
    (report,) = Watch(folder, tmp_path / "captures", None, settings).run()
    assert [own["constraint_check_type"] for own in report["violations"]] == [CHECK]
    row = re.search(r"<tr><td><b>speed</b>.*?</tr>", (folder / "report.html").read_text())
    assert row is not None
    assert _parsed(row[0]).texts == ["speed", "no picture has this feature", CHECK]


def _noise(name: str) -> Example:
    """The largest thumbnail that there is."""
    pixels = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    return Example(name, {"brightness": 0.5}, thumbnail(pixels))


def test_the_page_of_an_hour_with_all_that_it_can_hold_is_small() -> None:
    """As in evidentlyai/evidently#1781, where a page of embeddings was too large to be shown."""
    long = '"' * 5000
    names = ["brightness", *(f"{number} {long}" for number in range(80))]
    broken = {"feature_name": long, "constraint_check_type": CHECK, "description": long}
    data = {"kind": "data", "name": long, "check": CHECK, "since": long, "words": long}
    shares = {"value": 0.1, "rest": 0.2, "interval": [-0.3, 0.1]}
    side = {"pictures": 10**9, "labelled": 10**9, "predicted": shares, "wrong": shares}
    facets = {f"{n} {long}": {f"{m} {long}": side for m in range(20)} for n in range(20)}
    cells = {name: {"before": 1 / 3, "now": 1 / 7} for name in CELLS}
    numbers = {"distance": 0.1, "by_chance": 0.1, "ndcg": 0.9, "num_pictures": 9, "num_unusable": 0}
    report = _report(
        *(_warning(name) for name in names),
        *[BIAS | {"words": long, "name": long}] * 800,
        *[data] * 2000,
        ACT,
        violations=[broken] * 2000,
        bias={"label": long, "smallest_group": 30, "facets": facets},
        attribution=numbers | {"cells": cells},
        remarks={f"{number} {long}": {"count": 9, "first": [long] * 5} for number in range(20)},
        name=long,
        message=long,
    )
    examples = [_noise(f"{number} {long}") for number in range(24)]
    history = [{"hour": long[:20], "ranks": dict.fromkeys(names, 1 / 3)}] * 72
    text = page(report, history, examples, examples)
    assert all(name in text for name in ("What is broken", "By kind", "heat map", "All scores"))
    assert len(text.encode()) < 2_000_000


def test_a_picture_of_a_class_shows_the_answer() -> None:
    values = {"predicted_class": "cat", "confidence": 0.6154, "brightness": 0.12345}
    text = page(_report(), [], [], [Example("new", values, b"now")])
    assert "new<br>answer: cat (0.615)<br>brightness 0.123" in text
    assert "answer" not in page(_report(), [], [], [Example("new", {"boxes": 3.0}, b"now")])
