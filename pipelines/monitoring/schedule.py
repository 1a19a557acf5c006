"""The schedule of a monitor, for systemd, cron or SageMaker: files that they take as they are."""

import json
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

from regrow.deploy.packing.placeholders import ACCOUNT, BUCKET, IMAGE, ROLE, placeholders_in
from regrow.deploy.sagemaker.monitoring import IMAGE_BASELINE
from regrow.errors import BadInput
from regrow.files import write_text
from regrow.logs import log
from regrow.monitor.alarms.false_alarms import FalseAlarms
from regrow.monitor.baseline import Baseline, baseline_files
from regrow.monitor.hours.collecting import Blocks
from regrow.monitor.schedule import crontab, systemd
from regrow.monitor.schedule.expression import Schedule
from regrow.monitor.schedule.sagemaker import (
    Account,
    create_monitoring_schedule,
    create_processing_job,
)
from regrow.pipelines.monitoring.limits import refuse_group, refuse_sample

Scheduler = Literal["systemd", "cron", "sagemaker"]
FOLDER = "schedule"  # below the monitor's
NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", re.ASCII)  # as SageMaker's API has it
FOLDERS = ("captures", "ground_truth")  # which a job of SageMaker gets as inputs
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"


@dataclass(frozen=True, slots=True)
class Run:
    """The options of a run that a schedule repeats; None where it is the default.

    Args:
        captures: The folder of the captures.
        ground_truth: The folder of the labels.
        false_alarms: How often a false alarm is accepted.
        blocks: The custom attribute whose pictures depend on each other.
        block_minutes: The length of a block.
        facets: The facets by which pictures are compared.
        smallest_group: The pictures below which a value of a facet has no metric.
        embeddings: How many pictures of an hour are embedded at most.
        attributions: How many have their attributions computed at most.
    """

    captures: Path | None = None
    ground_truth: Path | None = None
    false_alarms: str | None = None
    blocks: str | None = None
    block_minutes: float | None = None
    facets: list[str] | None = None
    smallest_group: int | None = None
    embeddings: int | None = None
    attributions: int | None = None

    def words(self, folder: Path) -> list[str]:
        """Return the command of a run, from whatever folder it is started.

        Args:
            folder: The monitor's folder.
        """
        options = [f"--{name}={value}" for name, value in self._given().items()]
        # Without -P a folder of the same name in the current one would hide the package.
        program = [sys.executable, "-P", "-m", "regrow.scripts.monitor"]
        return [*program, "run", str(folder.absolute()), *options]

    def environment(self) -> dict[str, str]:
        """Return the options as variables of SageMaker's container."""
        return {f"regrow_{n}": text for n, text in self._given().items() if n not in FOLDERS}

    def _given(self) -> dict[str, str]:
        """Return the options that are given, as they are typed."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: _typed(value) for name, value in values.items() if value is not None}


def _typed(value: Any) -> str:
    if isinstance(value, Path):
        return str(value.absolute())
    return json.dumps(value) if isinstance(value, list) else str(value)


def run_schedule(
    folder: Path,
    for_: Scheduler,
    captures: Path | None = None,
    every: str = "hourly",
    ground_truth: Path | None = None,
    false_alarms: str | None = None,
    blocks: str | None = None,
    block_minutes: float | None = None,
    facets: list[str] | None = None,
    smallest_group: int | None = None,
    embeddings: int | None = None,
    attributions: int | None = None,
    endpoint: str = "regrow",
    name: str = "regrow-monitor",
) -> list[Path]:
    """Write the files by which systemd, cron or SageMaker runs a monitor again and again.

    Args:
        folder: The monitor's folder, with its baseline; the files come into `schedule` below it.
        for_: Scheduler: `systemd` (a service and a timer), `cron` (a line of a crontab), or
            `sagemaker` (a MonitoringSchedule, the Dockerfile of its container, and a job by itself,
            with results of earlier jobs and labels as inputs).
        captures: The folder that the server captures into; SageMaker has its own.
        every: Schedule: `hourly`, `daily`, or a cron expression as SageMaker has it, such as
            `cron(0 0/6 ? * * *)`, in UTC.
        ground_truth: Ground truth: a folder of labels as JSON lines, by event or inference id.
        false_alarms: Accepted rate of false alarms, such as `1 in 26 weeks`.
        blocks: Custom attribute whose pictures depend on each other, such as `camera` or `video`.
        block_minutes: Length of a block, in minutes.
        facets: Facets by which pictures are compared with each other.
        smallest_group: Number of pictures below which a value of a facet has no metric.
        embeddings: Largest number of pictures an hour that are run through the model again.
        attributions: Largest number of pictures an hour whose attributions are computed.
        endpoint: Name of SageMaker's endpoint.
        name: Name of the units or of the schedule.

    Returns:
        The files.

    Raises:
        BadInput: If anything given cannot be used, or the scheduler cannot do it.
    """
    if for_ not in get_args(Scheduler):
        raise BadInput(f"for is {for_!r}; it may be {', '.join(get_args(Scheduler))}")
    for option, given in (("name", name), ("endpoint", endpoint)):
        if not NAME.fullmatch(given):
            raise BadInput(f"{option} is {given!r}; it must be letters, digits and inner hyphens")
    Baseline.read(folder)
    schedule = Schedule.parse(every)
    sizes = (smallest_group, embeddings, attributions)
    run = Run(captures, ground_truth, false_alarms, blocks, block_minutes, facets, *sizes)
    if false_alarms is not None:
        FalseAlarms.parse(false_alarms)
    Blocks(blocks, 1.0 if block_minutes is None else block_minutes)
    refuse_group(1 if smallest_group is None else smallest_group)
    refuse_sample(embeddings or 0, attributions or 0)
    if for_ == "sagemaker":
        texts = _sagemaker(name, schedule, endpoint, run, folder)
    else:
        texts = _local(for_, name, schedule, run, folder)
    written = [folder / FOLDER / file for file in texts]
    for path, text in zip(written, texts.values(), strict=True):
        write_text(path, text)
        to_set = ", ".join(f"{key} ({meaning})" for key, meaning in placeholders_in([text]).items())
        log.info(f"{path}" + (f": set {to_set}" if to_set else ""))
    log.info(_next_step(for_, folder, written))
    return written


def _local(
    scheduler: Scheduler, name: str, schedule: Schedule, run: Run, folder: Path
) -> Mapping[str, str]:
    if run.captures is None:
        raise BadInput("there is no folder of captures; name it with --captures")
    words = run.words(folder)
    if scheduler == "cron":
        lock = folder.absolute() / FOLDER / "lock"
        return {f"{name}.cron": crontab.line(schedule, words, lock)}
    about = f"Judge the captures that are new, in {folder.absolute()}"
    return {
        f"{name}.service": systemd.service(about, words),
        f"{name}.timer": systemd.timer(about, schedule),
    }


def _sagemaker(
    name: str, schedule: Schedule, endpoint: str, run: Run, folder: Path
) -> Mapping[str, str]:
    if run.captures is not None or run.ground_truth is not None:
        raise BadInput(
            "SageMaker's jobs get captures and labels as inputs, which the requests name; leave "
            "both out"
        )
    account = Account(IMAGE, ROLE_ARN, BUCKET)
    request = create_monitoring_schedule(name, schedule, endpoint, account, run.environment())
    job = create_processing_job(name, endpoint, account, run.environment())
    files = " ".join(file.name for file in baseline_files(folder))
    return {
        "create_monitoring_schedule.json": json.dumps(request, indent=2) + "\n",
        "create_processing_job.json": json.dumps(job, indent=2) + "\n",
        "Dockerfile": f"FROM regrow:{version('regrow')}\nCOPY {files} {IMAGE_BASELINE}/\n"
        f"ENV regrow_baseline={IMAGE_BASELINE}\n",
    }


def _next_step(scheduler: Scheduler, folder: Path, written: list[Path]) -> str:
    files = [shlex.quote(str(path.absolute())) for path in written]
    if scheduler == "cron":
        return f"next: (crontab -l; cat {files[0]}) | crontab -"
    if scheduler == "systemd":
        return f"next: systemctl --user link {files[0]} && systemctl --user enable --now {files[1]}"
    dockerfile = files[-1]
    context = shlex.quote(str(folder.absolute()))
    return (
        f"next: docker build -f {dockerfile} {context}, push the image, copy constraints.json and "
        "statistics.json to the bucket, then aws sagemaker create-monitoring-schedule "
        f"--cli-input-json file://{files[0]}"
    )
