"""Units of systemd: a service that runs once, and the timer that starts it.

Source: systemd.service(5), "Command lines"; systemd.syntax(7), "Quoting"; systemd.unit(5),
"Specifiers"; systemd.timer(5).
"""

from collections.abc import Sequence

from regrow.errors import BadInput
from regrow.monitor.schedule.expression import MINUTE, Schedule

ESCAPES = {"\\": "\\\\", '"': '\\"', "%": "%%", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def service(description: str, words: Sequence[str]) -> str:
    """Return the unit of a service that runs a command once.

    Args:
        description: What it is for.
        words: The command and its arguments.

    Raises:
        BadInput: If the command itself has a dollar sign, which systemd cannot be told to keep.
    """
    program, *arguments = words
    if "$" in program:
        raise BadInput(f"{program}: systemd starts no program with a dollar sign in its path")
    line = [_quoted(program), *(_quoted(word).replace("$", "$$") for word in arguments)]
    return (
        f"[Unit]\nDescription={_plain(description)}\n\n"
        f"[Service]\nType=oneshot\nExecStart={' '.join(line)}\n"
    )


def timer(description: str, schedule: Schedule) -> str:
    """Return the unit of the timer that starts the service of the same name.

    A run that was missed, as the machine was off, is made up for when it is on again.

    Args:
        description: What it is for.
        schedule: When it runs.

    Raises:
        BadInput: If the schedule is one run.
    """
    return (
        f"[Unit]\nDescription={_plain(description)}\n\n"
        f"[Timer]\nOnCalendar=*-*-* {schedule.hour_field}:{MINUTE:02d}:00 UTC\nPersistent=true\n\n"
        "[Install]\nWantedBy=timers.target\n"
    )


def _quoted(word: str) -> str:
    text = "".join(ESCAPES.get(character, character) for character in word)
    return f'"{text}"'


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("%", "%%").rstrip("\\")
