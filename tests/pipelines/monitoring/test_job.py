"""A monitoring job is a run of the monitor over the window that the platform names."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from watched_models import capture_of, watched_data

from regrow.monitor.files.violations import NAMES
from regrow.pipelines.monitor import run_monitor
from regrow.pipelines.monitoring import job
from regrow.pipelines.monitoring.baseline import run_baseline
from regrow.scripts import sagemaker_entry

# As the pages of the contract have them.
FORMAT = {"sagemakerCaptureJson": {"captureIndexNames": ["endpointInput", "endpointOutput"]}}
VARIABLES = {
    "dataset_format": json.dumps(FORMAT),
    "dataset_source": "/opt/ml/processing/endpointdata",
    "output_path": "/opt/ml/processing/resultdata",
    "publish_cloudwatch_metrics": "Enabled",
    "sagemaker_endpoint_name": "road",
    "sagemaker_monitoring_schedule_name": "hourly-road",
    "regrow_embeddings": "0",
    "regrow_attributions": "0",
}
HOURS = "hours/2026/11/30"
Job = Callable[..., int]


@pytest.fixture(scope="module")
def baseline(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("baseline") / "monitor"
    run_baseline(models["labels"], made, watched_data("labels"), attributions=0)
    return made


@pytest.fixture(scope="module")
def lines(
    models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., list[str]]:
    """Return captures of an hour, as an endpoint writes them."""
    made: dict[str, list[str]] = {}
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "clean": np.asarray,
        "black": np.zeros_like,
    }
    for kind, change in changes.items():
        folder = tmp_path_factory.mktemp(kind)
        capture_of(folder, models["labels"], [*range(200, 230)], change)
        made[kind] = next(folder.rglob("*.jsonl")).read_text().splitlines()

    def of_hour(hour: int, kind: str = "clean") -> list[str]:
        texts = [line.replace("2026-11-30T07:", f"2026-11-30T{hour:02d}:") for line in made[kind]]
        return [line.replace('"eventId": "e', f'"eventId": "h{hour}-') for line in texts]

    return of_hour


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a container that a platform has just started."""
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    (tmp_path / "processing" / "endpointdata").mkdir(parents=True)
    (tmp_path / "output").mkdir()
    return tmp_path


def _capture(base: Path, hour: int, lines: Sequence[str]) -> Path:
    place = base / "processing/endpointdata/road/AllTraffic" / f"2026/11/30/{hour:02d}"
    place.mkdir(parents=True)
    (place / "a.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return base / "processing" / "endpointdata"


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, baseline: Path) -> Job:
    """Return a function that starts the container for a window of hours."""

    def started(first: int, last: int, **more: str) -> int:
        window = {
            "start_time": f"2026-11-30T{first:02d}:00:00Z",
            "end_time": f"2026-11-30T{last:02d}:00:00Z",
        }
        given = {"regrow_baseline": str(baseline)} | VARIABLES | window | more
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        return sagemaker_entry.main(["monitor"])

    return started


def _message(base: Path) -> str:
    return (base / "output" / "message").read_text()


def _json(file: Path) -> Any:
    return json.loads(file.read_text())


def _by_hand(tmp_path: Path, baseline: Path, captures: Path, **own: Any) -> list[dict[str, Any]]:
    """Run the monitor as a person does, without a container."""
    folder = tmp_path / "by hand"
    shutil.copytree(baseline, folder)
    named = {"endpoint": "road", "schedule": "hourly-road", "embeddings": 0, "attributions": 0}
    return run_monitor(folder, captures, **named, **own)


