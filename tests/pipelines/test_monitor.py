"""A monitor of each task: its baseline is what the server answers, and clean traffic is clean."""

import base64
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from watched_models import TASKS, capture_of, watched_data

from regrow.data.images.run_lengths import class_runs
from regrow.errors import BadInput, CheckFailed
from regrow.files import file_hash
from regrow.monitor.files.analysis import read_analysis
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
    edges = read_analysis(tmp_path / "monitor")["facet_edges"]["brightness"]
    light = baseline.scores["brightness"]
    assert [int((light <= edge).sum()) for edge in edges] == [8, 16]
    captures = capture_of(tmp_path / "clean", models[kind], [*range(200, 300)], np.asarray)
    (report,) = run_monitor(tmp_path / "monitor", captures, now="2026-11-30T09:00:00Z")
    assert report["alarms"] == []
    assert report["bias"]["label"] == "a"
    assert {*report["bias"]["facets"]} == {"aspect", "brightness"}
    assert report["counts"]["num_pictures"] == 100
    other = tmp_path / "other"
    run_baseline(models[kind], other, watched_data(kind))
    dark = capture_of(tmp_path / "dark", models[kind], [*range(200, 500)], lambda p: p // 4)
    (report,) = run_monitor(
        other, dark, now="2026-11-30T09:00:00Z", false_alarms="1 in 1000 images"
    )
    assert "brightness" in {alarm["name"] for alarm in report["alarms"]}


def in_runs(line: str) -> str:
    """Return a captured line whose mask is written in run lengths, as a client may ask for."""
    captured = json.loads(line)
    output = captured["captureData"]["endpointOutput"]
    answer = json.loads(output["data"])
    (found,) = answer["predictions"]
    with Image.open(io.BytesIO(base64.b64decode(found.pop("mask")))) as opened:
        mask = np.asarray(opened)
    found["masks"] = {
        found["classes"][value]: {"size": [*mask.shape], "counts": counts.tolist()}
        for value, counts in class_runs(mask).items()
    }
    output |= {"data": json.dumps(answer), "observedContentType": "application/json;masks=rle"}
    return json.dumps(captured)


def test_masks_in_run_lengths_are_judged_as_those_in_png(
    models: dict[str, Path], tmp_path: Path
) -> None:
    made = capture_of(tmp_path / "png", models["masks"], [*range(200, 230)], np.asarray)
    (file,) = made.rglob("*.jsonl")
    other = tmp_path / "rle" / file.relative_to(made)
    other.parent.mkdir(parents=True)
    other.write_text("\n".join(map(in_runs, file.read_text().splitlines())))
    truth = {"masks": {"b": {"size": [40, 60], "counts": [0, 2400]}}}
    about = {"data": json.dumps(truth), "encoding": "JSON"}
    labels = [
        json.dumps({"groundTruthData": about, "eventMetadata": {"eventId": f"e{place}"}})
        for place in range(30)
    ]
    (tmp_path / "labels" / "2026/11/30/08").mkdir(parents=True)
    (tmp_path / "labels" / "2026/11/30/08" / "a.jsonl").write_text("\n".join(labels))
    run_baseline(models["masks"], tmp_path / "monitor png", watched_data("masks"))
    shutil.copytree(tmp_path / "monitor png", tmp_path / "monitor rle")
    reports = [
        run_monitor(
            tmp_path / f"monitor {form}",
            tmp_path / form,
            tmp_path / "labels",
            now="2026-11-30T10:00:00Z",
        )
        for form in ("png", "rle")
    ]
    for key in ("counts", "alarms", "violations", "distances", "quality", "remarks"):
        assert [own.get(key) for own in reports[0]] == [own.get(key) for own in reports[1]], key
    assert [report["counts"]["num_pictures"] for report in reports[1]] == [30, 0]
    assert reports[1][1]["quality"]["num_labels"] == 30


@pytest.mark.parametrize("kind", TASKS)
def test_the_kept_network_is_run_again_over_a_sample(
    models: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    folder, captures = tmp_path / "monitor", tmp_path / "captures"
    baseline = run_baseline(models[kind], folder, watched_data(kind, count=45), attributions=20)
    assert baseline.network is not None
    assert baseline.network.sha256 == file_hash(folder / "network.onnx")
    assert {"embedding_distance", "projection_7"} <= baseline.scores.keys()
    assert len(baseline.scores["embedding_distance"]) == 30
    capture_of(captures, models[kind], [*range(200, 230)], np.asarray)
    shutil.copytree(folder, tmp_path / "again")
    reports = [
        run_monitor(own, captures, now="2026-11-30T09:00:00Z", embeddings=25, attributions=3)
        for own in (folder, tmp_path / "again")
    ]
    assert reports[0] == reports[1]
    (report,) = reports[0]
    assert report["alarms"] == []
    assert report["embeddings"] == {"num_pictures": 25, "num_unusable": 0, "reason": ""}
    assert report["attribution"]["num_pictures"] == 3
    # Of a detector that was not trained some pictures may have no object that is sure.
    assert (report["attribution"]["num_unusable"] == 0) or kind == "boxes"


HEAVY = """
import sys
import regrow.pipelines.monitoring.job
from regrow.pipelines.monitor import monitor
for words in (own.split("|") for own in sys.argv[1:]):
    monitor(words)
    absent = ["torch", "torchvision", "pytorch_lightning", "onnx", "scipy.stats"]
    absent += [] if words[0] == "run" else ["onnxruntime"]
    assert not {*absent} & sys.modules.keys(), (words[0], {*absent} & sys.modules.keys())
"""


def test_no_word_but_baseline_imports_pytorch(models: dict[str, Path], tmp_path: Path) -> None:
    folder, place = tmp_path / "monitor", tmp_path / "labels" / "2026/11/30/08"
    run_baseline(models["labels"], folder, watched_data("labels", count=45), attributions=20)
    captures = capture_of(tmp_path / "captures", models["labels"], [*range(200, 230)], np.asarray)
    about = {"data": "a", "encoding": "CSV"}
    label = {"groundTruthData": about, "eventMetadata": {"eventId": "e3"}}
    place.mkdir(parents=True)
    (place / "labels.jsonl").write_text(json.dumps(label))
    run = f"run|{folder}|--captures={captures}|--now=2026-11-30T10:00:00Z"
    others = f"schedule|{folder}|--for=cron|--captures={captures}", f"report|{folder}"
    extract = f"extract|{folder}|--captures={captures}|--out={tmp_path / 'extracted'}"
    words = [run, f"{run}|--ground_truth={tmp_path / 'labels'}"]
    for given in (others[:1], [extract], words, others[1:]):
        subprocess.run([sys.executable, "-c", HEAVY, *given], check=True)
    report = json.loads((folder / "hours/2026/11/30/08/report.json").read_text())
    assert report["quality"]["num_labels"] == 1
    report = json.loads((folder / "hours/2026/11/30/07/report.json").read_text())
    assert report["attribution"]["num_pictures"] == 30


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
        ([], "the first word is '', it must be one of baseline, run, extract, report, schedule"),
        (["watch"], "the first word is 'watch'"),
        (["run", "nowhere", "--captures=c"], "nowhere: no baseline in it"),
        (["run", ".", "--captures=c", "--now=soon"], "'soon' is no time"),
        (["run", ".", "--captures=c", "--false-alarms=never"], "--false-alarms is 'never'"),
        (["run", ".", "--captures=c", "--block-minutes=0"], "block_minutes is 0"),
        (["run", ".", "--captures=c", "--smallest-group=0"], "smallest_group is 0"),
        (["run", ".", "--captures=c", "--embeddings=-1"], r"embeddings is -1, it must lie in \[0"),
        (["run", ".", "--captures=c", "--attributions=10001"], "attributions is 10001"),
        (["report", "nowhere"], "nowhere: no baseline in it"),
    ],
)
def test_words_that_cannot_be_meant_are_one_line(words: list[str], match: str) -> None:
    with pytest.raises(BadInput, match=match):
        monitor(words)
