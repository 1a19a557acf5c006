"""A sample of each hour is run through the network that the baseline keeps."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from networks import LinearNetwork

from regrow.errors import BadInput
from regrow.monitor.alarms.false_alarms import FalseAlarms
from regrow.monitor.files.captures import Event
from regrow.monitor.files.cloudwatch import CLOUDWATCH
from regrow.monitor.files.violations import NAMES
from regrow.monitor.hours.collecting import Blocks
from regrow.monitor.hours.folders import done_hours, hour_folder
from regrow.monitor.hours.watching import Settings, Watch

START = datetime(2026, 11, 30, 6, tzinfo=UTC)
LATER = START + timedelta(hours=1)
Captured = Callable[..., list[Event]]
Write = Callable[..., Path]


def _run(
    folder: Path, captures: Path, network: LinearNetwork | None, **own: Any
) -> list[dict[str, Any]]:
    given = {"num_explained": 5} | own
    rate = given.pop("rate", FalseAlarms(images=1e5))
    settings = Settings(START + timedelta(days=1), rate, **given)
    opens = None if network is None else (lambda file: network)
    return Watch(folder, captures, None, settings, opens).run()


def test_it_is_told_scored_and_written(
    probed: Path, network: LinearNetwork, tmp_path: Path, captured: Captured, write: Write
) -> None:
    write(tmp_path / "captures", captured(START, 90))
    write(tmp_path / "captures", captured(LATER, 90, light=0.4))
    clean, dark = _run(probed, tmp_path / "captures", network, num_embedded=40, num_explained=8)
    assert clean["embeddings"] == {"num_pictures": 40, "num_unusable": 0, "reason": ""}
    assert clean["attribution"]["num_pictures"] == 8
    assert {"embedding_distance", "projection_7", "cell_r4c4"} <= clean["scores"].keys()
    assert clean["alarms"] == []
    ranks = [own["scores"]["embedding_distance"]["rank"] for own in (clean, dark)]
    assert abs(ranks[0] - 0.5) < 0.2 < ranks[1] - 0.5
    place = hour_folder(probed, START)
    cells = json.loads((place / "analysis.json").read_text())["explanations"]["kernel_shap"]
    assert cells["label0"]["global_shap_values"].keys() == clean["attribution"]["cells"].keys()
    assert (place / "clarify" / NAMES[0]).is_file()
    assert "explanations" in json.loads((probed / "analysis.json").read_text())
    assert '"MetricName": "feature_cell_r4c4"' in (place / CLOUDWATCH).read_text()
    assert "What the answer comes from" in (place / "report.html").read_text()
    names = [own["name"] for own in json.loads((place / "statistics.json").read_text())["features"]]
    assert not {"embedding_distance", "cell_r1c1"} & {*names}


def test_embeddings_that_moved_warn_and_the_order_of_captures_changes_nothing(
    probed: Path, network: LinearNetwork, tmp_path: Path, captured: Captured, write: Write
) -> None:
    other = tmp_path / "other"
    shutil.copytree(probed, other)
    for number in range(2):
        events = captured(START + timedelta(hours=number), 150, light=0.3)
        write(tmp_path / "one", events)
        for part in range(3):
            write(tmp_path / "many", events[part::3][::-1], f"part{part}")
    rate = FalseAlarms(images=1e3)
    one = _run(probed, tmp_path / "one", network, rate=rate)
    many = _run(other, tmp_path / "many", network, rate=rate)
    assert [{**own, "inputs": 0} for own in one] == [{**own, "inputs": 0} for own in many]
    assert "embedding_distance" in {alarm["name"] for alarm in one[-1]["alarms"]}
    for name in ("state.json", "analysis.json"):
        files = [hour_folder(own, LATER) / name for own in (probed, other)]
        assert files[0].read_bytes() == files[1].read_bytes(), name


def test_blocks_hold_for_a_sample_too(
    probed: Path, network: LinearNetwork, tmp_path: Path, captured: Captured, write: Write
) -> None:
    write(tmp_path / "captures", captured(START))  # all of one camera
    _run(probed, tmp_path / "captures", network, blocks=Blocks("camera", 60))
    state = json.loads((hour_folder(probed, START) / "state.json").read_text())
    assert max(state["shifts"]["projection_3"][2]) == 1  # one block, so one step


def test_without_its_network_a_baseline_is_watched_as_before(
    probed: Path, tmp_path: Path, captured: Captured, write: Write
) -> None:
    write(tmp_path / "captures", captured(START))
    (report,) = _run(probed, tmp_path / "captures", None)
    assert report["embeddings"]["reason"] == "the network is not run"
    assert report["scores"]["projection_0"]["rank"] is None
    assert report["scores"]["brightness"]["rank"] is not None


def test_answers_alone_have_no_embeddings(
    probed: Path, network: LinearNetwork, tmp_path: Path, captured: Captured, write: Write
) -> None:
    write(tmp_path / "captures", [replace(e, input=None) for e in captured(START)])
    (report,) = _run(probed, tmp_path / "captures", network)
    assert report["embeddings"]["reason"] == "no pictures were captured"
    assert report["alarms"] == []


def test_another_network_than_the_kept_one_is_refused_before_anything_is_written(
    probed: Path, network: LinearNetwork, tmp_path: Path, captured: Captured, write: Write
) -> None:
    write(tmp_path / "captures", captured(START))
    (probed / "network.onnx").write_bytes(b"another")
    with pytest.raises(BadInput, match=r"network\.onnx: is not that of this baseline"):
        _run(probed, tmp_path / "captures", network)
    assert done_hours(probed) == []
    off = {"num_embedded": 0, "num_explained": 0}
    assert len(_run(probed, tmp_path / "captures", network, **off)) == 1
