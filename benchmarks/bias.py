"""Bias of the monitor: its false alarms and delays, and its metrics beside those of smclarify.

    python benchmarks/bias.py                                         # alarms: a minute
    python -m venv envs/smclarify && envs/smclarify/bin/pip install smclarify==0.5
    python benchmarks/bias.py --python envs/smclarify/bin/python      # and the metrics

Labelled pictures come from three cameras at random. Those of one are answered wrongly more often
by a gap, from the first picture on; the gap that is accepted is .05, and the level is one false
alarm in 100,000 labels, half of which the loss itself has. Beside it an interval an hour: each
hour of 300 labels, the 95 % interval of the gap is held against the same limit.

Tables of counts are drawn at random, a third of them with counts of 0; each becomes rows for
smclarify's own report. What it refuses (metrics that need a group variable or the features of the
rows, and divergences without a label in common) is counted by name.
"""

import argparse
import json
import math
import subprocess
from collections import Counter
from pathlib import Path

import numpy as np

from regrow.monitor.alarms.risk import level, proportion_interval
from regrow.monitor.bias.gaps import GAP, GapDetector
from regrow.monitor.bias.intervals import Share, difference_interval
from regrow.monitor.bias.metrics import POST_TRAINING, PRE_TRAINING, Counts
from regrow.monitor.bias.observations import Stream

OTHER = Path(__file__).with_name("bias_smclarify.py")
CAMERAS, HOUR = 3, 300  # labels of an hour
LEVEL = level(1e5, 2 * CAMERAS)
GAPS = (0.0, GAP, 0.1, 0.15, 0.25)


def delays(wrong: float, gap: float, length: int, seed: list[int]) -> tuple[float, float]:
    """Return after how many labels a gap alarms, and an hour's interval does; infinite if never."""
    random = np.random.default_rng(seed)
    codes = random.integers(0, CAMERAS, length)
    losses = (random.random(length) < wrong + gap * (codes == 0)).astype(np.float64)
    found, hourly = math.inf, math.inf
    detectors = [GapDetector(GAP, is_two_sided=False) for _ in range(CAMERAS)]
    for start in range(0, length, HOUR):
        part = slice(start, start + HOUR)
        times = np.arange(start, start + len(codes[part]), dtype=np.float64)
        stream = Stream(codes[part], times, np.arange(len(times)), losses[part])
        for code, detector in enumerate(detectors):
            if detector.add_(stream, code) >= LEVEL:
                found = min(found, start + HOUR)
            pair = [losses[part][(codes[part] == code) == is_kind] for is_kind in (True, False)]
            shares = [Share.of(float(own.mean()), len(own)) for own in pair]
            if difference_interval(*shares)[0] > GAP:
                hourly = min(hourly, start + HOUR)
    return found, hourly


def alarms(options: argparse.Namespace) -> None:
    """Print in how many streams each gap alarms, and after how many labels."""
    print(f"{options.streams} streams of {options.length:,} labels, limit {GAP}")
    for wrong in (0.05, 0.2):
        for place, gap in enumerate(GAPS):
            pairs = [
                delays(wrong, gap, options.length, [options.seed, place, stream])
                for stream in range(options.streams)
            ]
            told = []
            for name, own in zip(("bets", "hourly"), zip(*pairs, strict=True), strict=True):
                count = sum(map(math.isfinite, own))
                low, high = proportion_interval(count, len(own))
                middle = float(np.median(own))
                after = f"{middle:,.0f}" if math.isfinite(middle) else "never"
                told.append(f"{name} {count} ({low:.0%} to {high:.0%}), median {after}")
            print(f"  wrong {wrong}, gap {gap:4}: {'; '.join(told)}", flush=True)


def tables(count: int, seed: int) -> list[dict[str, list[int]]]:
    """Return tables with a prediction of the label somewhere, and pictures on both sides."""
    random, made = np.random.default_rng(seed), list[dict[str, list[int]]]()
    while len(made) < count:
        counts = random.integers(0, random.choice([3, 30, 300]), (2, 4))
        if len(made) % 3 == 0:
            counts[random.random((2, 4)) < 0.3] = 0
        if (counts.sum(axis=1) > 0).all() and counts[:, :2].sum() and counts[:, ::2].sum():
            made.append({"rest": counts[0].tolist(), "facet": counts[1].tolist()})
    return made


def ours(table: dict[str, list[int]]) -> dict[str, float | None]:
    """Return the monitor's metrics of a table."""
    sides = [Counts.of(*map(float, table[name])) for name in ("rest", "facet")]
    metrics = {**PRE_TRAINING, **POST_TRAINING}
    return {n: own.compute(*sides) for n, own in metrics.items() if "labels" in own.kinds}


def main() -> None:
    """Print what the options ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=40, help="streams for each gap")
    parser.add_argument("--length", type=int, default=20_000, help="labels of a stream")
    parser.add_argument("--python", help="the Python that has smclarify")
    parser.add_argument("--tables", type=int, default=300, help="tables that are compared")
    parser.add_argument("--seed", type=int, default=0, help="seed of the tables")
    options = parser.parse_args()
    alarms(options)
    if options.python is not None:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """Print for each metric how many tables agree, and the largest difference."""
    drawn = tables(options.tables, options.seed)
    done = subprocess.run(
        [options.python, str(OTHER)],
        input=json.dumps(drawn),
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = json.loads(done.stdout)
    print(f"{len(drawn)} tables, seed {options.seed}")
    same, compared, refused = Counter[str](), Counter[str](), Counter[str]()
    largest = dict[str, float]()
    for table, own in zip(drawn, theirs, strict=True):
        for name, value in ours(table).items():
            given = own[name]
            if given is None or value is None:
                refused[f"{name} {'both' if given is value else 'one'}"] += 1
                continue
            compared[name] += 1
            difference = 0.0 if value == float(given) else abs(value - float(given))
            same[name] += repr(value) == repr(float(given)) or difference == 0
            largest[name] = max(largest.get(name, 0.0), difference)
    for name in compared:
        print(f"  {name:5} {same[name]} of {compared[name]} to the last digit, "
              f"else by {largest[name]:.1e} at most")  # fmt: skip
    print(f"  without a value: {dict(refused) or 'none'}")
    left = sorted({*theirs[0]} - {*compared})
    print(f"  smclarify has besides: {', '.join(left)}")
    if any(map(math.isinf, largest.values())) or max(largest.values()) > 1e-12:
        raise SystemExit("they differ")


if __name__ == "__main__":
    main()
