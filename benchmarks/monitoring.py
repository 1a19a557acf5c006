"""False alarms and delays of the monitor's warning, beside a KS test per window.

    python benchmarks/monitoring.py                        # about ten minutes on a core
    python benchmarks/monitoring.py --data FOLDER          # and corrupted pictures of CIFAR-10
    python benchmarks/monitoring.py --streams 5 --length 5000

Clean streams come from the distribution of the reference: each alarm is a false one. Shifted
streams are moved by a share of a standard deviation from their first picture on; the delay is the
number of pictures until the alarm. The level is one false alarm in a million pictures. Corrupted
streams are clean for 500 pictures, then corrupted, at once or by and by; here the level is shared
by all scores. The KS test looks at windows of 200 pictures at .05, with Bonferroni's correction for
the scores; a delay below 0 is a false alarm before the change.

Intervals are at 95 %: exact for shares of streams, of the order statistics for medians. The
corruptions and their severities are those of `make_cifar_c.py` in hendrycks/robustness
(Apache-2.0), written in NumPy and Pillow.
"""

import argparse
import importlib.util
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import convolve, gaussian_filter
from scipy.stats import binom, ks_2samp

from regrow.data.images.transforms import decode
from regrow.monitor.alarms.risk import level, proportion_interval
from regrow.monitor.alarms.shift import ShiftDetector, ranks
from regrow.monitor.features import LIGHT, picture_features

RUN_LENGTH = 1e6
SHIFTS = (0.25, 0.5, 1.0)
LONGEST, SOON = 20_000, 4000  # pictures of a shifted stream, and when an alarm is early
CLEAN, WINDOW, SIGNIFICANCE = 500, 200, 0.05
RAMP = 2000  # pictures over which a slow change comes
SEVERITIES = (1, 3, 5)
Corruption = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def delay(
    reference: np.ndarray, scores: np.ndarray, random: np.random.Generator, top: float
) -> float:
    """Return the number of scores until the alarm, infinite if there is none."""
    u = ranks(np.sort(reference), scores, random.random(len(scores)))
    logs = ShiftDetector(len(reference)).add_(u, np.arange(len(u), dtype=np.float64))
    over = np.flatnonzero(logs >= top)
    return float(over[0] + 1) if len(over) else math.inf


def ks_delay(reference: np.ndarray, scores: np.ndarray, significance: float) -> float:
    """Return the number of scores until a window of them differs by the KS test."""
    for stop in range(WINDOW, len(scores) + 1, WINDOW):
        if ks_2samp(reference, scores[stop - WINDOW : stop]).pvalue < significance:
            return float(stop)
    return math.inf


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Compute the 95 % interval of a median, by the order of the values."""
    ordered = sorted(values)
    low = max(int(binom.ppf(0.025, len(ordered), 0.5)) - 1, 0)
    return ordered[low], ordered[len(ordered) - 1 - low]


def shown(values: Sequence[float]) -> str:
    """Format the median of delays, its interval, and the share of the streams found."""
    low, high = median_interval(values)
    found = np.mean([math.isfinite(value) for value in values])
    ends = " to ".join(f"{end:,.0f}" if math.isfinite(end) else "never" for end in (low, high))
    middle = float(np.median(values))
    text = f"{middle:,.0f}" if math.isfinite(middle) else "never"
    return f"{text} ({ends}), found {found:.0%}"


def clean_and_shifted(options: argparse.Namespace) -> None:
    """Print false alarms and delays of one normal score, for two sizes of the reference."""
    top = level(RUN_LENGTH)
    print(f"one score, {options.streams} streams of {options.length:,}, one in {RUN_LENGTH:,.0f}")
    for size in (500, 2000):
        false, windows, delays = 0, 0, dict[float, list[float]]()
        for stream in range(options.streams):
            random = np.random.default_rng([options.seed, size, stream])
            reference = random.standard_normal(size)
            scores = random.standard_normal(options.length)
            false += math.isfinite(delay(reference, scores, random, top))
            windows += math.isfinite(ks_delay(reference, scores, SIGNIFICANCE))
            for shift in SHIFTS:
                moved = shift + random.standard_normal(LONGEST)
                delays.setdefault(shift, []).append(delay(reference, moved, random, top))
        for name, count in (("warn", false), ("KS by window", windows)):
            low, high = proportion_interval(count, options.streams)
            print(f"  {size:5} {name}: {count} of {options.streams} clean streams alarm "
                  f"({low:.0%} to {high:.0%})")  # fmt: skip
        for shift, values in delays.items():
            soon = [value for value in values if value <= SOON]
            share, early = len(soon) / len(values), np.median(soon) if soon else math.nan
            print(f"  {size:5} {shift} sd: delay {shown(values)}")
            print(f"        {share:.0%} within {SOON:,}, median of those {early:,.0f}")


# Corruptions of pictures, uint8 (h, w, 3), by severity 1 to 5.


def noise(pixels: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise."""
    scale = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    return as_pixels(pixels / 255 + random.normal(0, scale, pixels.shape))


