"""Errors that say that memory has run out, told from faults of a network."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from regrow.errors import BadInput

# PyTorch raises a plain RuntimeError where the CPU has none left.
SIGNS = ("can't allocate memory", "cannot allocate memory", "out of memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out, on the CPU or a GPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError | OSError) and any(sign in text for sign in SIGNS)


@contextmanager
def enough_memory(doing: str) -> Iterator[None]:
    """Context manager: turn running out of memory into an error of one line.

    Args:
        doing: What the memory is for, such as "prove what can be pruned".

    Raises:
        BadInput: If memory runs out inside.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadInput(
            f"there is not enough memory to {doing} ({first}); end other programs, or give the "
            "task a smaller size"
        ) from error
