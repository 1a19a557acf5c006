"""A monitoring job in a SageMaker container, as one run of the monitor."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from regrow.cli import read
from regrow.deploy.sagemaker.contract import base_folder
from regrow.deploy.sagemaker.monitoring import (
    OWN,
    MonitoringJob,
    message_file,
    write_message,
)
from regrow.errors import BadInput, CheckFailed
from regrow.files import make_folder, one_line, read_json, whole_folder, write_json, write_text
from regrow.logs import log
from regrow.monitor.baseline import BASELINE, Baseline, baseline_files
from regrow.monitor.files.cloudwatch import CLOUDWATCH
from regrow.monitor.files.constraints import CONSTRAINTS, Constraints
from regrow.monitor.files.statistics import STATISTICS, statistics
from regrow.monitor.files.times import EARLIEST, HOUR, as_text, parse_time
from regrow.monitor.files.violations import (
    Violation,
    read_violations,
    write_violations,
)
from regrow.monitor.hours.folders import (
    HOURS,
    PAGE,
    REPORT,
    SUMMARY,
    done_hours,
    hour_folder,
    read_of_hour,
    read_report,
)
from regrow.monitor.hours.watching import LABELS, LOOK_BACK, message
from regrow.monitor.summary import Summary
from regrow.pipelines.monitor import run_monitor

# Arguments of a run that are not options of a job, but what the platform says.
OF_PLATFORM = ("folder", "captures", "ground_truth", "now", "since", "endpoint", "schedule")


def monitor_job(args: Sequence[str] | None = None) -> None:
    """Judge the window of a monitoring job, and leave the results where the platform looks.

    Violations are a result, and no failure: the exit message tells of them. What cannot be done is
    told there too, in one line.

    Args:
        args: Words, which are ignored.

    Raises:
        BadInput: If an input of the job cannot be used.
        BaseException: Whatever else ends it.
    """
    base = base_folder()
    message_file(base).unlink(missing_ok=True)
    try:
        text = run_job(MonitoringJob.from_environment())
    except BaseException as error:
        with suppress(OSError, BadInput):  # a full disk must not hide the error itself
            write_message(base, f"Failed: {_reason(error)}")
        raise
    write_message(base, text)
    log.info(text)


def run_job(job: MonitoringJob) -> str:
    """Judge the window of a job, write the results, and return the exit message.

    Args:
        job: What the platform says.

    Raises:
        BadInput: If an input of the job cannot be used.
    """
    folder = _baseline_folder(job)
    end = datetime.now(UTC) if not job.end else _time("end_time", job.end)
    earlier = [] if job.state is None else done_hours(job.state)
    if job.start:
        start = _time("start_time", job.start)
    else:
        start = earlier[-1] + HOUR if earlier else EARLIEST
    if start >= end:
        raise BadInput(f"the window from {as_text(start)} to {as_text(end)} is empty")
    if not any(hour < start for hour in earlier):
        log.info("there is no result of an earlier hour: the alarms begin with this window")
    options = _options(job)
    make_folder(job.output)
    with tempfile.TemporaryDirectory(dir=job.output.parent, prefix=".monitor.") as place:
        work = Path(place)
        _gather_(work, job, folder, start)
        with suppress(CheckFailed), _named(work, folder, job.state):
            run_monitor(
                work,
                job.captures,
                job.ground_truth,
                as_text(end),
                as_text(start),
                endpoint=job.endpoint or "regrow",
                schedule=job.schedule or "hourly",
                **options,
            )
        hours = [hour for hour in done_hours(work) if start < hour + HOUR <= end]
        return _deliver(work, job, hours) or (
            f"Completed: no captures in {job.captures} of an hour that ends from {as_text(start)} "
            f"to {as_text(end)}"
        )


def _reason(error: BaseException) -> str:
    """Return why a job failed, on one line."""
    if isinstance(error, BadInput):
        return one_line(error)
    if isinstance(error, Exception):
        return f"{type(error).__name__}: {one_line(error)}"
    return "stopped by a signal"


def _options(job: MonitoringJob) -> dict[str, Any]:
    try:
        return read(run_monitor, job.options, skip=OF_PLATFORM)[0]
    except BadInput as error:
        raise BadInput(f"a variable {OWN}...: {error}") from error


def _time(name: str, text: str) -> datetime:
    try:
        return parse_time(text)
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from error


def _baseline_folder(job: MonitoringJob) -> Path:
    """Return the folder of the baseline, which is whole, and the one that the schedule means."""
    folder = next((own for own in job.baselines if (own / BASELINE).is_file()), None)
    if folder is None:
        places = ", ".join(map(str, job.baselines))
        raise BadInput(
            f"no {BASELINE} in {places}; build the image with the Dockerfile of schedule"
        )
    Baseline.read(folder)
    Constraints.read(job.constraints or folder / CONSTRAINTS)
    own = folder / STATISTICS
    if job.statistics is not None and read_json(job.statistics) != read_json(own):
        raise BadInput(
            f"baseline_statistics is {job.statistics}, of another baseline than that in {folder}; "
            "build the image again, or name the statistics of its baseline"
        )
    return folder


def _gather_(work: Path, job: MonitoringJob, folder: Path, start: datetime) -> None:
    """Lay out a monitor's folder: the baseline, and what is needed of the hours before a window."""
    for file in baseline_files(folder):
        shutil.copyfile(file, work / file.name)
    if job.constraints is not None:
        shutil.copyfile(job.constraints, work / CONSTRAINTS)
    if job.state is None:
        return
    if (job.state / LABELS).is_file():
        shutil.copyfile(job.state / LABELS, work / LABELS)
    hours = done_hours(job.state)
    last = max((hour for hour in hours if hour < start), default=None)
    for hour in hours:
        # Labels may be of pictures of two weeks before.
        if hour == last or hour >= start - 2 * LOOK_BACK:
            shutil.copytree(hour_folder(job.state, hour), hour_folder(work, hour))


