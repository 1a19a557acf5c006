"""Clocks that count in place of timing, so that no test waits for a quiet machine."""

import shlex
import sys
from pathlib import Path

from regrow.models.latency import Clock, Latency
from regrow.models.task import Task
from regrow.prune.cost_model import costs_of

# Notes which file it was given.
NOTE = "import os, sys; open({log!r}, 'a').write(os.path.basename(sys.argv[1]) + ' '); "
THOUSANDS = "print(os.path.getsize(sys.argv[1]) / 1000)"  # bytes as milliseconds


def weighing(log: Path, more: str = THOUSANDS) -> str:
    """Return a `clock.command` that notes the name of the file it is given, and then does more."""
    code = NOTE.format(log=str(log)) + more
    return f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} {{onnx}}"


class MacsLatency(Latency):
    """A timer on which a million MACs take a millisecond."""

    def __init__(self, reference: Task, clock: Clock) -> None:
        self.clock, self.runtime = clock, "counted"
        self.before = costs_of(reference)["macs"] / 1e6

    def __call__(self, task: Task) -> tuple[float, float]:
        return self.before, costs_of(task)["macs"] / 1e6
