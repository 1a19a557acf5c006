"""The page shows where in the picture the answer comes from, before and now."""

import re
from typing import Any

import pytest

from regrow.monitor.network.attributions import CELLS
from regrow.monitor.network.heat_map import heat_maps


def _told(**own: Any) -> dict[str, Any]:
    cells = {name: {"before": 1.0, "now": float(n)} for n, name in enumerate(CELLS)}
    return {
        "num_pictures": 12, "num_unusable": 2, "reason": "", "cells": cells, "distance": 0.31,
        "by_chance": 0.08, "ndcg": 0.876,
    } | own  # fmt: skip


def test_both_maps_are_drawn_as_percent_and_told_in_words() -> None:
    text = heat_maps(_told())
    before, now = (part.split("</svg>")[0] for part in text.split("<svg")[1:])
    assert re.findall(r">(\d+)</text>", before) == ["6"] * 16
    wanted = [str(round(100 * n / 120)) for n in range(16)]
    assert re.findall(r">(\d+)</text>", now) == wanted
    assert now.count('fill-opacity="1.00"') == 1
    assert "10 pictures of now." in text
    assert "10 pictures of now (more are slow)." in heat_maps(_told(bound="more are slow"))
    assert "differ by 31%" in text
    assert "nDCG is 0.88" in text


def test_attributions_of_nothing_are_drawn_too() -> None:
    none = {name: {"before": 0.0, "now": 0.0} for name in CELLS}
    assert heat_maps(_told(cells=none)).count(">0</text>") == 32


@pytest.mark.parametrize("own", [None, {}, {"num_pictures": 0, "reason": "turned off"}])
def test_without_attributions_there_is_no_section(own: Any) -> None:
    assert heat_maps(own) == ""
