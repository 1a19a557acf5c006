"""Time and memory of the monitor by the capture, beside decoding the same pictures alone.

    python benchmarks/monitor_scale.py                       # a minute or two on a core
    python benchmarks/monitor_scale.py --captures 200000
    python benchmarks/monitor_scale.py --side 224 --format JPEG --captures 8000

Captures of a classifier with ten classes, in a file for each of eight hours. Each is decoded alone,
then judged, then extracted, and its extract judged, by one thread; the figures are medians over the
hours, in CPU time of this process.
Memory is the peak of a process of its own, for a fourth of the captures and for all in one hour.
"""

import argparse
import base64
import io
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from regrow.allocation import keep_freed_memory
from regrow.data.checks.remarks import Remarks
from regrow.data.images.decoding import decode
from regrow.monitor.alarms.false_alarms import FalseAlarms
from regrow.monitor.baseline import BaselineBuilder
from regrow.monitor.examples import NUM_KEPT
from regrow.monitor.files.captures import Body, Event, event_line, read_events
from regrow.monitor.files.times import HOUR
from regrow.monitor.hours.extracting import Extractor, Wanted
from regrow.monitor.hours.watching import Settings, Watch

START = datetime(2026, 11, 30, tzinfo=UTC)
CLASSES = [f"class{number}" for number in range(10)]
MODEL = "ab12" * 16
NUM_PICTURES, NUM_REFERENCE, NUM_HOURS = 1000, 500, 8


