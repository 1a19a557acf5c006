"""Hyperparameters of a job: names that can be options, and values as the job means them."""

import json
import re
from typing import Any

from regrow.errors import BadInput
from regrow.option_values import as_option, unquoted

# An option, perhaps with keys behind dots, which may be a user's own names; `=` ends a name.
NAME = re.compile(r"[A-Za-z_][\w-]*(\.[^=]+)*", re.ASCII)
MAX_NAME = 256  # characters, as the platform allows


def parsed(value: Any) -> Any:
    """Return what a hyperparameter means: the platform makes it text, its clients make that JSON.

    Step Functions and the CLI hand on what they are given: Python's None, tuples, and text that is
    quoted twice.

    Args:
        value: The value in the platform's file.
    """
    if not isinstance(value, str):
        return value
    text = as_option(value)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return unquoted(found) if isinstance(found, str) else found


def check_hyperparameter(name: str, value: Any) -> None:
    """Refuse what can be no option of a command line.

    Raises:
        BadInput: Naming the hyperparameter, in ASCII.
    """
    if not NAME.fullmatch(name) or not is_printable(name) or len(name) > MAX_NAME:
        raise BadInput(
            f"hyperparameter {ascii(name)[:80]}: no name of an option, which begins with a letter "
            "and has no = in it; correct it"
        )
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if not is_printable(text):
        raise BadInput(
            f"hyperparameter {name} is {ascii(value)[:80]}, which holds characters that cannot be "
            "printed; write it anew"
        )


def is_printable(text: str) -> bool:
    """Whether a text has no control characters, but for white space, and can be encoded."""
    return all(letter.isprintable() or letter in "\t\n\r" for letter in text)