def shot(pixels: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Add the noise of few photons."""
    count = (500, 250, 100, 75, 50)[severity - 1]
    return as_pixels(random.poisson(pixels / 255 * count) / count)


def blur(pixels: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Blur by a Gaussian."""
    return as_pixels(
        gaussian_filter(pixels / 255, (*[(0.4, 0.6, 0.7, 0.8, 1.0)[severity - 1]] * 2, 0))
    )


def defocus(pixels: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Blur by a disk, as a lens out of focus."""
    radius, alias = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[severity - 1]
    across, down = np.meshgrid(np.arange(-8, 9), np.arange(-8, 9))
    disk = (across**2 + down**2 <= radius**2).astype(np.float64)
    disk = gaussian_filter(disk / disk.sum(), alias, radius=1)
    return as_pixels(convolve(pixels / 255, disk[..., None], mode="mirror"))


def brighten(pixels: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Raise the value of HSV."""
    hsv = np.asarray(Image.fromarray(pixels).convert("HSV")).astype(np.float64)
    hsv[..., 2] += 255 * (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    return np.asarray(Image.fromarray(hsv.clip(0, 255).astype(np.uint8), "HSV").convert("RGB"))


def flatten(pixels: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Lower the contrast."""
    share = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    means = pixels.mean(axis=(0, 1)) / 255
    return as_pixels((pixels / 255 - means) * share + means)


def compress(pixels: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Compress as JPEG."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=(80, 65, 58, 50, 40)[severity - 1])
    return decode(file.getvalue())


def pixelate(pixels: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Make pixels coarser."""
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    height, width = pixels.shape[:2]
    small = Image.fromarray(pixels).resize(
        (int(width * share), int(height * share)), Image.Resampling.BOX
    )
    return np.asarray(small.resize((width, height), Image.Resampling.BOX))


def mirror(pixels: np.ndarray, severity: int, random: np.random.Generator) -> np.ndarray:
    """Mirror: a harmless change, that the scores cannot see."""
    return np.ascontiguousarray(pixels[:, ::-1])


def as_pixels(values: np.ndarray) -> np.ndarray:
    """Return values in [0, 1] as uint8."""
    return (values.clip(0, 1) * 255).astype(np.uint8)


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian noise": noise,
    "shot noise": shot,
    "gaussian blur": blur,
    "defocus blur": defocus,
    "brightness": brighten,
    "contrast": flatten,
    "jpeg": compress,
    "pixelate": pixelate,
    "mirror": mirror,
}


def features(images: Sequence[np.ndarray]) -> np.ndarray:
    """Return the watched features of pictures, (n, scores)."""
    rows = (picture_features(pixels, None) for pixels in images)
    return np.array([[row[name] for name in LIGHT] for row in rows], dtype=np.float64)


def first_alarms(
    reference: np.ndarray, stream: np.ndarray, random: np.random.Generator
) -> tuple[float, float]:
    """Return when the first score warns, and when the first one differs by the KS test."""
    count = stream.shape[1]
    top = level(RUN_LENGTH, count)
    pairs = [
        (
            delay(reference[:, n], stream[:, n], random, top),
            ks_delay(reference[:, n], stream[:, n], SIGNIFICANCE / count),
        )
        for n in range(count)
    ]
    return min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)


def corrupted(options: argparse.Namespace) -> None:
    """Print false alarms and delays on pictures of CIFAR-10."""
    load = unpacker(options.data / "cifar10" / "unpack.py").load
    pool = np.concatenate([load(f"data_batch_{n}")[0] for n in (1, 2)])
    reference = features(load("test_batch")[0][:2000])
    clean = features(pool)
    print(f"\nCIFAR-10, {len(LIGHT)} scores, reference of {len(reference):,} test images")
    false = np.zeros(2, dtype=int)
    for stream in range(options.streams):
        random = np.random.default_rng([options.seed, 1, stream])
        drawn = clean[random.integers(0, len(clean), options.length)]
        false += np.isfinite(first_alarms(reference, drawn, random))
    print(f"  clean: warn {false[0]}, KS by window {false[1]} of {options.streams} streams")
    for name, corruption in CORRUPTIONS.items():
        for severity in SEVERITIES:
            random = np.random.default_rng([options.seed, 2, severity, *name.encode()])
            chosen = random.integers(0, len(pool), options.pictures)
            changed = features([corruption(pool[n], severity, random) for n in chosen])
            told = []
            for kind in ("at once", "slowly"):
                pairs = [
                    follow(reference, clean, changed, kind, random) for _ in range(options.repeats)
                ]
                warned, windows = zip(*pairs, strict=True)
                told.append(f"{kind} {shown(warned)}; KS {shown(windows)}")
            print(f"  {name} {severity}: {' | '.join(told)}", flush=True)


def follow(
    reference: np.ndarray,
    clean: np.ndarray,
    changed: np.ndarray,
    kind: str,
    random: np.random.Generator,
) -> tuple[float, float]:
    """Return the delays after a change; an alarm before it counts from the change as it falls."""
    length = CLEAN + 2 * RAMP
    drawn = clean[random.integers(0, len(clean), length)]
    since = np.arange(length) - CLEAN
    share = (since >= 0).astype(np.float64) if kind == "at once" else since / RAMP
    is_changed = random.random(length) < share
    drawn[is_changed] = changed[random.integers(0, len(changed), int(is_changed.sum()))]
    warned, window = first_alarms(reference, drawn, random)
    return warned - CLEAN, window - CLEAN


def unpacker(file: Path) -> Any:
    """Return the module that reads the sheets of CIFAR-10."""
    spec = importlib.util.spec_from_file_location("unpack", file)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{file}: not there; --data names the folder that holds cifar10")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Run the measurements that the options ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=40, help="clean and shifted streams")
    parser.add_argument("--length", type=int, default=20_000, help="pictures of a clean stream")
    parser.add_argument("--data", type=Path, help="the folder that holds cifar10")
    parser.add_argument("--pictures", type=int, default=1000, help="pictures that are corrupted")
    parser.add_argument("--repeats", type=int, default=7, help="corrupted streams of each kind")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything drawn")
    options = parser.parse_args()
    clean_and_shifted(options)
    if options.data is not None:
        corrupted(options)


if __name__ == "__main__":
    main()
