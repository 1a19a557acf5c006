"""Captures copied with other times: what took seconds is spread over hours that have ended."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from regrow.data.checks.remarks import Remarks
from regrow.files import write_text
from regrow.monitor.files.captures import Event, capture_files, event_line, read_events
from regrow.monitor.files.times import HOUR, hour_path


def date(captured: Path, out: Path, hours: Mapping[str, datetime]) -> dict[str, int]:
    """Copy captures as if they had come at other hours, evenly spread over each.

    Args:
        captured: The folder of the captures, which is left as it is.
        out: The folder for the copies.
        hours: The hour of the captures whose client's id begins with a word and a slash, by the
            word; others are not copied.

    Returns:
        How many were copied to each hour, by the word.
    """
    events: dict[str, list[Event]] = defaultdict(list)
    for file in capture_files(captured):
        for event in read_events(file, Remarks()):
            events[event.inference_id.partition("/")[0]].append(event)
    for word, hour in hours.items():
        found = sorted(events[word], key=lambda event: (event.time, event.inference_id))
        step = HOUR / max(len(found), 1)
        lines = [
            event_line(replace(event, time=hour + place * step))
            for place, event in enumerate(found)
        ]
        if lines:
            write_text(out / hour_path(hour) / f"{word}.jsonl", "".join(lines))
    return {word: len(events[word]) for word in hours}
