"""The state of the alarms survives a restart to the last bit."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from regrow.errors import BadInput
from regrow.monitor.baseline import Baseline
from regrow.monitor.hours.state import State


def test_it_is_read_as_it_was_written(baseline: Baseline, tmp_path: Path) -> None:
    state, draw = State(baseline), np.random.default_rng(0)
    for detector in state.shifts.values():
        detector.add_(draw.random(50), np.arange(50.0))
    assert state.risk is not None
    state.risk.add_(draw.random(50), np.arange(50.0))
    state.first = state.last = datetime(2026, 11, 30, 7, tzinfo=UTC)
    state.num_steps, state.on = 7, {"warn brightness": "2026-11-30T07:00:00Z"}
    file = tmp_path / "state.json"
    file.write_text(json.dumps(state.to_dict()))
    assert State.read(file, baseline).to_dict() == state.to_dict()
    assert file.stat().st_size < 2000 * len(state.shifts) + 2000


@pytest.mark.parametrize("name", ["shifts", "risk", "first", "num_steps", "on", "history"])
def test_a_part_that_is_missing_or_odd_is_refused(
    baseline: Baseline, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "state.json"
    for odd in (3.5, [[1]], {"a": None}):
        file.write_text(json.dumps({**State(baseline).to_dict(), name: odd}))
        if (name, odd) in (("num_steps", 3.5), ("on", {"a": None})):
            continue  # a number all the same, and a text
        with pytest.raises(BadInput, match=r"state\.json: damaged; remove this hour's folder"):
            State.read(file, baseline)


def test_a_file_that_cannot_be_read_is_told_with_the_way_out(
    baseline: Baseline, tmp_path: Path
) -> None:
    file = tmp_path / "state.json"
    for said in ("cannot be read", "not JSON"):
        with pytest.raises(BadInput, match=rf"state\.json: {said}.*; remove this hour's folder"):
            State.read(file, baseline)
        file.write_text('{"model": ')