def picture(number: int, side: int) -> np.ndarray:
    """Return a picture of its own for a number: smooth colours with noise, uint8 (h, w, 3)."""
    draw = np.random.default_rng(number)
    small = Image.fromarray(draw.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((side, side), Image.Resampling.BICUBIC))
    return np.clip(smooth + draw.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def predict(pixels: np.ndarray) -> dict[str, Any]:
    """Return an answer that depends on the picture."""
    raw = pixels.reshape(-1, 3)[: len(CLASSES)].sum(axis=1) / 120
    shares = np.exp(raw - raw.max())
    scores = dict(zip(CLASSES, (shares / shares.sum()).tolist(), strict=True))
    label = max(scores, key=lambda name: scores[name])
    return {"label": label, "score": scores[label], "scores": scores}


def bodies(side: int, format_: str) -> list[tuple[Body, Body]]:
    """Return what was sent and answered, of so many pictures as are told apart."""
    found = []
    for number in range(NUM_PICTURES):
        pixels, file = picture(number, side), io.BytesIO()
        Image.fromarray(pixels).save(file, format_)
        answer = {"model": MODEL, "predictions": [predict(pixels)]}
        sent = base64.b64encode(file.getvalue()).decode()
        kind = f"image/{format_.lower()}"
        found.append(
            (Body(kind, sent, "BASE64"), Body("application/json", json.dumps(answer), "JSON"))
        )
    return found


def write_baseline(folder: Path, side: int) -> None:
    """Write a baseline of such pictures."""
    builder = BaselineBuilder(MODEL, "model.onnx", "labels", CLASSES, predict)
    for number in range(NUM_REFERENCE):
        builder.add(f"p{number}", picture(10**6 + number, side), 2000 + number, None)
    (folder / "monitor").mkdir(parents=True)
    builder.build("test").write(folder / "monitor")


def write_hour(folder: Path, pool: Sequence[tuple[Body, Body]], hour: int, count: int) -> Path:
    """Write the captures of an hour into a file, and return it."""
    file = folder / "captures" / f"{hour}.jsonl"
    file.parent.mkdir(exist_ok=True)
    with file.open("w") as opened:
        for place in range(count):
            when = START + hour * HOUR + timedelta(seconds=3600 * place / count)
            sent, answered = pool[place % NUM_PICTURES]
            event = Event(f"{hour}-{place}", when, sent, answered, "", {"camera": "3"})
            opened.write(event_line(event))
    return file


def run(folder: Path, hours: int, captures: str = "captures") -> list[dict[str, Any]]:
    """Judge the hours that have ended after so many."""
    settings = Settings(START + hours * HOUR, FalseAlarms(images=1e6))
    monitor = "monitor" if captures == "captures" else "other"
    return Watch(folder / monitor, folder / captures, None, settings).run()


def extract(folder: Path) -> tuple[int, int]:
    """Extract new captures as the command does, and return the bytes before and after."""
    wanted = Wanted(MODEL, None, NUM_KEPT, 200)
    done = Extractor(folder / "captures", folder / "extracts", wanted).run()
    return done.bytes_before, done.bytes_after


def timed(folder: Path, options: argparse.Namespace) -> Iterator[tuple[float, ...]]:
    """Yield the CPU seconds a capture of each step, and the bytes before and after, by the hour."""
    write_baseline(folder, options.side)
    shutil.copytree(folder / "monitor", folder / "other")
    pool = bodies(options.side, options.format)
    for hour in range(NUM_HOURS):
        file = write_hour(folder, pool, hour, options.captures // NUM_HOURS)
        sent = [one.input.content() for one in read_events(file, Remarks()) if one.input]
        begin = time.process_time()
        for content in sent:
            decode(content)
        between = time.process_time()
        (report,) = run(folder, hour + 1)
        end = time.process_time()
        if report["counts"]["num_pictures"] != len(sent):
            raise SystemExit(f"{report['counts']} of {len(sent)}")
        sizes = extract(folder)
        after = time.process_time()
        (again,) = run(folder, hour + 1, "extracts")
        last = time.process_time()
        if again["counts"] != report["counts"]:
            raise SystemExit(f"{again['counts']} and not {report['counts']}")
        steps = between - begin, end - between, after - end, last - after, *sizes
        yield tuple(step / len(sent) for step in steps)


def peak(folder: Path) -> tuple[int, int]:
    """Return the memory of this process before judging an hour, and its peak then, in KiB."""
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak begins anew
    before = status("VmRSS")
    run(folder, 1)
    return before, status("VmHWM")


def status(name: str) -> int:
    """Return a number of the kernel's about this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def memory(options: argparse.Namespace, count: int) -> None:
    """Print the peak memory of a process that judges one hour of so many captures."""
    with tempfile.TemporaryDirectory() as name:
        write_baseline(Path(name), options.side)
        write_hour(Path(name), bodies(options.side, options.format), 0, count)
        line = [sys.executable, __file__, "--peak", name]
        told = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    before, after = map(int, told.split())
    print(
        f"  {count:,} in one hour: {before / 1024:,.0f} MiB after the imports, "
        f"{(after - before) / 1024:,.1f} more at the peak"
    )


def main() -> None:
    """Run the measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--captures", type=int, default=16_000, help="captures in all")
    parser.add_argument("--side", type=int, default=32, help="pixels of a picture's side")
    parser.add_argument("--format", default="PNG", help="format of the pictures")
    parser.add_argument("--peak", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    keep_freed_memory()  # as the command does
    if options.peak is not None:
        print(*peak(options.peak))
        return
    with tempfile.TemporaryDirectory() as name:
        rows = np.array([*timed(Path(name), options)])
    alone, judged, extracted, again = np.median(rows[:, :4], axis=0) * 1e3
    ratio = np.median(rows[:, 1] / rows[:, 0])
    before, after = rows[:, 4:].mean(axis=0)
    print(f"{options.captures:,} captures of {options.side}x{options.side} {options.format}")
    print(f"  {judged:.3f} ms of CPU each, {ratio:.1f} times decoding alone ({alone:.3f} ms)")
    print(f"  a million in {judged * 1e3 / 60:.0f} minutes")
    print(f"  extracted in {extracted:.3f} ms each, and the extracts judged in {again:.3f} ms")
    print(f"  {before:,.0f} bytes each, {after:,.0f} when they are extracted")
    for count in (options.captures // 4, options.captures):
        memory(options, count)


if __name__ == "__main__":
    main()
