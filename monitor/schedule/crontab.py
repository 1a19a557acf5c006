"""A line of a crontab.

Source: crontab(5): a percent sign ends the command unless a backslash stands before it, which the
shell does not see; there is no way to write a line break.
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from regrow.errors import BadInput
from regrow.monitor.schedule.expression import MINUTE, Schedule


def line(schedule: Schedule, words: Sequence[str], lock: Path) -> str:
    """Return a line of a crontab that runs a command, unless its last run is still under way.

    Args:
        schedule: When it runs; the hours are those of the machine's clock, as of all crontabs.
        words: The command and its arguments.
        lock: The file that a run locks.

    Raises:
        BadInput: If a crontab cannot hold a word, or the schedule is one run.
    """
    whole = ["flock", "-n", str(lock), *words]
    for word in whole:
        # Crons differ in what they make of two backslashes.
        if "\\" in word or not word.isprintable():
            raise BadInput(
                f"{word!r}: a crontab cannot hold backslashes or line breaks; rename the folder, "
                "or take --for systemd"
            )
    command = shlex.join(whole).replace("%", "\\%")
    return f"{MINUTE} {schedule.hour_field} * * * {command}\n"
