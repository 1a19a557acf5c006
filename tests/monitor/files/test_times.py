"""Times are read in any zone, and refused where they are none."""

from datetime import UTC, datetime

import pytest

from regrow.errors import BadInput
from regrow.monitor.files.times import as_text, hour_of, hour_path, parse_time


@pytest.mark.parametrize(
    "text", ["2026-11-30T07:30:50Z", "2026-11-30T08:30:50+01:00", "2026-11-30 07:30:50"]
)
def test_one_time_in_three_spellings(text: str) -> None:
    found = parse_time(text)
    assert found == datetime(2026, 11, 30, 7, 30, 50, tzinfo=UTC)
    assert as_text(found) == "2026-11-30T07:30:50Z"
    assert hour_path(hour_of(found)) == "2026/11/30/07"


@pytest.mark.parametrize(
    "text",
    ["yesterday", "", None, 7, "1999-12-31T23:59:59Z", "3000-01-01", "9999-12-31T23:00Z", "2" * 50],
)
def test_what_is_no_time_is_refused(text: object) -> None:
    with pytest.raises(BadInput, match="is no time from 2000 to 2999"):
        parse_time(text)
