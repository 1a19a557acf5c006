"""The accepted rate of false alarms is a phrase, and becomes a number of pictures."""

from datetime import timedelta

import pytest

from regrow.errors import BadInput
from regrow.monitor.alarms.false_alarms import FalseAlarms


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("1 in 26 weeks", 26 * 7 * 24),
        ("one in a week", 168),
        ("1 in 2.5 days", 60),
        ("1 in year", 8766),
        (" 1 IN 1 Hour ", 1),
    ],
)
def test_phrases_of_time(text: str, hours: float) -> None:
    made = FalseAlarms.parse(text)
    assert made.hours == hours
    # 700 pictures in 7 hours are 100 an hour.
    assert made.run_length(700, timedelta(hours=7)) == max(100 * hours, 1000)


def test_a_number_of_images_needs_no_rate() -> None:
    assert FalseAlarms.parse("1 in 1,000,000 images").run_length(3, timedelta(0)) == 1e6


@pytest.mark.parametrize(
    "text", ["", "never", "2 in 26 weeks", "1 in -3 weeks", "1 in 0 days", "1 in 1e9 weeks", "26"]
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="--false-alarms is"):
        FalseAlarms.parse(text)


def test_too_long_a_time_is_refused() -> None:
    with pytest.raises(BadInput, match="and finite"):
        FalseAlarms.parse("1 in 99999999 years")
