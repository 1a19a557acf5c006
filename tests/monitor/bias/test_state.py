"""The state of the alarms on bias is read back exactly, and damage is refused."""

from typing import Any

import numpy as np
import pytest

from regrow.monitor.bias.observations import Stream
from regrow.monitor.bias.state import BiasState

KEY = ("camera", "3", "AD")


def _state() -> BiasState:
    made = BiasState()
    made.seen.add("camera", ["3", "4"])
    made.num_labels = 5
    codes, times = np.array([1, 0, 1]), np.arange(3.0)
    for metric in ("AD", "DPPL"):
        own = made.detector(("camera", "3", metric), 0.1)
        own.add_(Stream(codes, times, np.arange(3), np.ones(3)), 1)
    return made


def test_it_is_read_as_it_was_written() -> None:
    state = _state()
    again = BiasState.from_dict(state.to_dict())
    assert again.to_dict() == state.to_dict()
    assert again.gaps["camera", "3", "DPPL"].signs == (1, -1)
    assert BiasState.from_dict(None, ["camera"]).to_dict() == BiasState().to_dict()


def test_bets_go_on_unless_their_limit_was_edited() -> None:
    state = _state()
    assert state.detector(KEY, 0.1).num_pictures == 2
    assert state.detector(KEY, 0.2).num_pictures == 0
    assert (state.num_gaps("AD"), state.num_gaps("DPPL")) == (1, 1)


def test_what_is_no_facet_any_more_is_forgotten() -> None:
    state = _state()
    state.detector(("brightness", "dark", "AD"), 0.1)
    state.keep_(["site"])
    assert [*state.gaps] == [("brightness", "dark", "AD")]


@pytest.mark.parametrize(
    "change",
    [{"gaps": [["camera", "3", "TE", {}]]}, {"gaps": [3]}, {"seen": []}, {"num_labels": "x"}],
)
def test_damage_is_an_error_of_the_kinds_that_are_told(change: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError, AttributeError)):
        BiasState.from_dict(_state().to_dict() | change)
