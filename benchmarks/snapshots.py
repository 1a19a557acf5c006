"""Seconds that a snapshot of many files takes, the first time and later, and the diff of two.

    python benchmarks/snapshots.py --images 100000

Makes tiny PNG files in a temporary folder, ten classes in folders, and times the first snapshot,
which decodes and hashes every file; the second, in a fresh process as a later run is, which looks
at sizes and times alone; the third, after one file in a hundred has changed and as many have been
added; and the diff of the last two. The cache is a file in the temporary folder too.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from regrow.data.formats import ImageFolder
from regrow.data.module import GrowingData
from regrow.data.snapshot import Diff, Manifest, diff

SETTLING = 3.0  # seconds; a file that changed within two is not remembered


def make(root: Path, numbers: range, side: int, seed: int = 0) -> None:
    """Write images of noise, each a function of its number and the seed."""
    for number in numbers:
        folder = root / f"class{number % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        random = np.random.default_rng([seed, number])
        pixels = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def snapshot(root: Path, side: int) -> tuple[float, Manifest]:
    """Time a snapshot, with all that a run reads before it trains."""
    start = time.perf_counter()
    manifest = GrowingData(ImageFolder(), root, size=(side, side)).snapshot.manifest()
    return time.perf_counter() - start, manifest


def snapshot_apart(root: Path, side: int) -> float:
    """Time a snapshot in a process of its own, without the start of Python."""
    line = [sys.executable, __file__, "--root", str(root), "--side", str(side)]
    return float(subprocess.run(line, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print the seconds as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=16, help="of an image, in pixels")
    parser.add_argument("--root", type=Path, help="time one snapshot of this folder and no more")
    options = parser.parse_args()
    count, side = options.images, options.side
    if options.root is not None:
        print(snapshot(options.root, side)[0])
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "images"
        os.environ["REGROW_CACHE"] = str(Path(folder) / "cache")
        make(root, range(count), side)
        time.sleep(SETTLING)
        first, before = snapshot(root, side)
        second = snapshot_apart(root, side)
        share = count // 100
        make(root, range(share), side, seed=1)
        make(root, range(count, count + share), side)
        time.sleep(SETTLING)
        third, after = snapshot(root, side)
        start = time.perf_counter()
        found = diff(before, after)
        spent = time.perf_counter() - start
        if found != Diff(2 * share, share, 0):
            raise SystemExit(f"the diff is {found}; {share} were replaced and {share} added")
        (cache,) = (Path(folder) / "cache").iterdir()
        figures = {
            "images": count,
            "first_s": first,
            "second_s": second,
            "after_changes_s": third,
            "diff_s": spent,
            "cache_bytes": cache.stat().st_size,
        }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
