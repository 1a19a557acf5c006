"""Units of systemd start the words that were meant, and are what systemd takes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from schedulers import systemd_words

from regrow.errors import BadInput
from regrow.monitor.schedule.expression import Schedule
from regrow.monitor.schedule.systemd import service, timer

ODD = [
    "a b",
    "100%",
    "%h",
    "$HOME",
    "${HOME}x",
    "$$",
    "q\"uo'te",
    "back\\slash\\",
    "t\ta\nb",
    "",
    ";",
]


def test_words_are_kept() -> None:
    words = ["/opt/my programs/100%/python", *ODD, "\u00e9"]
    unit = service("Watch", words)
    assert systemd_words(unit, {"HOME": "/root", "h": "x"}) == words
    assert unit.count("\n") == 6
    assert "\nType=oneshot\n" in unit


def test_a_program_that_systemd_cannot_name_is_refused() -> None:
    with pytest.raises(
        BadInput, match=r"^/opt/\$x/python: systemd starts no program with a dollar"
    ):
        service("Watch", ["/opt/$x/python"])


def test_a_description_is_one_line_without_specifiers() -> None:
    assert "Description=50%% of\n" in service("50%\n of\\", ["/bin/true"])


def test_the_timer_makes_up_for_what_was_missed() -> None:
    unit = timer("Watch", Schedule.parse("cron(0 0/10 ? * * *)"))
    assert "\nOnCalendar=*-*-* 0,10,20:05:00 UTC\nPersistent=true\n" in unit
    assert "\nWantedBy=timers.target\n" in unit


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
@pytest.mark.parametrize("every", ["hourly", "daily", "cron(0 3/7 ? * * *)"])
def test_systemd_takes_them(tmp_path: Path, every: str) -> None:
    (tmp_path / "x.service").write_text(service("Watch 100%", [sys.executable, *ODD]))
    (tmp_path / "x.timer").write_text(timer("Watch", Schedule.parse(every)))
    line = ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))]
    told = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")
    (tmp_path / "x.service").write_text("[Service]\nType=once\n")  # the check is one
    assert subprocess.run(line, capture_output=True, check=False, timeout=60).stderr
