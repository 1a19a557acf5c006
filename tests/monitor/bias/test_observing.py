"""Answers, labels and pictures of a reference become observations, or nothing where they cannot."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from regrow.data.images.conversion import Decoding
from regrow.monitor.bias.constraints import EDGES, POST
from regrow.monitor.bias.facets import Subject
from regrow.monitor.bias.metrics import Counts
from regrow.monitor.bias.observing import LabelObserver, ReferenceObserver, observe_answer
from regrow.monitor.files.captures import Event
from regrow.monitor.files.extracts import Extract
from regrow.monitor.rows import Row, measure

HOUR = datetime(2026, 11, 30, 7, tzinfo=UTC)
SUBJECT = Subject("labels", ("cat", "dog"), "dog", {"brightness": (0.3, 0.6)})
# 10 x 5 pixels of 20 x 10 are a quarter.
SIZED = Subject(
    "boxes", ("cat", "dog"), "dog", {"brightness": (0.3, 0.6), "object_size": (0.2, 0.3)}
)
WIDE = np.full((10, 20, 3), 255, np.uint8)
Png = Callable[[np.ndarray], bytes]
MadeEvent = Callable[..., Event]


def _row(event: Event, prediction: Any, **values: Any) -> Row:
    return Row(event, values, prediction, None, False, "")


def test_an_answer_has_the_facets_of_its_event_and_of_its_picture(event: MadeEvent) -> None:
    own = event(None, {}, id="e", attributes={"camera": "3"})
    row = _row(own, {"label": "dog"}, brightness=0.9, aspect=1.0)
    found = observe_answer(row, 5, 17, SUBJECT)
    assert found is not None
    assert found.values == {"camera": "3", "brightness": "light", "aspect": "square"}
    assert found.counts == Counts(pictures=1, predicted=1)
    assert (found.time, found.key, found.block) == (own.time.timestamp(), 5, 17)
    alone = observe_answer(row, 5, None, SUBJECT)
    assert alone is not None
    assert alone.block is None


@pytest.mark.parametrize("prediction", [None, {}, {"objects": 3}])
def test_an_answer_that_cannot_be_used_is_none(event: MadeEvent, prediction: Any) -> None:
    assert observe_answer(_row(event(None, {}), prediction), 5, None, SUBJECT) is None


def _labels(*events: Event, subject: Subject = SUBJECT, **own: Any) -> LabelObserver:
    made = LabelObserver(subject, Decoding(), own.pop("block_of", None), own.pop("used", set()))
    for event in events:
        made.add(event, {"label": "dog"}, "cat", 1.0, own.get("probability"))
    return made


def test_a_label_is_joined_with_the_facets_of_its_picture(event: MadeEvent, png: Png) -> None:
    one = event(png(WIDE), {}, id="a", attributes={"camera": "3"})
    other = event(png(WIDE // 8), {}, id="b", attributes={"camera": "4"})
    made = _labels(one, other, used={"b"}).observations
    assert made.facets == ["aspect", "brightness", "camera"]
    assert {name: [*made.values(name)] for name in made.facets} == {
        "aspect": ["landscape"], "brightness": ["dark", "light"], "camera": ["3", "4"]
    }  # fmt: skip
    assert (len(made), made.num_bets) == (2, 1)
    rest, facet = made.sides("camera")["3"]
    assert facet.counts == rest.counts == Counts(1, 0, 1, 0, fp=1)


def test_pictures_that_are_not_there_have_no_facets_of_their_own(event: MadeEvent) -> None:
    events = [event(None, {}, id="a"), event(b"broken", {}, id="b")]
    assert _labels(*events).observations.facets == []
    # Where no facet needs them, pictures are not even opened.
    attributes = {"camera": "3"}
    chosen = Subject("labels", ("cat", "dog"), "dog", chosen=("camera",))
    made = _labels(event(b"broken", {}, attributes=attributes), subject=chosen).observations
    assert made.facets == ["camera"]


def test_an_extract_has_the_facets_of_its_picture(event: MadeEvent, png: Png) -> None:
    plain = event(png(WIDE), {}, id="a")
    pictures = tuple(measure(plain)[0])
    extract = replace(plain, input=None, extract=Extract(pictures, "", None))
    truth = [("dog", (0.0, 0.0, 10.0, 5.0))]
    for own in (plain, extract):
        made = LabelObserver(SIZED, Decoding(), None, set())
        made.add(own, {"objects": []}, truth, 1.0, None)
        found = {name: [*made.observations.values(name)] for name in made.observations.facets}
        assert found == {
            "aspect": ["landscape"], "brightness": ["light"], "object_size": ["medium"]
        }  # fmt: skip
    two = replace(extract, extract=Extract((*pictures, *pictures), "", None))
    broken = replace(extract, extract=Extract((), "broken", None))
    assert _labels(two, broken).observations.facets == []


def test_labels_of_one_block_count_together_and_sampled_ones_are_not_bet_on(
    event: MadeEvent,
) -> None:
    events = [event(None, {}, id=str(n), attributes={"camera": str(n % 2)}) for n in range(4)]
    made = _labels(*events, block_of=lambda own: own.attributes["camera"]).observations
    assert (made.sides("camera")["0"][1].sizes["accuracy"], made.num_bets) == (1, 4)
    again = _labels(*events, block_of=lambda own: own.attributes["camera"], used={"0", "1 7"})
    assert again.observations.num_bets == 2  # all of the camera 0 was bet on, by one picture
    sampled = _labels(*events, probability=0.5).observations
    assert (sampled.num_sampled, sampled.num_bets) == (4, 0)


def test_a_label_whose_answer_is_broken_is_left_out(event: MadeEvent) -> None:
    made = LabelObserver(SUBJECT, Decoding(), None, set())
    made.add(event(None, {}), {"shares": 3}, np.zeros((2, 2), np.uint8), 0.0, None)
    assert len(made.observations) == 0


def test_a_reference_has_terciles_and_promises() -> None:
    made = ReferenceObserver(Subject("labels", ("cat", "dog"), "dog"))
    for number in range(150):
        features = {"brightness": number / 150, "aspect": 1.5}
        label = "dog" if number % 3 else "cat"
        known = ({"label": "dog"}, label, float(label != "dog"), f"picture {number}")
        made.add(f"p{number}", dict(features), WIDE, *known)
    parts = made.parts()
    assert parts[EDGES] == {"brightness": [pytest.approx(149 / 450), pytest.approx(298 / 450)]}
    rows = parts[POST]["facets"]
    assert {*rows} == {"brightness"}  # there are no pictures of another shape to compare with
    assert [row["value_or_threshold"] for row in rows["brightness"]] == ["dark", "light", "medium"]
    metrics = {own["name"]: own for own in rows["brightness"][0]["metrics"]}
    assert metrics["AD"]["value"] == pytest.approx(66 / 100 - 33 / 50, abs=0.02)
    json.dumps(parts, allow_nan=False)
    assert ReferenceObserver(SUBJECT).parts()[POST]["facets"] == {}
