"""The library logs; a command prints what it logs, once."""

import logging

import pytest

from regrow.logs import log, show_log


@pytest.fixture(autouse=True)
def _without_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "handlers", [])
    monkeypatch.setattr(log, "level", logging.NOTSET)


def test_from_python_nothing_is_printed_but_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    log.info("step 1 of 3")
    assert capsys.readouterr().out == ""


def test_a_command_prints_messages_and_warnings_apart_and_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show_log()
    show_log()
    log.info("step 1 of 3")
    log.warning("2 images left out")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("step 1 of 3\n", "2 images left out\n")
    assert logging.getLogger("regrow") is log
