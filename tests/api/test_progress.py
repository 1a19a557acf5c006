"""The bar of everything but training."""

from io import StringIO

import pytest
from rich.console import Console

from regrow.progress import is_drawing, progress


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """Let stderr be a terminal whose text is kept."""
    out = StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    monkeypatch.setattr("regrow.progress.Console", lambda **_: console)
    return out


def test_a_bar_shows_what_is_done(terminal: StringIO) -> None:
    assert list(progress("abc", "letters", 3)) == ["a", "b", "c"]
    assert "letters" in terminal.getvalue()
    assert "100%" in terminal.getvalue()


def test_a_bar_within_a_bar_is_not_drawn(terminal: StringIO) -> None:
    assert not is_drawing()
    for _ in progress([1, 2], "outer"):
        assert is_drawing()
        assert list(progress([3, 4], "inner")) == [3, 4]
    assert not is_drawing()
    assert "outer" in terminal.getvalue()
    assert "inner" not in terminal.getvalue()


def test_an_error_ends_the_bar(terminal: StringIO) -> None:
    def fail() -> None:
        for _ in progress([1], "outer"):
            raise ValueError("in the loop")

    with pytest.raises(ValueError, match="in the loop"):
        fail()
    assert list(progress([1], "next")) == [1]
    assert "next" in terminal.getvalue()


def test_without_a_terminal_it_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress([1, 2], "outer")) == [1, 2]
    assert capsys.readouterr() == ("", "")
