"""Markup of the page: texts of users made harmless."""

from html import escape
from typing import Any

from regrow.text import printable

LONGEST = 120  # characters of a name


def shown(value: Any, longest: int = LONGEST) -> str:
    """Return a text of anyone's as HTML that shows it and does nothing.

    Args:
        value: The text.
        longest: How many characters are shown at most; of a longer text the middle is left out.
    """
    return escape(printable(str(value), longest), quote=True)
