"""A monitor of each task: its baseline is what the server answers, and clean traffic is clean."""

from pathlib import Path

import numpy as np
import pytest
from watched_models import TASKS, capture_of, watched_data

from regrow.errors import BadInput, CheckFailed
from regrow.models.checkpoint import file_hash
from regrow.pipelines.monitor import monitor, run_monitor
from regrow.pipelines.monitoring.baseline import run_baseline


@pytest.mark.parametrize("kind", TASKS)
def test_clean_traffic_is_clean_and_inverted_pictures_warn(
    models: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    baseline = run_baseline(models[kind], tmp_path / "monitor", watched_data(kind))
    assert baseline.model == file_hash(models[kind])
    assert (baseline.kind, baseline.split, baseline.num_groups) == (kind, "test", 24)
    assert baseline.promise is not None
    prefix = {"labels": "probability of a", "boxes": "boxes of a", "masks": "share of a"}[kind]
    assert prefix in baseline.scores
    captures = capture_of(tmp_path / "clean", models[kind], [*range(200, 300)], np.asarray)
    (report,) = run_monitor(tmp_path / "monitor", captures, now="2026-11-30T09:00:00Z")
    assert report["alarms"] == []
    assert report["counts"]["num_pictures"] == 100
    other = tmp_path / "other"
    run_baseline(models[kind], other, watched_data(kind))
    dark = capture_of(tmp_path / "dark", models[kind], [*range(200, 500)], lambda p: p // 4)
    (report,) = run_monitor(
        other, dark, now="2026-11-30T09:00:00Z", false_alarms="1 in 1000 images"
    )
    assert "brightness" in {alarm["name"] for alarm in report["alarms"]}


def test_a_violation_ends_with_check_failed_each_time(
    models: dict[str, Path], tmp_path: Path
) -> None:
    run_baseline(models["labels"], tmp_path / "m", watched_data("labels"))
    captures = capture_of(tmp_path / "c", models["labels"], [1, 2], lambda p: np.zeros_like(p))
    for _ in range(2):
        with pytest.raises(CheckFailed, match=r"2 violations|1 violation"):
            run_monitor(tmp_path / "m", captures, now="2026-11-30T09:00:00Z")


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ([], "the first word is '', it must be one of baseline, run, report"),
        (["watch"], "the first word is 'watch'"),
        (["run", "nowhere", "--captures=c"], "nowhere: no baseline in it"),
        (["run", ".", "--captures=c", "--now=soon"], "'soon' is no time"),
        (["run", ".", "--captures=c", "--false-alarms=never"], "--false-alarms is 'never'"),
        (["run", ".", "--captures=c", "--block-minutes=0"], "block_minutes is 0"),
        (["report", "nowhere"], "nowhere: no baseline in it"),
    ],
)
def test_words_that_cannot_be_meant_are_one_line(words: list[str], match: str) -> None:
    with pytest.raises(BadInput, match=match):
        monitor(words)
