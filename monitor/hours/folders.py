"""Folders of a monitor: the baseline, and below `hours/` one folder for each closed hour."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from regrow.errors import BadInput
from regrow.files import LARGE, read_json
from regrow.monitor.examples import Example
from regrow.monitor.files.times import hour_path
from regrow.plain import MISSHAPEN

# What helps where a file of an hour is damaged.
REMOVE = "remove this hour's folder, it is made again from its captures"
HOURS, REPORT, PAGE = "hours", "report.json", "report.html"
SUMMARY, EXAMPLES, LABELLED = "summary.json", "examples.json", "labelled.json"
# What every report has, and what it is.
PARTS: dict[str, type] = {
    **dict.fromkeys(("hour", "status", "message"), str),
    **dict.fromkeys(("alarms", "violations"), list),
    **dict.fromkeys(("counts", "distances", "scores", "inputs", "remarks", "missing_hours"), dict),
}


def hour_folder(folder: Path, hour: datetime) -> Path:
    """Return the folder of an hour."""
    return folder / HOURS / hour_path(hour)


def done_hours(folder: Path) -> list[datetime]:
    """Return the hours that have been reported, earliest first."""
    return sorted(_hours(folder / HOURS))


def _hours(folder: Path) -> Iterator[datetime]:
    for file in folder.glob(f"[0-9]*/[0-9]*/[0-9]*/[0-9]*/{REPORT}"):
        parts = file.relative_to(folder).parts[:4]
        try:
            year, month, day, hour = map(int, parts)
            found = datetime(year, month, day, hour, tzinfo=UTC)
        except ValueError:
            continue
        if hour_path(found) == "/".join(parts):
            yield found


def read_report(folder: Path) -> dict[str, Any]:
    """Return the report of an hour.

    Args:
        folder: The hour's folder.

    Raises:
        BadInput: If it is not there, or damaged.
    """
    content = read_of_hour(folder / REPORT)
    with refusing_damage(folder / REPORT):
        if not all(isinstance(content[name], kind) for name, kind in PARTS.items()):
            raise TypeError
        return dict(content)


@contextmanager
def refusing_damage(file: Path) -> Iterator[None]:
    """Turn errors at what a file of an hour holds into one line that says how it is made again.

    Args:
        file: The file.

    Raises:
        BadInput: If there is such an error.
    """
    try:
        yield
    except MISSHAPEN as error:
        raise BadInput(f"{file}: damaged; {REMOVE}") from error


def read_of_hour(file: Path) -> Any:
    """Return what a JSON file in the folder of an hour holds.

    Raises:
        BadInput: If it is not there, or damaged; the line says how it is made again.
    """
    try:
        return read_json(file, LARGE)
    except BadInput as error:
        raise BadInput(f"{error}; {REMOVE}") from error


def read_examples(file: Path) -> tuple[Example, ...]:
    """Return the example pictures of an hour; none where the file is damaged."""
    try:
        return tuple(Example.from_dict(one) for one in read_json(file, LARGE))
    except (BadInput, *MISSHAPEN):
        return ()


def read_labelled(file: Path) -> list[str]:
    """Return the events and blocks labelled in an hour; none where the file is not there."""
    if not file.is_file():
        return []
    content = read_of_hour(file)
    if not isinstance(content, list):
        raise BadInput(f"{file}: damaged; {REMOVE}")
    return [*map(str, content)]
