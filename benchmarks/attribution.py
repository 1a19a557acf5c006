"""Drift of attributions: what SageMaker's nDCG passes, what the monitor finds, and what it costs.

    python benchmarks/attribution.py                             # about a minute on a core
    python benchmarks/attribution.py --onnx runs/train/model.onnx

Unrelated rankings are attributions in two orders that have nothing to do with each other. Streams
are attributions of 16 cells that differ from picture to picture about a mean map: clean ones have
that of the reference, the others an unrelated one. Each alarm on a clean stream is a false one.
With a model, the processor time of a run and of the attributions of a picture is measured instead.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np

from regrow.data.images.transforms import small_image
from regrow.monitor.alarms.risk import level, proportion_interval
from regrow.monitor.alarms.shift import ShiftDetector, ranks
from regrow.monitor.network.attribution_drift import (
    EXPLAINED,
    LEAST_NDCG,
    attribution_scores,
    ndcg,
)
from regrow.monitor.network.attributions import CELLS, NUM_RUNS, attribution
from regrow.monitor.network.shapley import design
from regrow.pipelines.monitoring.network import KeptNetwork

FEATURES = (3, 7, 16, 20)
RUN_LENGTH = 1e6
LEAST = (0.5, 0.8)  # of attributions that are drawn evenly up to 1


def unrelated_rankings(draws: int, random: np.random.Generator) -> None:
    """Print how often nDCG passes attributions in unrelated orders."""
    print(f"nDCG of {draws:,} unrelated pairs of rankings; below {LEAST_NDCG} is drift")
    for count in FEATURES:
        drawn = {"exponential": random.exponential(size=(draws, 2, count))}
        drawn |= {f"from {low} to 1": random.uniform(low, 1, (draws, 2, count)) for low in LEAST}
        told = [
            f"{name} {np.mean([ndcg(*pair) >= LEAST_NDCG for pair in pairs]):.0%}"
            for name, pairs in drawn.items()
        ]
        print(f"  {count:2} features pass: {', '.join(told)}")


def shown(profile: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Return the scores of pictures about a mean map, (count, scores)."""
    sizes = profile * random.gamma(2, 0.5, (count, len(CELLS)))
    return np.array([[*attribution_scores(own).values()] for own in sizes])


def first_alarm(before: np.ndarray, now: np.ndarray, random: np.random.Generator) -> float:
    """Return the pictures until any score warns, infinite if none does."""
    top, first = level(RUN_LENGTH, len(EXPLAINED)), math.inf
    for score in range(len(EXPLAINED)):
        u = ranks(np.sort(before[:, score]), now[:, score], random.random(len(now)))
        logs = ShiftDetector(len(before)).add_(u, np.arange(len(u), dtype=np.float64))
        over = np.flatnonzero(logs >= top)
        first = min(first, float(over[0] + 1) if len(over) else math.inf)
    return first


def streams(options: argparse.Namespace) -> None:
    """Print false alarms of clean streams, and delays of unrelated maps that nDCG passes or not."""
    print(f"\n{options.streams} streams of {options.length:,}, {len(EXPLAINED)} scores, reference "
          f"of {options.reference}, one false alarm in {RUN_LENGTH:,.0f} pictures")  # fmt: skip
    clean, found = 0, dict[bool, list[float]]()
    for stream in range(options.streams):
        random = np.random.default_rng([options.seed, stream])
        profile = random.uniform(0.4, 1, len(CELLS))
        other = random.permutation(profile)
        before = shown(profile, options.reference, random)
        clean += math.isfinite(first_alarm(before, shown(profile, options.length, random), random))
        delay = first_alarm(before, shown(other, options.length, random), random)
        found.setdefault(ndcg(profile, other) >= LEAST_NDCG, []).append(delay)
    low, high = proportion_interval(clean, options.streams)
    print(f"  clean: {clean} of {options.streams} warn ({low:.0%} to {high:.0%})")
    for passes, delays in sorted(found.items()):
        name, share = "passed" if passes else "failed", np.mean(np.isfinite(delays))
        print(f"  unrelated, {name} by nDCG: {share:.0%} of {len(delays)} warn, after a median of "
              f"{np.median(delays):,.0f} pictures")  # fmt: skip


def cost(options: argparse.Namespace) -> None:
    """Print the processor time that a picture costs."""
    network, random = KeptNetwork(options.onnx), np.random.default_rng(options.seed)
    coarse = random.integers(0, 256, (options.pictures, 3, 8, 8), dtype=np.uint8)
    images = [small_image(own.transpose(1, 2, 0), network.size).numpy() for own in coarse]
    network.run(images[0][None])
    start = time.process_time()
    for image in images:
        network.run(image[None])
    each = (time.process_time() - start) / len(images)
    print(f"{options.onnx}, {network.kind}, {network.size}: {1000 * each:.1f} ms a run")
    own, start = design(len(CELLS), NUM_RUNS, options.seed), time.process_time()
    found = [attribution(network, image, own) for image in images]
    each = (time.process_time() - start) / len(images)
    print(f"  attributions by {len(own.coalitions)} runs: {each:.2f} s a picture, "
          f"{sum(one is not None for one in found)} of {len(found)} have some")  # fmt: skip


def main() -> None:
    """Run the measurements that the options ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=2000, help="pairs of rankings")
    parser.add_argument("--streams", type=int, default=40, help="streams of each kind")
    parser.add_argument("--length", type=int, default=5000, help="pictures of a stream")
    parser.add_argument("--reference", type=int, default=200, help="pictures of a reference")
    parser.add_argument("--onnx", type=Path, help="a model whose cost is measured")
    parser.add_argument("--pictures", type=int, default=5, help="pictures that it is measured on")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything drawn")
    options = parser.parse_args()
    if options.onnx is not None:
        cost(options)
        return
    unrelated_rankings(options.draws, np.random.default_rng(options.seed))
    streams(options)


if __name__ == "__main__":
    main()
