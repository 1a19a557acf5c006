"""Texts of users become HTML that shows them and does nothing."""

from html.parser import HTMLParser

from regrow.monitor.markup import LONGEST, shown


def test_what_is_shown_is_the_text_and_no_tag() -> None:
    tags, texts = [], []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: tags.append(tag)  # type: ignore[method-assign]
    parser.handle_data = texts.append  # type: ignore[method-assign]
    parser.feed(f'<p title="{shown(chr(34) + "onclick=x")}">{shown("<script>a&b</script>")}</p>')
    assert tags == ["p"]
    assert "".join(texts) == "<script>a&b</script>"


def test_long_texts_and_control_characters_are_cut() -> None:
    assert len(shown("x" * 5000)) < LONGEST + 60
    assert len(shown("x" * 5000, 10)) < 60
    assert "\x1b" not in shown("\x1b[2J")
    assert shown(None) == "None"
