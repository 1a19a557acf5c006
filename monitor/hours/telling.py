"""What is said of an hour that was judged: what was found, its labels, and what was left out."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from regrow.data.checks.remarks import Remarks
from regrow.logs import log
from regrow.monitor.features import PICTURE
from regrow.monitor.files.times import as_text, hour_of
from regrow.text import plural

EARLY_LABELS = "files of labels from before the first capture, left out"
FUTURE_LABELS = "files of labels from later than now, left out until then"
LATE_LABELS = "files of labels that came more than a week late, left out"


def moved_scores(alarms: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the warnings that are of scores of the baseline, by what they are about.

    Args:
        alarms: The alarms of an hour, among which those of bias are of no such score.
    """
    warnings = [own for own in alarms if own["kind"] == "warn" and "facet" not in own]
    return {
        "the pictures": [own for own in warnings if own["name"] in PICTURE],
        "the model's answers": [own for own in warnings if own["name"] not in PICTURE],
    }


def lines_of(report: Mapping[str, Any]) -> list[str]:
    """Return the lines about an hour: what was found, and below it what is to be known.

    Args:
        report: The report of the hour.
    """
    remarks = Remarks()
    for kind, own in ({**report["remarks"], **report["label_remarks"]}).items():
        for place, name in enumerate(own["first"]):
            count = 1 if place else own["count"] - len(own["first"]) + 1
            remarks.add(kind, name, count)
    more, missing = remarks.lines, report["missing_hours"]
    if missing["count"]:
        count = plural(missing["count"], "hour")
        more = [f"{count} before had no captures, from {missing['first']} on", *more]
    if report["quality"] is not None:
        more = [_of_labels(report["quality"]), *more]
    return [f"{report['hour']}: {report['message']}", *(f"  {line}" for line in more)]


def _of_labels(quality: Mapping[str, Any]) -> str:
    count = quality["num_labels"]
    if not count or quality["value"] is None:
        return "no label fits a captured answer"
    low, high = quality["interval"]
    by_client = quality.get("num_by_inference_id", 0)
    hours = quality.get("hours", {})
    late = f" of {plural(len(hours), 'hour')}, from {min(hours)} on" if hours else ""
    return (
        f"{plural(count, 'label')}{late}: {by_client:,} by inferenceId, {count - by_client:,} by "
        f"eventId; {quality['name']} {quality['value']:.4f} ({low:.4f} to {high:.4f})"
    )


def log_reports(reports: Iterable[Mapping[str, Any]]) -> None:
    """Log what was found in each hour."""
    for report in reports:
        for line in lines_of(report):
            log.info(line)


def remark_labels(
    came: Mapping[datetime, Mapping[str, str]],
    first: datetime | None,
    oldest: datetime,
    now: datetime,
    done: Iterable[datetime],
    remarks: Remarks,
) -> None:
    """Count the files of labels that no hour is judged for.

    Args:
        came: The files by the hour in which they came.
        first: The first hour with captures; None if there is none.
        oldest: The earliest hour that is judged again.
        now: The time that it is taken to be.
        done: The hours that were judged.
        remarks: They are counted here.
    """
    known = {*done}
    for hour, files in came.items():
        if hour in known:
            continue
        if hour > hour_of(now):
            remarks.add(FUTURE_LABELS, as_text(hour), len(files))
        elif first is None or hour < first:
            remarks.add(EARLY_LABELS, as_text(hour), len(files))
        elif hour < oldest:
            remarks.add(LATE_LABELS, as_text(hour), len(files))
