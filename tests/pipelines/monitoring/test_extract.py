"""The word `extract`: shares are extracted, and one run judges them as it would the captures."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from watched_models import TASKS, capture_of, watched_data

from regrow.errors import BadInput
from regrow.pipelines.monitor import monitor
from regrow.pipelines.monitoring.baseline import run_baseline

NOW = "--now=2026-11-30T09:00:00Z"


def _files(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for file in (folder / "hours").rglob("*.json*"):
        found[str(file.relative_to(folder))] = file.read_bytes()
        if file.name == "report.json":
            content = json.loads(file.read_bytes()) | {"inputs": None}
            found[str(file.relative_to(folder))] = content
    return found


@pytest.mark.parametrize("kind", TASKS)
def test_shares_are_extracted_and_one_run_judges_them(
    models: dict[str, Path], tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder, other = tmp_path / "monitor", tmp_path / "other"
    run_baseline(models[kind], folder, watched_data(kind, count=45), attributions=20)
    shutil.copytree(folder, other)
    plain = capture_of(tmp_path / "plain", models[kind], [*range(200, 250)], np.asarray)
    (file,) = plain.rglob("*.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    counts = ["--embeddings=12", "--attributions=2"]
    for share in range(2):
        place = tmp_path / f"share{share}" / file.relative_to(plain)
        place.parent.mkdir(parents=True)
        place.with_name(f"{share}.jsonl").write_bytes(b"".join(lines[share::2]))
        out = tmp_path / "out" / str(share)
        words = [f"--captures={tmp_path / f'share{share}'}", f"--out={out}"]
        with caplog.at_level(logging.INFO):
            monitor(["extract", str(other), *words, *counts])
    assert "25 captures of 1 file, " in caplog.text
    monitor(["run", str(folder), f"--captures={plain}", NOW, *counts])
    monitor(["run", str(other), f"--captures={tmp_path / 'out'}", NOW, *counts])
    assert _files(other) == _files(folder)
    (report,) = (own for name, own in _files(other).items() if name.endswith("report.json"))
    assert report["embeddings"]["num_pictures"] == 12


def test_numbers_alone_hold_no_picture(models: dict[str, Path], tmp_path: Path) -> None:
    run_baseline(models["labels"], tmp_path / "m", watched_data("labels"))
    capture_of(tmp_path / "c", models["labels"], [*range(30)], np.asarray)
    words = [str(tmp_path / "m"), f"--captures={tmp_path / 'c'}", f"--out={tmp_path / 'out'}"]
    monitor(["extract", *words, "--pictures=false"])
    (file,) = (tmp_path / "out").rglob("*.jsonl")
    assert b"endpointInput" not in file.read_bytes()
    assert not (tmp_path / "out" / ".lock").exists()
    monitor(["run", *words[:1], f"--captures={tmp_path / 'out'}", NOW])


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["nowhere", "--captures=c", "--out=o"], "nowhere: no baseline in it"),
        ([".", "--captures=c", "--out=o", "--embeddings=-1"], "embeddings is -1, it must lie in"),
        ([".", "--captures=c"], "out"),
    ],
)
def test_words_that_cannot_be_meant_are_one_line(words: list[str], match: str) -> None:
    with pytest.raises(BadInput, match=match):
        monitor(["extract", *words])


def test_a_folder_that_cannot_be_made_is_one_line(models: dict[str, Path], tmp_path: Path) -> None:
    run_baseline(models["labels"], tmp_path / "m", watched_data("labels"), attributions=0)
    (tmp_path / "c").mkdir()
    (tmp_path / "o").symlink_to(tmp_path / "nowhere")
    words = [str(tmp_path / "m"), f"--captures={tmp_path / 'c'}", f"--out={tmp_path / 'o'}"]
    with pytest.raises(BadInput, match=r"/o: cannot be written \(File exists\)"):
        monitor(["extract", *words])
