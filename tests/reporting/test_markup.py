"""Names of strangers on a page are text, as a reader of Markdown that takes HTML shows it."""

import html
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from regrow.reporting.markup import Markdown, code, escape, link, paragraphs
from regrow.reporting.report import Report, markdown_table
from regrow.text import printable

READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "![x](http://evil/pixel.png)",
    "[x]: javascript:alert(1)",
    "[x][y]",
    "a|b",
    "`code`",
    "**bold** *it* _it_ __bold__ ~~gone~~",
    "&lt;script&gt; &amp; &#60;",
    "# heading",
    "\\<b>",
    "\\",
    "a\n\n<script>alert(1)</script>",
    "<!-- hidden",
    "</td></table>",
    "```\n<b>",
    "x\x1b[2J\u202e",
    "<https://evil>",
    "$x$",
    "=",
    "[+1.00, -2.00] to [-]",
    "layer_1.conv_2 _private_",
]


def _text(page: str) -> str:
    """Return the text of a paragraph, of which nothing else may be made."""
    found = re.fullmatch(r"<p>([^<>]*)</p>\n", READER.render(page))
    assert found is not None, READER.render(page)
    return html.unescape(found[1])


@pytest.mark.parametrize("text", HOSTILE)
def test_a_sentence_is_shown_as_it_is(text: str) -> None:
    assert _text(f"It is {escape(text)} here") == f"It is {printable(text)} here"
    assert _text(escape(text)) == printable(text)
    assert "<" not in escape(text)


@given(st.text(alphabet="ab1 `*_[](){}<>#+-.!|~$&:=\\\"'/;\n", max_size=30))
def test_any_text_is_shown_as_it_is(text: str) -> None:
    assert _text(f"It is {escape(text)} here").split() == f"It is {printable(text)} here".split()


@given(st.text(alphabet="ab `|\\<>*", min_size=1, max_size=20))
def test_code_is_shown_as_it_is_in_a_table(text: str) -> None:
    page = READER.render(markdown_table(["", ""], [["command", code(f"python {text}.py")]]))
    cells = re.findall(r"<td><code>([^<]*)</code></td>", page)
    assert [html.unescape(cell).split() for cell in cells] == [f"python {text}.py".split()]


@given(st.lists(st.sampled_from(HOSTILE), min_size=1, max_size=4))
def test_cells_stay_in_their_cells(texts: list[str]) -> None:
    page = READER.render(markdown_table(texts, [texts, texts]))
    cells = re.findall(r"<t[hd]>(.*?)</t[hd]>", page)
    assert [html.unescape(cell) for cell in cells] == 3 * [printable(text) for text in texts]
    assert not re.findall(r"<(?!/?(?:table|thead|tbody|tr|th|td)>)", page)


def test_what_is_marked_as_markdown_stays() -> None:
    own = Markdown("[its report](train/report.md)")
    assert escape(own) == paragraphs(own) == own
    assert paragraphs("a <b>\n\n*c*") == "a &lt;b&gt;\n\n\\*c\\*"


def test_a_link_leads_to_the_file_alone() -> None:
    assert link("a b/c_1.png") == "<a b/c_1.png>"
    assert link("a>b\n<c") == "<a%3Eb%0A%3Cc>"
    assert link("\udcff") == "<%FF>"


def test_no_part_of_a_report_takes_markup_of_names(tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>[x](javascript:alert(1))|`"
    report = Report(tmp_path, title=name, command=f"python {name}", task=name, classes=[name])
    report.say(f"{name} is kept.")
    report.add_section(name, name)
    report.add_table(name, [name], [[name]], name)
    report.add_picture(tmp_path / "a.png", name)
    report.add_per_class({name: 0.5}, {name: 0.25}, name)
    report.add_before_after({"score": 0.5}, {"score": 0.25}, name)
    report.set(parent=name, device=name, seeds=[name])
    report.write()
    page = READER.render((tmp_path / "report.md").read_text())
    allowed = "h1|h2|p|table|thead|tbody|tr|th|td|code"
    strange = re.findall(rf"<(?!/?(?:{allowed})>)[^>]*>", page)
    assert strange == [f'<img src="a.png" alt="{html.escape(name)}" />']
