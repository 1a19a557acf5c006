"""SageMaker's cron forms are read, and no others."""

import pytest

from regrow.errors import BadInput
from regrow.monitor.schedule.expression import Schedule


@pytest.mark.parametrize(
    ("text", "expression", "hours"),
    [
        ("hourly", "cron(0 * ? * * *)", range(24)),
        (" cron(0  * ? * * *) ", "cron(0 * ? * * *)", range(24)),
        ("daily", "cron(0 0 ? * * *)", [0]),
        ("cron(0 17 ? * * *)", "cron(0 17 ? * * *)", [17]),
        ("cron(0 0/10 ? * * *)", "cron(0 0/10 ? * * *)", [0, 10, 20]),
        ("cron(0 17/6 ? * * *)", "cron(0 17/6 ? * * *)", [17, 23]),
        ("cron(0 5/24 ? * * *)", "cron(0 5/24 ? * * *)", [5]),
        ("cron(0 0/1 ? * * *)", "cron(0 0/1 ? * * *)", range(24)),
        ("now", "NOW", []),
    ],
)
def test_forms_that_sagemaker_takes(text: str, expression: str, hours: list[int]) -> None:
    found = Schedule.parse(text)
    assert (found.expression, found.hours) == (expression, tuple(hours))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "weekly",
        "0 * * * *",
        "cron(5 * ? * * *)",
        "cron(0 24 ? * * *)",
        "cron(0 3/0 ? * * *)",
        "cron(0 3/25 ? * * *)",
        "cron(0 */2 ? * * *)",
        "cron(0 1,2 ? * * *)",
        "cron(0 1 * * ? *)",
        "cron(0 \u0661 ? * * *)",
        "cron(0 * ? * * *) x",
    ],
)
def test_other_forms_are_refused_by_name(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        Schedule.parse(text)
    assert str(refused.value).startswith(f"--every is {text!r}; write hourly, daily, NOW, cron(0")


def test_hours_are_a_field_of_a_crontab() -> None:
    assert Schedule.parse("hourly").hour_field == "*"
    assert Schedule.parse("cron(0 0/10 ? * * *)").hour_field == "0,10,20"
    with pytest.raises(BadInput, match=r"--every is NOW, one run; start scripts/monitor\.py run"):
        assert Schedule.parse("NOW").hour_field
