"""A line of a crontab starts the words that were meant, once at a time."""

import fcntl
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from schedulers import cron_command

from regrow.errors import BadInput
from regrow.monitor.schedule.crontab import line
from regrow.monitor.schedule.expression import Schedule

HOURLY = Schedule.parse("hourly")
PROGRAM = [sys.executable, "-S", "-c", "import json, sys; print(json.dumps(sys.argv[1:]))"]


@pytest.mark.skipif(shutil.which("flock") is None, reason="no flock")
def test_words_are_kept_and_two_runs_do_not_meet(tmp_path: Path) -> None:
    words = ["a b", "100%", "%d%%", "$HOME", "`id`", "q\"uo'te", "", "#x", "\u00e9"]
    lock = tmp_path / "my 5% lock"
    command = cron_command(line(HOURLY, [*PROGRAM, *words], lock))

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", "-c", command], capture_output=True, text=True, check=False, timeout=60
        )

    assert json.loads(run().stdout) == words
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert (run().returncode, run().stdout) == (1, "")


@pytest.mark.parametrize(
    ("every", "fields"),
    [
        ("hourly", "5 * * * *"),
        ("daily", "5 0 * * *"),
        ("cron(0 0/10 ? * * *)", "5 0,10,20 * * *"),
    ],
)
def test_it_runs_when_it_is_meant_to(every: str, fields: str) -> None:
    found = line(Schedule.parse(every), ["true"], Path("/lock"))
    assert found == f"{fields} flock -n /lock true\n"


@pytest.mark.parametrize("word", ["back\\slash", "line\nbreak"])
def test_what_a_crontab_cannot_hold_is_refused(word: str) -> None:
    with pytest.raises(BadInput, match="a crontab cannot hold backslashes or line breaks; rename"):
        line(HOURLY, ["true", word], Path("/lock"))
