"""Freed memory is used again, without the kernel."""

import subprocess
import sys

import pytest

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
