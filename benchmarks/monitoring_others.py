"""Other tools on the streams that the monitor is judged by, each with its own Python.

Evidently is made by `pip install "evidently==0.7.*" "pandas<3"` in an environment of its own, and
DataEval by `pip install "dataeval==1.1.*"`.
"""

import argparse
import json
import math
import subprocess
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from corruptions import CORRUPTIONS
from monitored_traffic import CLEAN, Cifar, draw, follow
from monitoring_detectors import WINDOW, share, shown, warnings, windows

JOB = Path(__file__).with_name("monitoring_job.py")
CHANGES = (("brightness", 1), ("gaussian blur", 3), ("jpeg", 3), ("contrast", 1))
SHIFTED = 10  # streams of each change
Streams = dict[str, tuple[np.ndarray, np.ndarray]]


def compare(cifar: Cifar, options: argparse.Namespace, pythons: Mapping[str, Path]) -> None:
    """Print false alarms on clean streams, and delays, of the monitor and of other tools.

    Args:
        cifar: The pictures.
        options: What the benchmark is told.
        pythons: The Python of each tool.
    """
    clean, shifted = _clean(cifar, options), _shifted(cifar, options.seed)
    print(f"\nother tools, windows of {WINDOW}, {cifar.clean.values.shape[1]} scores of CIFAR-10")
    first = _monitor({**clean, **shifted}, options.seed)
    for name, python in pythons.items():
        first |= _judged(name, python, {**clean, **shifted}, options.work)
    for method, found in first.items():
        false = sum(math.isfinite(found[name]) for name in clean)
        print(f"  {method}: {share(false, len(clean))} clean streams alarm")
        for change, severity in CHANGES:
            for kind in ("at once", "slowly"):
                prefix = f"{change} {severity} {kind}"
                delays = [found[name] - CLEAN for name in shifted if name.startswith(prefix)]
                print(f"    {prefix}: {shown(delays)}", flush=True)


def _clean(cifar: Cifar, options: argparse.Namespace) -> Streams:
    found: Streams = {}
    for stream in range(options.streams):
        random = np.random.default_rng([options.seed, 1, stream])
        reference, traffic = cifar.split(random)
        values = cifar.clean.values
        found[f"clean {stream}"] = values[reference], values[draw(traffic, options.length, random)]
    return found


def _shifted(cifar: Cifar, seed: int) -> Streams:
    found: Streams = {}
    for name, severity in CHANGES:
        changed = cifar.changed(name, CORRUPTIONS[name], severity)
        for kind in ("at once", "slowly"):
            for stream in range(SHIFTED):
                random = np.random.default_rng([seed, 5, severity, *name.encode(), stream])
                found[f"{name} {severity} {kind} {stream}"] = follow(cifar, changed, kind, random)
    return found


def _monitor(streams: Streams, seed: int) -> dict[str, dict[str, float]]:
    """Return the first alarms of the monitor and of KS tests."""
    methods = ("regrow warn", "KS with Bonferroni", "KS")
    found: dict[str, dict[str, float]] = {method: {} for method in methods}
    for name, (reference, stream) in streams.items():
        columns = range(stream.shape[1])
        random = np.random.default_rng([seed, 6, *name.encode()])
        own = warnings(reference, stream, random, {"": columns})[""]
        for method, first in zip(methods, (own, *windows(reference, stream, columns)), strict=True):
            found[method][name] = first
    return found


def _judged(tool: str, python: Path, streams: Streams, work: Path) -> dict[str, dict[str, float]]:
    """Return the first alarms of the methods of a tool; the job reads the streams from files."""
    with TemporaryDirectory(dir=work) as folder:
        for name, (reference, stream) in streams.items():
            # What is the same in every picture says nothing, and some tools divide by its spread.
            varies = reference.std(axis=0) > 0
            file = Path(folder) / f"{name}.npz"
            np.savez(file, reference=reference[:, varies], stream=stream[:, varies])
        command = [str(python), str(JOB), tool, folder, str(WINDOW)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    alarms = json.loads(done.stdout.splitlines()[-1])
    return {
        f"{tool} {method}": {
            name: math.inf if found[name] is None else float(found[name]) for name in streams
        }
        for method, found in alarms.items()
    }
