"""Progress bar for everything but training, which has its own."""

from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Each = TypeVar("Each")
_drawing: ContextVar[bool] = ContextVar("drawing", default=False)


def is_drawing() -> bool:
    """Whether a bar is being drawn, which no other may draw over."""
    return _drawing.get()


def progress(items: Iterable[Each], description: str, total: int | None = None) -> Iterable[Each]:
    """Return the items, with a progress bar and the time left on stderr.

    It is silent where there is no terminal, and within another bar.

    Args:
        items: The items that are worked on.
        description: The text beside the bar.
        total: The number of items, where they do not know it.
    """
    console = Console(stderr=True)
    if is_drawing() or not console.is_terminal:
        return items
    return _marked(
        track(items, description, total=total, console=console, transient=True),
    )


def _marked(items: Iterable[Each]) -> Iterator[Each]:
    _drawing.set(True)
    try:
        yield from items
    finally:
        _drawing.set(False)
