"""Schedules are written as files that their programs take, and start the run that was meant."""

import json
import logging
import shlex
import shutil
from pathlib import Path

import pytest
from schedulers import cron_command, systemd_words
from watched_models import watched_data

from regrow.cli import parse
from regrow.deploy.sagemaker.monitoring import IMAGE_BASELINE, MonitoringJob
from regrow.errors import BadInput
from regrow.files import file_hash
from regrow.monitor.baseline import Baseline
from regrow.monitor.files.analysis import read_analysis
from regrow.pipelines.monitor import monitor, run_monitor
from regrow.pipelines.monitoring.baseline import run_baseline
from regrow.pipelines.monitoring.schedule import run_schedule


@pytest.fixture(scope="module")
def folder(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("a") / "my 100% monitor's $HOME"
    run_baseline(models["labels"], made, watched_data("labels", count=45), attributions=20)
    return made


def test_a_unit_of_systemd_runs_the_monitor(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    captures = tmp_path / "my 50% captures"
    captures.mkdir()
    with caplog.at_level(logging.INFO):
        files = run_schedule(
            folder, "systemd", captures, false_alarms="1 in 4 weeks", name="watch-road"
        )
        assert [file.name for file in files] == ["watch-road.service", "watch-road.timer"]
        assert all(file.parent == folder / "schedule" for file in files)
        assert "next: systemctl --user link " in caplog.text
        words = systemd_words(files[0].read_text(), {"HOME": "/root"})
        assert words[1:4] == ["-P", "-m", "regrow.scripts.monitor"]
        monitor(words[4:])
    assert f"no new captures in {captures}" in caplog.text


def test_a_line_of_a_crontab_says_the_same(folder: Path, tmp_path: Path) -> None:
    options = {"ground_truth": tmp_path / "labels", "blocks": "camera", "block_minutes": 5}
    options |= {"facets": ["camera", "brightness"], "smallest_group": 50}
    options |= {"embeddings": 100, "attributions": 0}
    (file,) = run_schedule(folder, "cron", tmp_path, every="daily", **options)
    text = file.read_text()
    assert text.startswith("5 0 * * * flock -n ")
    words = shlex.split(cron_command(text))
    assert words[:3] == ["flock", "-n", str(folder / "schedule" / "lock")]
    assert words[7:9] == ["run", str(folder)]
    assert words[9:] == [
        f"--captures={tmp_path}",
        f"--ground_truth={tmp_path / 'labels'}",
        "--blocks=camera",
        "--block_minutes=5",
        '--facets=["camera", "brightness"]',
        "--smallest_group=50",
        "--embeddings=100",
        "--attributions=0",
    ]
    said, _ = parse(run_monitor, words[8:], description="", positional={"folder": ""})
    assert {name: said[name] for name in options} == options


def test_sagemaker_gets_a_request_and_a_container_with_the_baseline(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        monitor(["schedule", str(folder), "--for", "sagemaker", "--blocks", "camera"])
    assert "set YOUR_ACCOUNT (number of the AWS account)" in caplog.text
    request = json.loads((folder / "schedule" / "create_monitoring_schedule.json").read_text())
    job = request["MonitoringScheduleConfig"]["MonitoringJobDefinition"]
    assert job["Environment"]["regrow_blocks"] == "camera"
    copied = (folder / "schedule" / "Dockerfile").read_text().splitlines()[1].split()[1:-1]
    # What is copied is a baseline by itself, with the network that it keeps.
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in copied:
        shutil.copy(folder / name, alone / name)
    found = Baseline.read(alone)
    assert found.network is not None
    assert file_hash(alone / "network.onnx") == found.network.sha256
    assert read_analysis(alone) == read_analysis(folder)


def test_the_container_finds_what_its_requests_name(folder: Path, tmp_path: Path) -> None:
    monitor(["schedule", str(folder), "--for=sagemaker", "--endpoint=road", "--blocks=camera"])
    made = folder / "schedule"
    request = json.loads((made / "create_monitoring_schedule.json").read_text())
    job = request["MonitoringScheduleConfig"]["MonitoringJobDefinition"]
    (source,) = (own["EndpointInput"]["LocalPath"] for own in job["MonitoringInputs"])
    (output,) = (
        own["S3Output"]["LocalPath"] for own in job["MonitoringOutputConfig"]["MonitoringOutputs"]
    )
    base = tmp_path / "container"
    (base / "processing" / "input").mkdir(parents=True)
    told = {"SAGEMAKER_BASE_DIR": str(base), "dataset_source": source, "output_path": output}
    found = MonitoringJob.from_environment(told | job["Environment"])
    assert found.captures == base / "processing" / "input"
    assert found.output == base / "processing" / "output"
    assert found.metrics == base / "output" / "metrics"
    assert (found.state, found.ground_truth) == (None, None)
    assert found.options == {"blocks": "camera"}
    last = (made / "Dockerfile").read_text().splitlines()[-1]
    assert last == f"ENV regrow_baseline={IMAGE_BASELINE}"
    # The job with more inputs has no variables for them.
    alone = json.loads((made / "create_processing_job.json").read_text())
    for own in alone["ProcessingInputs"]:
        place = own["S3Input"]["LocalPath"].removeprefix("/opt/ml/")
        (base / place).mkdir(parents=True, exist_ok=True)
    found = MonitoringJob.from_environment(
        {"SAGEMAKER_BASE_DIR": str(base), **alone["Environment"]}
    )
    assert found.captures == base / "processing" / "input"
    assert found.state == base / "processing" / "state"
    assert found.ground_truth == base / "processing" / "groundtruth"
    assert (found.endpoint, found.schedule) == ("road", "regrow-monitor")
    assert found.options == {"blocks": "camera"}
    (result,) = alone["ProcessingOutputConfig"]["Outputs"]
    assert result["S3Output"]["LocalPath"] == "/opt/ml/processing/output"


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--for=cron"], "there is no folder of captures; name it with --captures"),
        (["--for=systemd", "--captures=c", "--every=NOW"], "--every is NOW, one run"),
        (["--for=systemd", "--captures=c", "--every=weekly"], "--every is 'weekly'; write hourly"),
        (["--for=systemd", "--captures=c", "--name=a b"], "name is 'a b'; it must be letters"),
        (["--for=sagemaker", "--endpoint=a_b"], "endpoint is 'a_b'; it must be letters"),
        (["--for=sagemaker", "--captures=c"], "SageMaker's jobs get captures and labels as inputs"),
        (["--for=cron", "--captures=c", "--block-minutes=0"], "block_minutes is 0"),
        (["--for=cron", "--captures=c", "--false-alarms=no"], "--false-alarms is 'no'"),
    ],
)
def test_what_cannot_be_scheduled_is_one_line(folder: Path, words: list[str], match: str) -> None:
    with pytest.raises(BadInput, match=match):
        monitor(["schedule", str(folder), *words])


def test_other_schedulers_and_folders_without_a_baseline_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="for is 'airflow'; it may be systemd, cron, sagemaker"):
        run_schedule(tmp_path, "airflow")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="no baseline in it"):
        run_schedule(tmp_path, "cron")
