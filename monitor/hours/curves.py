"""TensorBoard's curves of a monitor: the reports of the last hours, each a step at its own time.

A step is an hour, counted from the first one that was judged.

What belongs together has one tag in several runs, so that it is drawn in one chart: `now` beside
`before`, evidence beside the `limit` from which on it is an alarm, a score between `low` and
`high`.
"""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image

from regrow.data.images.opening import open_image
from regrow.errors import BadInput
from regrow.monitor.examples import NUM_SHOWN, SIDE, Example, typical
from regrow.monitor.files.times import HOUR, parse_time
from regrow.monitor.hours.folders import (
    EXAMPLES,
    done_hours,
    hour_folder,
    read_examples,
    read_report,
)
from regrow.plain import MISSHAPEN
from regrow.reporting.event_files import Point, replace_events
from regrow.reporting.markup import code, escape

CURVES = "tensorboard"  # below the monitor's folder
RUNS = ("now", "before", "limit", "low", "high")
NUM_HOURS = 336  # that are shown: two weeks
NUM_PICTURED = 10  # of them with pictures: as many as TensorBoard keeps
NUM_SCORES = 100  # that are shown, those with the most evidence
COLUMNS, GAP, GREY = 3, 4, (238, 241, 245)  # of the sheet of pictures
QUALITY = 85
LONGEST_NAME = 120  # characters


def write_curves(folder: Path, before: Sequence[Example]) -> None:
    """Write what TensorBoard shows of a monitor, in place of what it showed so far.

    Hours whose report is damaged are left out.

    Args:
        folder: The monitor's folder.
        before: Pictures of the reference.

    Raises:
        CannotWrite: If it cannot be written.
    """
    done = done_hours(folder)
    reports = dict(_readable(folder, done[-NUM_HOURS:]))
    if not reports:
        return
    shown = _most([*reports.values()], "scores"), _most([*reports.values()], "distances")
    points: dict[str, list[Point]] = {run: [] for run in RUNS}
    for hour, report in reports.items():
        scalars = _scalars(report, *shown)
        is_late = hour > max(reports) - NUM_PICTURED * HOUR
        pictures = _pictures(hour_folder(folder, hour), report, before) if is_late else {}
        is_told = report["alarms"] or hour == max(reports)
        texts = {"now": {"alarms": alarms_text(report)}} if is_told else {}
        for run in RUNS:
            parts = scalars.get(run, {}), texts.get(run, {}), pictures.get(run, {})
            if any(parts):
                step = int((hour - done[0]) / HOUR)
                points[run].append(Point(step, hour.timestamp(), *parts))
    for run, own in points.items():
        if own or (folder / CURVES / run).is_dir():
            replace_events(folder / CURVES / run, own)


def _readable(
    folder: Path, hours: Sequence[datetime]
) -> Iterator[tuple[datetime, Mapping[str, Any]]]:
    """Yield the hours whose report is not damaged, and their reports."""
    for hour in hours:
        with suppress(BadInput, *MISSHAPEN):
            report = read_report(hour_folder(folder, hour))
            _scalars(report, _most([report], "scores"), _most([report], "distances"))
            alarms_text(report)
            yield hour, report


def _most(reports: Sequence[Mapping[str, Any]], part: str) -> set[str]:
    """Return the scores or features that have moved most, of too many."""
    sizes: dict[str, float] = {}
    for report in reports:
        for name, own in report.get(part, {}).items():
            size = own["evidence"] if isinstance(own, Mapping) else own
            sizes[name] = max(sizes.get(name, -math.inf), -math.inf if size is None else size)
    return {*sorted(sizes, key=lambda name: -sizes[name])[:NUM_SCORES]}


def _scalars(
    report: Mapping[str, Any], scores: set[str], features: set[str]
) -> dict[str, dict[str, float]]:
    """Return the numbers of an hour by run and tag."""
    made: dict[str, dict[str, float]] = {run: {} for run in RUNS}
    for run, tag, value in _numbers(report, scores, features):
        if value is not None:
            made[run][tag] = float(value)
    return made


