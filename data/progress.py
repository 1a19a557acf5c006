"""The progress bar of everything but training, which has its own."""

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Each = TypeVar("Each")


def progress(items: Iterable[Each], description: str, total: int | None = None) -> Iterable[Each]:
    """Give the items, with a bar and the time left on stderr; silent where there is no terminal.

    Args:
        items: What is worked on.
        description: What the bar says.
        total: The number of items, where they do not know it.
    """
    console = Console(stderr=True)
    is_silent = not console.is_terminal
    return track(
        items, description, total=total, console=console, transient=True, disable=is_silent
    )
