"""When a monitor runs, said as SageMaker's schedules say it."""

import re
from dataclasses import dataclass

from regrow.errors import BadInput

MINUTE = 5  # of the hour at which a run starts: the files of the hour before are whole by then
SHORT = {"hourly": "cron(0 * ? * * *)", "daily": "cron(0 0 ? * * *)"}
NOW = "NOW"
CRON = re.compile(r"cron\(0 (?:(\*)|(\d{1,2})(?:/(\d{1,2}))?) \? \* \* \*\)", re.ASCII)
FORMS = (
    "hourly, daily, NOW, cron(0 * ? * * *), cron(0 H ? * * *) for the hour H, 0 to 23, or "
    "cron(0 A/B ? * * *) from the hour A on every B hours, 1 to 24"
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The hours at which a monitor runs each day, in UTC.

    Args:
        expression: What SageMaker calls it.
        hours: The hours, ascending; none where it runs once, at once.
    """

    expression: str
    hours: tuple[int, ...]

    @classmethod
    def parse(cls, text: str) -> "Schedule":
        """Return the schedule that a text means.

        Source: Amazon SageMaker Developer Guide, "The cron expression for monitoring schedule":
        hours that are told by a step begin anew at each midnight, so that every ten hours is at 0,
        10 and 20.

        Raises:
            BadInput: If it is none of the forms that SageMaker takes.
        """
        expression = " ".join(SHORT.get(text.strip().lower(), text).split())
        if expression.upper() == NOW:
            return cls(NOW, ())
        found = CRON.fullmatch(expression)
        first, step = (int(found[n]) if found and found[n] else None for n in (2, 3))
        if found is None or (first or 0) > 23 or step == 0 or (step or 0) > 24:
            raise BadInput(f"--every is {text[:80]!r}; write {FORMS}")
        if first is None:
            return cls(expression, tuple(range(24)))
        return cls(expression, tuple(range(first, 24, 24 if step is None else step)))

    @property
    def hour_field(self) -> str:
        """Return the hours as cron and systemd write them.

        Raises:
            BadInput: If it runs once.
        """
        if not self.hours:
            raise BadInput(f"--every is {NOW}, one run; start scripts/monitor.py run yourself")
        return "*" if len(self.hours) == 24 else ",".join(map(str, self.hours))
