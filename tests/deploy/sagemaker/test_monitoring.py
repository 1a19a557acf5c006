"""What the platform says to a container that monitors is read, and refused where it is odd."""

import json
from pathlib import Path
from typing import Any

import pytest

from regrow.deploy.sagemaker.monitoring import MonitoringJob, message_file, write_message
from regrow.errors import BadInput

# As the contract's page has them, for an endpoint that is called road.
VARIABLES = {
    "dataset_format": '{"sagemakerCaptureJson":{"captureIndexNames":'
    '["endpointInput","endpointOutput"]}}',
    "dataset_source": "/opt/ml/processing/endpointdata",
    "output_path": "/opt/ml/processing/resultdata",
    "publish_cloudwatch_metrics": "Enabled",
    "sagemaker_endpoint_name": "road",
    "sagemaker_monitoring_schedule_name": "hourly-road",
    "sagemaker_endpoint_datacapture_prefix": "s3://b/capture",
    "start_time": "2026-11-30T07:00:00Z",
    "end_time": "2026-11-30T08:00:00Z",
    "baseline_constraints": "/opt/ml/processing/baseline/constraints/constraints.json",
    "baseline_statistics": "/opt/ml/processing/baseline/stats/statistics.json",
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "processing" / "endpointdata").mkdir(parents=True)
    return tmp_path


def _read(base: Path, **more: str) -> MonitoringJob:
    return MonitoringJob.from_environment(
        {"SAGEMAKER_BASE_DIR": str(base), "PATH": "/bin", **VARIABLES, **more}
    )


def test_the_variables_of_the_contract_are_read(base: Path) -> None:
    found = _read(base, regrow_false_alarms="1 in 4 weeks", regrow_blocks="camera")
    processing = base / "processing"
    assert (found.captures, found.output) == (
        processing / "endpointdata",
        processing / "resultdata",
    )
    assert found.metrics == base / "output" / "metrics"
    assert found.constraints == processing / "baseline/constraints/constraints.json"
    assert found.statistics == processing / "baseline/stats/statistics.json"
    assert (found.start, found.end) == ("2026-11-30T07:00:00Z", "2026-11-30T08:00:00Z")
    assert (found.endpoint, found.schedule) == ("road", "hourly-road")
    assert (found.state, found.ground_truth) == (None, None)
    assert found.options == {"false_alarms": "1 in 4 weeks", "blocks": "camera"}


def test_without_variables_the_usual_places_count(tmp_path: Path) -> None:
    for name in ("input", "state", "groundtruth"):
        (tmp_path / "processing" / name).mkdir(parents=True)
    found = MonitoringJob.from_environment({"SAGEMAKER_BASE_DIR": str(tmp_path)})
    assert found.captures == tmp_path / "processing" / "input"
    assert found.output == tmp_path / "processing" / "output"
    assert found.state == tmp_path / "processing" / "state"
    assert found.ground_truth == tmp_path / "processing" / "groundtruth"
    assert (found.metrics, found.constraints, found.start, found.end) == (None, None, "", "")
    assert found.baselines == (
        tmp_path / "processing" / "baseline",
        tmp_path / "processing" / "state",
        Path("/opt/regrow/baseline"),
    )


def test_the_image_may_name_its_baseline_and_the_schedule_lies_beside(base: Path) -> None:
    assert _read(base).baselines[0] == base / "processing" / "baseline" / "stats"
    assert _read(base, regrow_baseline="/srv/road").baselines == (Path("/srv/road"),)


def test_variables_of_the_jobs_configuration_count_where_the_process_has_none(base: Path) -> None:
    own = {"regrow_blocks": "video", "sagemaker_endpoint_name": "other"}
    config = {"ProcessingJobName": "a", "Environment": own, "ProcessingInputs": []}
    (base / "config").mkdir()
    (base / "config" / "processingjobconfig.json").write_text(json.dumps(config))
    found = _read(base)
    assert (found.options, found.endpoint) == ({"blocks": "video"}, "road")


def test_labels_may_lie_in_the_captures_as_the_platform_merges_them(base: Path) -> None:
    found = _read(base, regrow_ground_truth="/opt/ml/processing/endpointdata")
    assert found.ground_truth == found.captures


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("dataset_source", "/etc", "'/etc'; the platform's paths lie below /opt/ml"),
        ("dataset_source", "/opt/ml/../../etc", "the platform's paths lie below /opt/ml"),
        ("dataset_source", "endpointdata", "the platform's paths lie below /opt/ml"),
        ("dataset_source", "/opt/ml/nothing", "where no folder of captures is"),
        ("dataset_source", "/opt/ml/processing/\x1b[2J", "which is no text of the platform's"),
        ("output_path", "/opt/ml/processing/endpointdata", "which holds the job's own inputs"),
        ("output_path", "/opt/ml/processing", "which holds the job's own inputs"),
        ("output_path", "/opt/ml/" + "a/" * 200, "which is no text of the platform's"),
        ("output_path", "~/results", "the platform's paths lie below /opt/ml"),
        ("baseline_constraints", "/opt/ml/\ud800", "which is no text of the platform's"),
        ("publish_cloudwatch_metrics", "yes", "'yes'; the platform sets Enabled or Disabled"),
        ("dataset_format", '{"csv":{"header":["true"]}}', "only captures of an endpoint are read"),
        ("dataset_format", "[1]", "only captures of an endpoint are read"),
        ("dataset_format", "{", ""),
        ("dataset_format", "[" * 100_000, ""),
        ("start_time", "a" * 5000, "which is no text of the platform's"),
        ("sagemaker_endpoint_name", "a\x00b", "which is no text of the platform's"),
        ("regrow_ground_truth", "/opt/ml/processing/labels", "where no folder is"),
        ("regrow_state", "/tmp", "the platform's paths lie below /opt/ml"),
    ],
)
def test_an_odd_variable_is_named(base: Path, name: str, value: str, said: str) -> None:
    with pytest.raises(BadInput, match=f"^{name}") as got:
        _read(base, **{name: value})
    assert said in str(got.value)
    assert str(got.value).isprintable()
    assert len(str(got.value)) < 400


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("resourceconfig", {"current_host": "algo-1", "hosts": ["algo-1", "algo-2"]}, "2 machines"),
        ("resourceconfig", {"hosts": 3}, "the platform writes a list of names"),
        ("resourceconfig", [], "expected a JSON object"),
        ("processingjobconfig", {"Environment": ["a"]}, "Environment holds no texts by name"),
        ("processingjobconfig", {"Environment": {"a": 1}}, "Environment holds no texts by name"),
        ("processingjobconfig", "text", "expected a JSON object"),
    ],
)
def test_an_odd_configuration_is_named(base: Path, name: str, content: Any, said: str) -> None:
    (base / "config").mkdir()
    (base / "config" / f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(BadInput, match=said):
        _read(base)


def test_a_message_is_one_line_that_the_platform_keeps_whole(tmp_path: Path) -> None:
    assert message_file(tmp_path) == tmp_path / "output" / "message"
    write_message(tmp_path, "Failed: a\nb \x1b[2J" + "c" * 5000)
    text = (tmp_path / "output" / "message").read_text()
    assert text.startswith("Failed: a b \\x1b[2Jccc")
    assert text.count("\n") == 1
    assert len(text) <= 1024
