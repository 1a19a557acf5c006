"""Text on a page: names and sentences are shown as they are, only what is marked so is Markdown."""

import os
import re
from urllib.parse import quote

from regrow.text import printable

LONGEST = 20_000  # characters of a cell or a paragraph
# An underscore within a word marks nothing.
SPECIAL = re.compile(r"[\\`*|~$\[\]]|(?<![^\W_])_|_(?![^\W_])|^[#=]")
ENTITIES = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;"}


class Markdown(str):
    """Text that is Markdown, for which its writer answers."""


def escape(text: str) -> Markdown:
    """Return a text as Markdown that shows it as it is, on one line.

    Angle brackets become entities, so that they make no HTML where a page is taken for that either.

    Args:
        text: The text, perhaps with names of strangers in it; Markdown stays as it is.
    """
    if isinstance(text, Markdown):
        return text
    line = printable(text, LONGEST).translate(ENTITIES)
    return Markdown(SPECIAL.sub(r"\\\g<0>", line))


def paragraphs(text: str) -> Markdown:
    """Return a text of several paragraphs as Markdown that shows it as it is."""
    if isinstance(text, Markdown):
        return text
    return Markdown("\n\n".join(escape(part) for part in text.split("\n\n")))


def code(text: str) -> Markdown:
    """Return a text as code on one line, such as a command; it may hold backticks itself."""
    line = printable(text, LONGEST).replace("|", "\\|")
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    gap = " " if line.startswith("`") or line.endswith("`") else ""
    return Markdown(f"{fence}{gap}{line}{gap}{fence}")


def link(path: str) -> str:
    """Return the path of a file as the target of a link."""
    return f"<{quote(os.fsencode(path), safe='/ ()+,=@~')}>"
