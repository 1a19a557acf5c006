"""Freed memory is used again without the kernel, or given back to it."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from regrow.allocation import give_back_freed_memory

PAGE = os.sysconf("SC_PAGE_SIZE")

PROGRAM = """
import resource
import numpy as np
from regrow.allocation import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        arrays = [np.ones(2**17) for _ in range(8)]  # 8 MiB, 2,048 pages
        del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
faults()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc")
def test_pages_are_asked_for_once() -> None:
    line = [sys.executable, "-c", PROGRAM]
    told = subprocess.run(line, capture_output=True, text=True, check=True, timeout=60).stdout
    assert int(told) < 2048


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library")
def test_what_was_freed_goes_back_to_the_system() -> None:
    blocks = [np.ones(12_000) for _ in range(1000)]  # each too small for a mapping of its own
    full, last = resident(), blocks[-1]
    del blocks
    give_back_freed_memory()
    assert full - resident() > 80e6  # of the 96 MB
    assert last[0] == 1
