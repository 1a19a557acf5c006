"""Allocation of memory: what glibc does with arrays that were freed."""

import contextlib
import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
KEPT = 2**26  # bytes


def keep_freed_memory() -> None:
    """Keep up to 64 MiB that were freed, where glibc would give them back and ask again.

    Work on picture after picture makes and frees arrays of some hundred kilobytes, and each page
    that the kernel hands out anew is cleared first. Where there is no such setting, nothing is
    done.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            for name in (TRIM_THRESHOLD, MMAP_THRESHOLD):
                library.mallopt(name, KEPT)


def give_back_freed_memory() -> None:
    """Return to the system what was freed; the C library keeps it for later otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    if trim is not None:
        trim(0)