def test_a_job_finds_what_a_run_over_its_window_finds(
    base: Path, baseline: Path, lines: Callable[..., list[str]], start: Job
) -> None:
    for hour in (6, 7, 8, 9):  # the platform brings more hours than those of the window
        captures = _capture(base, hour, lines(hour, "clean" if hour == 7 else "black"))
    assert start(7, 8) == 0
    out = base / "processing" / "resultdata"
    alone = _capture(base / "alone", 7, lines(7))
    (report,) = _by_hand(base, baseline, alone, now="2026-11-30T08:00:00Z")
    made = _json(out / "report.json")
    assert made.pop("inputs")["captures"].keys() == {"road/AllTraffic/2026/11/30/07/a.jsonl"}
    assert made == {name: value for name, value in report.items() if name != "inputs"}
    assert _message(base) == "Completed: nothing has changed in 30 pictures\n"
    assert [file.name for file in (out / HOURS).iterdir()] == ["07"]
    own = base / "by hand" / HOURS / "07"
    for name in ("statistics.json", *NAMES):
        assert (out / name).read_bytes() == (own / name).read_bytes(), name
    for name in ("report.html", "state.json", "statistics.json", "labelled.json"):
        assert (out / HOURS / "07" / name).is_file() == (own / name).is_file(), name
    assert (out / "report.html").read_bytes() == (out / HOURS / "07/report.html").read_bytes()
    assert _json(out / "constraints.json") == _json(baseline / "constraints.json")
    assert captures.is_dir()
    # A line is an object, in a file below a folder that the platform has made.
    (file,) = (base / "output" / "metrics" / "cloudwatch").iterdir()
    metrics = [json.loads(line) for line in file.read_text().splitlines()]
    assert {"pictures": 30.0}.items() <= {m["MetricName"]: m["Value"] for m in metrics}.items()
    for metric in metrics:
        assert metric["Dimensions"] == [
            {"Name": "Endpoint", "Value": "road"},
            {"Name": "MonitoringSchedule", "Value": "hourly-road"},
        ]
    # Nothing of the job's own is left beside what the platform keeps.
    assert {file.name for file in base.iterdir()} == {"alone", "by hand", "output", "processing"}
    assert {file.name for file in out.parent.iterdir()} == {"endpointdata", "resultdata"}