def _numbers(
    report: Mapping[str, Any], scores: set[str], features: set[str]
) -> Iterator[tuple[str, str, float | None]]:
    """Yield run, tag and value of each number of an hour; None where there is none."""
    for name, own in report["scores"].items():
        if name in scores:
            yield "now", f"mean/{name}", own["now"]
            yield "before", f"mean/{name}", own["before"]
            yield "now", f"rank/{name}", own["rank"]
            yield "before", f"rank/{name}", 0.5
            yield "now", f"evidence/{name}", own["evidence"]
            yield "limit", f"evidence/{name}", report["level"]
    for name, value in report["distances"].items():
        if name in features:
            yield "now", f"distance/{name}", value
    loss = report.get("loss")
    if loss is not None:
        yield "now", "loss/loss", loss["now"]
        yield "before", "loss/loss", loss["before"]
        yield "limit", "loss/loss", loss["limit"]
        yield "now", "loss/evidence", loss["evidence"]
        yield "limit", "loss/evidence", loss["level"]
    quality = report["quality"]
    if quality is not None:
        yield "now", "labels/number", quality["num_labels"]
        yield "now", f"labels/{quality['name']}", quality["value"]
        for run, end in zip(("low", "high"), quality["interval"] or (), strict=False):
            yield run, f"labels/{quality['name']}", end
    for name, count in report["counts"].items():
        yield "now", f"counts/{name.removeprefix('num_')}", count
    for kind in ("data", "warn", "act"):
        yield "now", f"alarms/{kind}", sum(own["kind"] == kind for own in report["alarms"])


def _pictures(
    folder: Path, report: Mapping[str, Any], before: Sequence[Example]
) -> dict[str, dict[str, bytes]]:
    """Return the pictures before and now, those of the score that moved most, by run and tag."""
    alarms = [own for own in report["alarms"] if own["kind"] == "warn" and "facet" not in own]
    feature = alarms[0]["name"] if alarms else "brightness"
    rows = {"before": before, "now": read_examples(folder / EXAMPLES)}
    return {run: {"pictures": _sheet(typical(own, feature))} for run, own in rows.items() if own}


def _sheet(examples: Sequence[Example]) -> bytes:
    """Return examples in rows, as a JPEG; small ones are enlarged by a whole factor."""
    cell = SIDE + GAP
    num_rows = -(-NUM_SHOWN // COLUMNS)
    made = Image.new("RGB", (COLUMNS * cell - GAP, num_rows * cell - GAP), GREY)
    for place, one in enumerate(examples[:NUM_SHOWN]):
        with suppress(BadInput, OSError), open_image(one.jpeg) as opened:
            opened.thumbnail((SIDE, SIDE))
            factor = SIDE // max(opened.size)
            size = (opened.width * factor, opened.height * factor)
            large = opened.resize(size, Image.Resampling.NEAREST)
            left, top = (SIDE - large.width) // 2, (SIDE - large.height) // 2
            corner = (place % COLUMNS * cell + left, place // COLUMNS * cell + top)
            made.paste(large, corner)
    file = io.BytesIO()
    made.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def alarms_text(report: Mapping[str, Any]) -> str:
    """Return the alarms of an hour as Markdown.

    Args:
        report: The report of the hour.
    """
    place = f"hours/{parse_time(report['hour']):%Y/%m/%d/%H}/report.html"
    lines = [f"* {_line(alarm)}" for alarm in report["alarms"]]
    head = f"**{escape(report['hour'])}** {escape(report['message'])}; see {code(place)}"
    return "\n".join([head, "", *lines])


def _line(alarm: Mapping[str, Any]) -> str:
    words = alarm.get("words")
    if words is None and alarm["kind"] == "act":
        words = f"{alarm['effect']:.3f}, at most {alarm['limit']:.3f} was promised"
    elif words is None:
        now = "nothing" if alarm["now"] is None else f"{alarm['now']:.4g}"
        words = f"{alarm['before']:.4g} before, {now} now; higher in {alarm['effect']:.0%} of pairs"
    name = code(str(alarm["name"])[:LONGEST_NAME])
    told, since = escape(words.rstrip(".")), escape(alarm["since"])
    return f"**{alarm['kind']}** {name}: {told}, since {since}"
