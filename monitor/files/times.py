"""Times in UTC, and the hours by which captures, ground truth and reports are kept."""

from datetime import UTC, datetime, timedelta

from regrow.errors import BadInput

HOUR = timedelta(hours=1)
# What lies outside comes from a clock that is not set, and hours could not be added to year 9999.
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)


def parse_time(text: object) -> datetime:
    """Return the time in UTC that an ISO 8601 text means; without a zone it is UTC already.

    Raises:
        BadInput: If it is no such text.
    """
    try:
        if not isinstance(text, str) or len(text) > 40:
            raise ValueError
        found = datetime.fromisoformat(text.strip())
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        if not EARLIEST <= found < LATEST:
            raise ValueError
    except (ValueError, OverflowError) as error:
        raise BadInput(
            f"{text!r} is no time from 2000 to 2999; write it as 2026-11-30T07:30:00Z"
        ) from error
    return found


def as_text(time: datetime) -> str:
    """Return a time as ISO 8601 in UTC, to the second."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def hour_of(time: datetime) -> datetime:
    """Return the start of the hour that a time lies in."""
    return time.replace(minute=0, second=0, microsecond=0)


def hour_path(hour: datetime) -> str:
    """Return the folders of an hour, such as `2026/11/30/07`."""
    return hour.strftime("%Y/%m/%d/%H")
