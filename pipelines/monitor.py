"""Monitor a served model: freeze a baseline, judge the hours of its captures, show the report."""

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from regrow.allocation import keep_freed_memory
from regrow.cli import parse
from regrow.errors import BadInput, CheckFailed
from regrow.files import write_text
from regrow.guard import command, help_topic
from regrow.logs import log
from regrow.monitor.alarms.false_alarms import DEFAULT, FalseAlarms
from regrow.monitor.baseline import Baseline
from regrow.monitor.bias.measuring import SMALLEST
from regrow.monitor.files.times import EARLIEST, parse_time
from regrow.monitor.hours.collecting import Blocks
from regrow.monitor.hours.curves import CURVES, write_curves
from regrow.monitor.hours.folders import (
    EXAMPLES,
    PAGE,
    REPORT,
    done_hours,
    hour_folder,
    read_examples,
    read_report,
    refusing_damage,
)
from regrow.monitor.hours.state import STATE, State
from regrow.monitor.hours.telling import log_reports
from regrow.monitor.hours.watching import Settings, Watch
from regrow.monitor.network.served import Network
from regrow.monitor.page import page
from regrow.pipelines.monitoring.extract import run_extract
from regrow.pipelines.monitoring.limits import refuse_group, refuse_sample
from regrow.pipelines.monitoring.schedule import run_schedule
from regrow.reporting.lock import hold, releases_folders
from regrow.text import plural, printable

T = TypeVar("T")


@releases_folders
def run_monitor(
    folder: Path,
    captures: Path,
    ground_truth: Path | None = None,
    now: str | None = None,
    since: str | None = None,
    false_alarms: str = DEFAULT,
    blocks: str | None = None,
    block_minutes: float = 1.0,
    facets: list[str] | None = None,
    smallest_group: int = SMALLEST,
    endpoint: str = "regrow",
    schedule: str = "hourly",
    embeddings: int = 200,
    attributions: int = 50,
) -> list[dict[str, Any]]:
    """Judge the closed hours of captures that are new, and leave a report of each.

    Args:
        folder: The monitor's folder, with its baseline.
        captures: The folder that the server captures into.
        ground_truth: Ground truth: a folder of labels as JSON lines, by event or inference id.
        now: Current time, such as 2026-11-30T09:00:00Z; hours that have ended by then are judged.
            Null takes the clock's.
        since: Time such as that of `now`; hours that had ended by then are not judged. Null judges
            all.
        false_alarms: Accepted rate of false alarms, such as `1 in 26 weeks`.
        blocks: Custom attribute whose pictures depend on each other, such as `camera` or `video`:
            those of one value within some minutes count as one. Null takes each picture for itself.
        block_minutes: Length of a block, in minutes.
        facets: Facets by which pictures are compared with each other: custom attributes, such as
            `camera`, and `brightness`, `aspect` and `object_size`. Null takes all of them, custom
            attributes where they have 2 to 20 values.
        smallest_group: Number of pictures below which a value of a facet has no metric.
        endpoint: Name of the endpoint in CloudWatch metrics.
        schedule: Name of the monitoring schedule in CloudWatch metrics.
        embeddings: Largest number of pictures an hour that are run through the model again, to
            watch the features that it predicts from; 0 for none.
        attributions: Largest number of pictures an hour of which it is computed what each of 16
            cells adds to the answer, at 200 runs of the model each; 0 for none. They are fewer
            where the baseline found that they would take over 5 minutes.

    Returns:
        The reports of the hours judged, earliest first.

    Raises:
        BadInput: If anything given cannot be used, or the captures are of another model.
        CheckFailed: If the data is broken, or the loss is above its promise; all files are there
            all the same.
    """
    refuse_group(smallest_group)
    refuse_sample(embeddings, attributions)
    time = datetime.now(UTC) if now is None else parse_time(now)
    rate = FalseAlarms.parse(false_alarms)
    chosen = None if facets is None else tuple(facets)
    own, samples = Blocks(blocks, block_minutes), (embeddings, attributions)
    begin = EARLIEST if since is None else parse_time(since)
    named = (endpoint, schedule, chosen, smallest_group)
    settings = Settings(time, rate, own, *named, *samples, begin)
    if folder.is_dir():
        hold(folder)
    keep_freed_memory()
    watch = Watch(folder, captures, ground_truth, settings, _opened)
    reports = watch.run()
    log_reports(reports)
    if reports or not (folder / CURVES).is_dir():
        write_curves(folder, watch.baseline.examples)
    for name, reason in (reports[-1]["bias"]["left_out"] if reports else {}).items():
        if name in (chosen or ()):
            log.warning(f"the facet {printable(name, 80)} is left out: {reason}")
    if not reports:
        done = f"; {plural(len(watch.done), 'hour')} judged before" if watch.done else ""
        if waiting := watch.num_of_open_hours():
            done += f"; {plural(waiting, 'capture')} of hours that have not ended: run again then"
        after = "" if since is None else f"from {begin:%Y-%m-%d %H:%M} "
        log.info(f"no new captures in {captures} {after}up to {time:%Y-%m-%d %H:%M} UTC{done}")
    last = [read_report(hour_folder(folder, watch.done[-1]))] if watch.done else []
    failed = [one for one in reports or last if one["status"] != "Completed"]
    if failed:
        where = hour_folder(folder, parse_time(failed[-1]["hour"])) / PAGE
        more = f" ({len(failed)} hours)" if len(failed) > 1 else ""
        raise CheckFailed(f"{failed[-1]['hour']}: {failed[-1]['message']}{more}; see {where}")
    return reports


