"""What strangers' names do to a terminal: nothing."""

import os

from regrow.errors import BadInput, CheckFailed
from regrow.files import one_line
from regrow.text import plural, printable


def test_control_characters_are_shown_as_escapes() -> None:
    assert printable("a\x1b[2J\x07b\x9b") == "a\\x1b[2J\\x07b\\x9b"
    assert printable("a\u202egnp.exe\u2066\u200f") == "a\\u202egnp.exe\\u2066\\u200f"
    assert printable("a\U000e0041") == "a\\U000e0041"


def test_bytes_that_are_no_utf8_are_shown_as_bytes() -> None:
    assert printable(os.fsdecode(b"\xff\xfe.png")) == "\\xff\\xfe.png"
    assert printable("\ud800") == "\\ud800"


def test_letters_of_any_script_stay() -> None:
    for text in (
        "\u00e9 \u4e2d\u6587",
        "\u0645\u06cc\u200c\u062e\u0648",
        "\U0001f469\u200d\U0001f4bb",
    ):
        assert printable(text) == text


def test_it_is_one_line_of_bounded_length_and_stays_so() -> None:
    assert printable("a\n b\r\n\tc\u2028d") == "a b c d"
    text = printable("a" * 10**7 + "the way out")
    assert len(text) < 2100
    assert text.startswith("aaa")
    assert text.endswith("the way out")
    assert "9,998,0" in text
    assert "characters left out" in text
    for seen in (text, printable("\x1b\udcff\u202e")):
        assert printable(seen, 3000) == seen


def test_every_error_is_printable_whoever_raises_it() -> None:
    for kind in (BadInput, CheckFailed):
        assert str(kind("a\x1b[2J\nb")) == "a\\x1b[2J b"
    assert one_line(ValueError("a\x1b\nb")) == "a\\x1b b"
    assert one_line(ValueError()) == "ValueError"


def test_a_count_has_its_noun() -> None:
    assert [plural(count, "epoch") for count in (0, 1, 2, 2000)] == [
        "0 epochs", "1 epoch", "2 epochs", "2,000 epochs"
    ]  # fmt: skip
    assert plural(1, "class", "es") == "1 class"
    assert plural(3, "class", "es") == "3 classes"
