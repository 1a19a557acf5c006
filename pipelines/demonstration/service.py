"""The demo's model in service: it is served, its pictures grow dark, and the warning comes."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from regrow.data.config import data_beside
from regrow.errors import BadInput
from regrow.guard import command
from regrow.monitor.files.times import HOUR, as_text, hour_of
from regrow.monitor.hours.folders import PAGE
from regrow.monitor.hours.telling import moved_scores
from regrow.pipelines.demonstration.dating import date
from regrow.pipelines.demonstration.server import served
from regrow.pipelines.demonstration.traffic import Sent, at_night, send
from regrow.pipelines.monitor import baseline, run
from regrow.reporting.report import as_text as number
from regrow.text import plural

DAY, NIGHT = "day", "night"
MOST = 300  # pictures that are sent in each hour
NUM_SHOWN = 4  # scores of pictures that are shown, and of answers


def ask_served(model: Path, folder: Path, console: Console) -> dict[str, Any]:
    """Serve a model with capture on, and send it pictures as they are, then dark ones.

    Args:
        model: The model, with the `data.yaml` of its data beside it.
        folder: The demo's folder.
        console: Where it is told.

    Returns:
        How many requests there were, and how many answers.
    """
    pictures = _held_out(model)
    words = [str(model), "--port", "0", "--capture", str(folder / "captured")]
    words += ["--disk.max_share", "1"]  # a laptop's disk is fuller than a server's may be
    console.print(f"$ {command('serve', words)}", soft_wrap=True)
    with served(words, folder / "serve.log") as address:
        console.print(f"serving {model} at {address}, in a process of its own", soft_wrap=True)
        count = f"{plural(len(pictures), 'picture')} that no network was trained on"
        day = send(address, ((f"{DAY}/{name}", pixels) for name, pixels in pictures.items()))
        console.print(f"{count}: {_told(day)}", soft_wrap=True)
        dark = ((name, at_night(p, n)) for n, (name, p) in enumerate(pictures.items()))
        night = send(address, ((f"{NIGHT}/{name}", pixels) for name, pixels in dark))
        console.print(f"the same, darker and noisier, as at night: {_told(night)}", soft_wrap=True)
    return {"requests": day.requests + night.requests, "answers": day.answers + night.answers}


def _held_out(model: Path) -> dict[str, np.ndarray]:
    """Return validation pictures by name: networks are fitted to others, the baseline too."""
    data = data_beside(model)
    items = [data.snapshot.items[place] for place in data.snapshot.indices("val")]
    pairs = list(zip(items, data.kept("val"), strict=True))[:MOST]
    return {item.name: kept.whole(item) for item, kept in pairs}


def _told(sent: Sent) -> str:
    refused = f", the first refusal: {sent.refusal}" if sent.refusal else ""
    return f"{sent.requests} sent, {sent.answers} answered, {sent.seconds:.1f} s{refused}"


def watch(model: Path, folder: Path, console: Console) -> dict[str, Any]:
    """Monitor what the served model was asked: a clean hour, then a dark one.

    Args:
        model: The model.
        folder: The demo's folder, with what the server captured.
        console: Where it is told.

    Returns:
        How many requests were captured, and the message and alarms of each hour.

    Raises:
        BadInput: If nothing was captured.
        CheckFailed: If the data is broken, which it is not.
    """
    monitor, captures = folder / "monitor", folder / "captures"
    night = hour_of(datetime.now(UTC)) - HOUR
    day = night - HOUR
    captured = date(folder / "captured", captures, {DAY: day, NIGHT: night})
    if not all(captured.values()):
        raise BadInput(f"{folder / 'captured'}: nothing was captured; see {folder / 'serve.log'}")
    # Fewer attributions than the 200 by default: they would take longest of all.
    words = [str(model), "--out", str(monitor), "--attributions", "60"]
    console.print(f"$ {command('monitor', ['baseline', *words])}", soft_wrap=True)
    baseline(words)
    console.print(
        f"{captured[DAY] + captured[NIGHT]} requests were captured in {folder / 'captured'}\n"
        "The monitor judges whole hours, and all this took seconds. So the demo pretends that an "
        f"hour has passed: {captures} has copies of the captures, dated {day:%H:%M} to "
        f"{night:%H:%M} UTC, and the dark ones {night:%H:%M} to {night + HOUR:%H:%M}.",
        soft_wrap=True,
    )
    hours = []
    for name, end in ((DAY, day + HOUR), (NIGHT, night + HOUR)):
        console.print(f"\nAt {end:%H:%M}, when the hour of the {name} has ended:")
        words = [str(monitor), "--captures", str(captures), "--now", as_text(end)]
        console.print(f"$ {command('monitor', ['run', *words])}", soft_wrap=True)
        hours += run(words)
    moved = moved_scores(hours[-1]["alarms"])
    if any(moved.values()):
        console.print(_moved(moved))
    console.print(f"pictures before and now, and what to do: {monitor / PAGE}", soft_wrap=True)
    told = [{name: hour[name] for name in ("hour", "message", "alarms")} for hour in hours]
    return {"captured": sum(captured.values()), "hours": told}


def _moved(warnings: Mapping[str, Sequence[Mapping[str, Any]]]) -> Table:
    """Return the table of what moved the most in the pictures, and in the model's answers."""
    shown = [alarm for own in warnings.values() for alarm in own[:NUM_SHOWN]]
    left = sum(map(len, warnings.values())) - len(shown)
    table = Table(
        title="What moved",
        caption="now larger: in how many pairs of a picture of now and one of before it is larger "
        "now; 50 % would be no change" + (f". And {plural(left, 'more score')}" if left else ""),
    )
    for heading in ("score", "before", "now", "now larger", "since (UTC)"):
        table.add_column(heading, justify="left" if heading == "score" else "right")
    for alarm in shown:
        means = [number(alarm[name]) for name in ("before", "now")]
        since = alarm["since"].replace("T", " ").removesuffix("Z")
        table.add_row(alarm["name"], *means, f"{100 * alarm['effect']:.0f} %", since)
    return table