def _opened(network: Path) -> Network:
    # Here, since only a run with new captures needs ONNX Runtime.
    from regrow.pipelines.monitoring.network import KeptNetwork

    return KeptNetwork(network)


def run_monitor_report(folder: Path) -> list[dict[str, Any]]:
    """Print what each hour was found to be, and write page and TensorBoard's curves again.

    Args:
        folder: The monitor's folder.

    Returns:
        The reports, earliest first.

    Raises:
        BadInput: If there is no baseline or no report, or one is damaged.
    """
    baseline, hours = Baseline.read(folder), done_hours(folder)
    if not hours:
        raise BadInput(f"{folder}: no hour was judged yet; do so with scripts/monitor.py run")
    reports = [read_report(hour_folder(folder, hour)) for hour in hours]
    for hour, one in zip(hours, reports, strict=True):
        with refusing_damage(hour_folder(folder, hour) / REPORT):
            log_reports([one])
    last = hour_folder(folder, hours[-1])
    state = State.read(last / STATE, baseline)
    examples = read_examples(last / EXAMPLES)
    with refusing_damage(last / REPORT):
        text = page(reports[-1], state.history, baseline.examples, examples)
    write_text(folder / PAGE, text)
    write_curves(folder, baseline.examples)
    log.info(f"{folder / PAGE}")
    return reports


def baseline(args: Sequence[str] | None = None) -> Baseline:
    """Freeze what a model sees and answers on pictures that it was not fitted to."""
    # Here, since they need PyTorch, which no other word does.
    from regrow.data.config import DATA_CHOICES
    from regrow.pipelines.monitoring.baseline import run_baseline

    values, _ = parse(
        run_baseline,
        args,
        description=baseline.__doc__ or "",
        skip=["command_line"],
        positional={"model": "A run folder, a checkpoint, model.onnx or promoted.json."},
        choices=DATA_CHOICES,
    )
    line = command("monitor", None if args is None else ["baseline", *args])
    return run_baseline(**values, command_line=line)


def run(args: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Judge the closed hours of captures that are new, and leave a report of each.

    Raises:
        CheckFailed: If the data is broken, or the loss is above its promise.
    """
    values = _values(run_monitor, args, run.__doc__)
    reports = run_monitor(**values)
    if reports:
        log.info(f"{values['folder'] / PAGE}")
    return reports


def extract(args: Sequence[str] | None = None) -> dict[str, int]:
    """Write captures again with what was computed from their pictures in place of them."""
    return _called(run_extract, args, extract.__doc__)


def report(args: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Print what each hour was found to be, and write the page of the last one again."""
    return _called(run_monitor_report, args, report.__doc__)


def schedule(args: Sequence[str] | None = None) -> list[Path]:
    """Write the files by which systemd, cron or SageMaker runs a monitor again and again."""
    return _called(run_schedule, args, schedule.__doc__)


def _called(function: Callable[..., T], args: Sequence[str] | None, about: str | None) -> T:
    """Call a function of the monitor's folder with the options that a command line gives."""
    return function(**_values(function, args, about))


def _values(
    function: Callable[..., Any], args: Sequence[str] | None, about: str | None
) -> dict[str, Any]:
    folder = {"folder": "The monitor's folder, with its baseline."}
    return parse(function, args, description=about or "", positional=folder)[0]


COMMANDS: dict[str, Callable[[Sequence[str]], Any]] = {
    "baseline": baseline,
    "run": run,
    "extract": extract,
    "report": report,
    "schedule": schedule,
}


def monitor(args: Sequence[str] | None = None) -> None:
    """Do what the first word says, such as `baseline`, `run` or `report`.

    Raises:
        BadInput: If it says none of them.
    """
    words = list(sys.argv[1:] if args is None else args)
    name = words[0] if words else ""
    if name not in COMMANDS:
        if help_topic(words) is not None:
            name, words = "run", ["run", *words]
        else:
            known = ", ".join(COMMANDS)
            raise BadInput(f"the first word is {name!r}, it must be one of {known}; see --help")
    COMMANDS[name](words[1:])