@contextmanager
def _named(work: Path, folder: Path, state: Path | None) -> Iterator[None]:
    """Call a file by the name that it has in an input of the job, in an error about it."""
    try:
        yield
    except BadInput as error:
        hours = str(error).replace(str(work / HOURS), str((state or work) / HOURS))
        raise BadInput(hours.replace(str(work), str(folder))) from error


def _deliver(work: Path, job: MonitoringJob, hours: Sequence[datetime]) -> str:
    """Write the results of hours where the platform takes them from; return the exit message.

    The hours have a folder each, from which the next job goes on. Above them lies what SageMaker
    looks for, of all hours together, and the page of the last one.

    Returns:
        The message; empty if there are no hours.
    """
    write_violations(job.output, _once([hour_folder(work, hour) for hour in hours]))
    shutil.copyfile(work / CONSTRAINTS, job.output / CONSTRAINTS)
    if not hours:
        return ""
    total, lines, reports = Summary(), [], []
    for hour in hours:
        source = hour_folder(work, hour)
        with whole_folder(hour_folder(job.output, hour)) as made:
            shutil.copytree(source, made, dirs_exist_ok=True)
        reports.append(read_report(source))
        total.merge(Summary.from_dict(read_of_hour(source / SUMMARY), str(source / SUMMARY)))
        if (source / CLOUDWATCH).is_file():
            lines.append((source / CLOUDWATCH).read_text())
    write_json(job.output / STATISTICS, statistics(total), indent=2)
    for name in (PAGE, REPORT):
        shutil.copyfile(hour_folder(work, hours[-1]) / name, job.output / name)
    if (work / LABELS).is_file():
        shutil.copyfile(work / LABELS, job.output / LABELS)
    if job.metrics is not None:
        write_text(job.metrics / CLOUDWATCH, "".join(lines))
    return message(_together(reports))


def _once(folders: Sequence[Path]) -> list[Violation]:
    """Return the violations of hours; of those of one check of a feature the last one."""
    found = (own for folder in folders for own in read_violations(folder))
    return list({(own.feature, own.check): own for own in found}.values())


def _together(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the message of several hours is made of: each alarm once, and all pictures."""
    alarms = {
        (own["kind"], own["name"], own.get("check")): own for r in reports for own in r["alarms"]
    }
    is_bad = any(own["status"] != "Completed" for own in reports)
    return {
        "status": "CompletedWithViolations" if is_bad else "Completed",
        "alarms": list(alarms.values()),
        "counts": {"num_pictures": sum(own["counts"]["num_pictures"] for own in reports)},
    }