def test_violations_are_a_result_and_no_failure(
    base: Path, lines: Callable[..., list[str]], start: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    _capture(base, 7, lines(7, "black"))
    assert start(7, 8, publish_cloudwatch_metrics="Disabled") == 0
    assert _message(base).startswith("CompletedWithViolations: ")
    assert "violation" in _message(base)
    out = base / "processing" / "resultdata"
    found = [_json(out / name)["violations"] for name in NAMES]
    assert found[0] == found[1]
    assert "blank" in {own["feature_name"] for own in found[0]}
    assert not (base / "output" / "metrics").exists()
    assert "Traceback" not in capsys.readouterr().err


def test_a_longer_window_is_told_as_a_whole(
    base: Path, lines: Callable[..., list[str]], start: Job
) -> None:
    for hour, kind in ((6, "black"), (7, "black"), (8, "clean")):
        _capture(base, hour, lines(hour, kind))
    assert start(6, 9) == 0
    out = base / "processing" / "resultdata"
    assert sorted(file.name for file in (out / HOURS).iterdir()) == ["06", "07", "08"]
    assert _message(base).startswith("CompletedWithViolations: ")
    assert _message(base).endswith(" in 90 pictures\n")
    # What both hours violate is told once, and is told though the last hour is fine.
    found = _json(out / NAMES[0])["violations"]
    checks = [(own["feature_name"], own["constraint_check_type"]) for own in found]
    assert len(checks) == len({*checks})
    last = _json(out / HOURS / "08" / NAMES[0])["violations"]
    gone = [own for own in found if own not in last and "descriptive" not in own["description"]]
    assert [own["feature_name"] for own in gone] == ["blank"]
    assert _json(out / "report.json")["hour"] == "2026-11-30T08:00:00Z"
    means = []
    for place in (out, *(out / HOURS / name for name in ("06", "07", "08"))):
        (own,) = (f for f in _json(place / "statistics.json")["features"] if f["name"] == "width")
        means.append(own["numerical_statistics"]["common"]["num_present"])
    assert means == [90, 30, 30, 30]
    lines_of = (base / "output/metrics/cloudwatch/cloudwatch_metrics.jsonl").read_text()
    times = {json.loads(line)["Timestamp"] for line in lines_of.splitlines()}
    assert times == {f"2026-11-30T{hour:02d}:00:00Z" for hour in (7, 8, 9)}


def test_the_alarms_go_on_from_the_results_of_the_job_before(
    base: Path, baseline: Path, lines: Callable[..., list[str]], start: Job
) -> None:
    for hour in (6, 7):
        captures = _capture(base, hour, lines(hour))
    assert start(6, 7) == 0
    out, state = base / "processing" / "resultdata", base / "processing" / "state"
    out.rename(state)
    assert start(7, 8) == 0
    _by_hand(base, baseline, captures, now="2026-11-30T08:00:00Z")
    own = _json(base / "by hand" / HOURS / "07" / "state.json")
    assert _json(out / HOURS / "07" / "state.json") == own
    assert (own["first"], own["num_steps"]) == ("2026-11-30T06:00:00Z", 60)
    assert [file.name for file in (out / HOURS).iterdir()] == ["07"]
    # Without the results of the job before, they begin with the window.
    shutil.rmtree(state)
    assert start(7, 8) == 0
    alone = _json(out / HOURS / "07" / "state.json")
    assert (alone["first"], alone["num_steps"]) == ("2026-11-30T07:00:00Z", 30)


def test_without_a_window_all_is_judged_that_is_newer_than_the_state(
    base: Path, baseline: Path, lines: Callable[..., list[str]], start: Job
) -> None:
    for hour in (6, 7, 8):
        _capture(base, hour, lines(hour))
    assert start(6, 7) == 0
    out = base / "processing" / "resultdata"
    out.rename(base / "processing" / "state")
    shutil.copy(baseline / "baseline.json", base / "processing" / "state")
    assert start(7, 8, start_time="", end_time="") == 0
    assert sorted(file.name for file in (out / HOURS).iterdir()) == ["07", "08"]
    assert _message(base) == "Completed: nothing has changed in 60 pictures\n"


def test_a_job_may_be_run_again(base: Path, lines: Callable[..., list[str]], start: Job) -> None:
    _capture(base, 7, lines(7))
    out = base / "processing" / "resultdata"
    first = []
    for _ in range(2):
        assert start(7, 8) == 0
        first.append((_message(base), _json(out / "report.json")))
        shutil.rmtree(base / "processing" / "state", ignore_errors=True)
        shutil.copytree(out, base / "processing" / "state")
    assert first[0] == first[1]


def _label(number: int, label: str, **more: Any) -> str:
    about = {"eventMetadata": {"eventId": f"h7-{number}"}, "eventVersion": "0"}
    return json.dumps({"groundTruthData": {"data": label, "encoding": "CSV"}} | about | more)


def test_labels_are_an_input_of_the_job(
    base: Path, lines: Callable[..., list[str]], start: Job
) -> None:
    _capture(base, 7, lines(7))
    place = base / "processing/groundtruth/2026/11/30/07"
    place.mkdir(parents=True)
    (place / "a.jsonl").write_text("\n".join(_label(number, "a") for number in range(20)))
    assert start(7, 8) == 0
    report = _json(base / "processing" / "resultdata" / "report.json")
    assert report["quality"]["num_labels"] == 20


def test_labels_may_be_merged_into_the_captures(
    base: Path, lines: Callable[..., list[str]], start: Job
) -> None:
    merged = [
        json.dumps(json.loads(line) | {"groundTruthData": {"data": "b", "encoding": "CSV"}})
        for line in lines(7)
    ]
    _capture(base, 7, merged)
    assert start(7, 8, regrow_ground_truth=VARIABLES["dataset_source"]) == 0
    report = _json(base / "processing" / "resultdata" / "report.json")
    assert report["quality"]["num_labels"] == 30
    assert report["counts"]["num_pictures"] == 30


def test_the_constraints_of_the_schedule_count(
    base: Path, baseline: Path, lines: Callable[..., list[str]], start: Job
) -> None:
    _capture(base, 7, lines(7))
    asked = base / "processing" / "baseline" / "constraints" / "constraints.json"
    asked.parent.mkdir(parents=True)
    content = _json(baseline / "constraints.json")
    content["features"].append({"name": "camera", "inferred_type": "String", "completeness": 1.0})
    asked.write_text(json.dumps(content))
    given = "/opt/ml/processing/baseline/constraints/constraints.json"
    assert start(7, 8, baseline_constraints=given) == 0
    out = base / "processing" / "resultdata"
    assert "camera" in {own["feature_name"] for own in _json(out / NAMES[0])["violations"]}
    assert _json(out / "constraints.json") == content


def test_a_window_without_captures_is_completed(
    base: Path, lines: Callable[..., list[str]], start: Job
) -> None:
    captures = _capture(base, 6, lines(6))
    assert start(7, 8) == 0
    assert _message(base) == (
        f"Completed: no captures in {captures} of an hour that ends from 2026-11-30T07:00:00Z to "
        "2026-11-30T08:00:00Z\n"
    )
    out = base / "processing" / "resultdata"
    assert [_json(out / name) for name in NAMES] == [{"violations": []}] * 2


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"start_time": "soon"}, "start_time: 'soon' is no time"),
        ({"end_time": "2026-11-30T07:00:00Z"}, "the window from 2026-11-30T07:00:00Z to 2026"),
        ({"dataset_source": "/opt/ml/processing/nothing"}, "where no folder of captures is"),
        ({"regrow_baseline": "/nowhere"}, "no baseline.json in /nowhere"),
        ({"regrow_false_alarms": "never"}, "--false-alarms is 'never'"),
        ({"regrow_embeddings": "many"}, "a variable regrow_...: "),
        ({"regrow_now": "2026-11-30T08:00:00Z"}, "a variable regrow_...: now: no such option"),
        ({"baseline_constraints": "/opt/ml/none.json"}, "none.json: cannot be read"),
        ({"baseline_statistics": "/opt/ml/other.json"}, "of another baseline than that in"),
        ({"output_path": "/opt/ml/other.json"}, "other.json: cannot be written (File exists)"),
    ],
)
def test_unusable_inputs_are_one_line(
    base: Path,
    lines: Callable[..., list[str]],
    start: Job,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    said: str,
) -> None:
    _capture(base, 7, lines(7))
    (base / "output" / "message").write_text("Completed: of the job before\n")
    (base / "other.json").write_text('{"version": 0, "features": []}')
    assert start(7, 8, **variables) == 2
    text = _message(base)
    assert text.startswith("Failed: ")
    assert said in text
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert err.splitlines()[-1] == f"error: {text.removeprefix('Failed: ').rstrip()}"


def test_a_damaged_result_of_an_earlier_job_is_named_where_it_lies(
    base: Path, lines: Callable[..., list[str]], start: Job
) -> None:
    for hour in (6, 7):
        _capture(base, hour, lines(hour))
    assert start(6, 7) == 0
    state = base / "processing" / "state"
    (base / "processing" / "resultdata").rename(state)
    (state / HOURS / "06" / "state.json").write_text("{}")
    assert start(7, 8) == 2
    assert f"{state / HOURS / '06' / 'state.json'}: damaged" in _message(base)


def test_pytorch_is_not_imported() -> None:
    code = "import sys, regrow.pipelines.monitoring.job; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_any_other_error_is_told_too(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> str:
        raise ZeroDivisionError("division by\nzero")

    (base / "processing" / "input").mkdir()
    monkeypatch.setattr(job, "run_job", broken)
    with pytest.raises(ZeroDivisionError):
        job.monitor_job()
    assert _message(base) == "Failed: ZeroDivisionError: division by zero\n"
