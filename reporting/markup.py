"""Escaping for Markdown pages: text is shown as it is unless it is marked as Markdown."""

import os
import re
from urllib.parse import quote

from regrow.text import printable

LONGEST = 20_000  # characters of a cell or a paragraph
# An underscore within a word has no meaning in Markdown.
SPECIAL = re.compile(r"[\\`*|~$\[\]]|(?<![^\W_])_|_(?![^\W_])|^[#=]")
ENTITIES = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;"}


class Markdown(str):
    """Text that is valid Markdown already, and is not escaped."""


def escape(text: str) -> Markdown:
    """Escape a text for Markdown, on one line.

    Angle brackets become entities, so that a text is no HTML either.

    Args:
        text: The text, perhaps with names from untrusted data; `Markdown` is returned unchanged.
    """
    if isinstance(text, Markdown):
        return text
    line = printable(text, LONGEST).translate(ENTITIES)
    return Markdown(SPECIAL.sub(r"\\\g<0>", line))


def paragraphs(text: str) -> Markdown:
    """Escape a text of several paragraphs for Markdown."""
    if isinstance(text, Markdown):
        return text
    return Markdown("\n\n".join(escape(part) for part in text.split("\n\n")))


def code(text: str) -> Markdown:
    """Format a text as inline code, such as a command; it may contain backticks."""
    line = printable(text, LONGEST).replace("|", "\\|")
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    gap = " " if line.startswith("`") or line.endswith("`") else ""
    return Markdown(f"{fence}{gap}{line}{gap}{fence}")


def link(path: str) -> str:
    """Return the path of a file as the target of a Markdown link."""
    return f"<{quote(os.fsencode(path), safe='/ ()+,=@~')}>"
