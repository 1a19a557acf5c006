"""Coverage of the intervals that regrow prints: how often each misses the truth, at 95 %.

    python benchmarks/intervals.py                                # ten minutes on a core
    python benchmarks/intervals.py --runs 2000 --resamples 2000   # as reports have them, hours

Networks are scored on images drawn at random from a made-up population, whose score as a whole is
the truth (`benchmarks/budget.py` says what they are like). A cell holds the shares of draws in
which the truth lies below the low end and above the high end, in percent. In reports of pruning and
of warm starts each end holds by itself, so that 5 % is the bound of each; in comparisons both hold
together, so that it is that of their sum. `!` marks what is more than a probability of 5 % exceeds
once in a hundred times.

A class that no image of a draw shows has no say in its score, nor in the truth that is asked for
then: no test tells anything of what it does not show. `one class` is the interval of the last class
alone: some populations show it in one image of 30, and `seldom found` loses 40 % of it.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial

import numpy as np
import torch
from budget import Population, accepted, detection, head, row, segmentation
from numpy.random import Generator
from scipy.stats import binom

from regrow.metrics.differences import MeanEvidence, differ, part_of, seed_interval
from regrow.metrics.evidence import CorrectEvidence, Evidence
from regrow.metrics.intervals import paired_interval

CONFIDENCE = 0.95
SIZES = (20, 50, 200, 1000)
RATES = {"few changes": (0.03, 0.01), "many changes": (0.25, 0.2), "only losses": (0.02, 0.0)}
RARE = 0.05  # share of the images that show a rare class of a classifier
KINDS = ("dense", "sparse", "blind", "mistaken", "flooded", "seldom shown", "seldom found")
ALONE = ("dense", "flooded", "seldom shown", "seldom found")

Interval = tuple[float, float]
# An interval and what it should hold; None where a draw shows nothing of it.
Drawn = tuple[Interval, float] | None
Draw = Callable[[int, Generator], Drawn]
# Draws that show anything, and of these how often the truth lies below and above.
Misses = tuple[int, int, int]


def accuracy(lost: float, gained: float, size: int, options: argparse.Namespace) -> Misses:
    """Count misses of the exact test; an end misses where it accepts what is true as too little."""
    below = accepted(lost, gained, lost - gained, size, options)
    return options.runs, below, accepted(gained, lost, gained - lost, size, options)


def rare_accuracy(lost: float, gained: float, size: int, options: argparse.Namespace) -> Misses:
    """Count those of one class, which few of the images are of; one image alone tells nothing."""
    random = np.random.default_rng([options.seed, size])
    counts = Counter(random.binomial(size, RARE, options.runs).tolist())
    total = np.zeros(3, dtype=int)
    for count, runs in counts.items():
        own = argparse.Namespace(seed=options.seed, runs=runs)
        if count > 1:
            total += accuracy(lost, gained, count, own)
    return int(total[0]), int(total[1]), int(total[2])


class Truth:
    """A population, and what the change is that an interval of some of its images should hold.

    Args:
        population: The population.
        classes: The classes that count; all by default.
    """

    def __init__(self, population: Population, classes: Sequence[int] | None = None) -> None:
        self.population, self.classes = population, classes
        count = len(population.images)
        self.whole = population.pair(range(count), [0] * count)

    def draw(self, size: int, random: Generator) -> tuple[Evidence, Evidence]:
        """Draw images, and return the evidence of both networks."""
        numbers = random.integers(0, len(self.population.images), size)
        before, after = self.population.pair(numbers, [0] * size)
        if self.classes is None:
            return before, after
        return before.only(self.classes), after.only(self.classes)

    @cache  # noqa: B019 - it lives as long as the command
    def change(self, *shown: bool) -> float:
        """Return the change of the score over the classes that a draw shows."""
        places = self.classes or range(len(shown))
        kept = [place for place, flag in zip(places, shown, strict=True) if flag]
        before, after = (one.only(kept) for one in self.whole)
        return after.score() - before.score()


def of_two(truth: Truth, resamples: int, size: int, random: Generator) -> Drawn:
    """Draw the interval of a verdict: two networks, the same images, each end alone."""
    before, after = truth.draw(size, random)
    shown = (before.images_by_class > 0).tolist()
    if not any(shown):
        return None
    return paired_interval(before, after, CONFIDENCE, resamples), truth.change(*shown)


def of_means(truth: Truth, resamples: int, size: int, random: Generator) -> Drawn:
    """Draw that over images of a comparison: means of networks, on a part of the images."""
    before, after = truth.draw(2 * size, random)
    flags = (random.permutation(2 * size) < size).tolist()
    old, new = part_of(before, flags), part_of(after, flags)
    mean = MeanEvidence([old, new]), MeanEvidence([new, new])
    shown = (mean[0].images_by_class > 0).tolist()
    ends = paired_interval(*mean, 0.5 + CONFIDENCE / 2, resamples)
    return ends, truth.change(*shown) / 2


def of_classifiers(size: int, random: Generator) -> Drawn:
    """Draw the same of classifiers of two seeds, which find the same images hard."""
    ease, networks = random.random(size), []
    for better in (0.05, 0.05, 0.0, 0.0):
        right = torch.from_numpy(random.random(size) < 0.5 + 0.4 * ease + better).long()
        evidence = CorrectEvidence()
        evidence.update(torch.stack([1 - right, right], 1).float(), torch.ones(size).long())
        networks.append(evidence)
    found = differ([0.0] * 2, [0.0] * 2, networks[:2], networks[2:], CONFIDENCE).by_image
    return (found, 0.05) if found is not None else None


def over_seeds(count: int, size: int, random: Generator) -> Drawn:
    """Draw the interval over seeds, of accuracies on so many images."""
    mean = random.normal([0.82, 0.80], 0.01, (count, 2))
    right = random.binomial(size, mean) / size
    found = seed_interval((right[:, 0] - right[:, 1]).tolist(), CONFIDENCE)
    return (found, 0.02) if found is not None else None


def count(draw: Draw, size: int, options: argparse.Namespace) -> Misses:
    """Count the draws of an interval, and how often the truth lies below and above it."""
    random = np.random.default_rng([options.seed, size])
    runs, below, above = 0, 0, 0
    for _ in range(options.runs):
        drawn = draw(size, random)
        if drawn is not None:
            (low, high), truth = drawn
            runs, below, above = runs + 1, below + (truth < low), above + (truth > high)
    return runs, below, above


Row = tuple[str, str, bool, Callable[[int, argparse.Namespace], Misses]]


def rows(resamples: int, seed: int) -> Iterator[Row]:
    """Yield each interval: who prints it, its score, if each end is alone, and its counter."""
    verdict, fate, compared = "budget, gate", "class by class", "compare, over images"
    for name, (lost, gained) in RATES.items():
        yield verdict, f"accuracy, {name}", True, partial(accuracy, lost, gained)
        rare = partial(rare_accuracy, lost, gained)
        yield fate, f"accuracy, {name}, one image in 20", True, rare
    for make in (segmentation, detection):
        for number, kind in enumerate(KINDS):
            population = make(kind, np.random.default_rng([seed, number]))
            name, whole = population.name, Truth(population)
            yield verdict, name, True, partial(count, partial(of_two, whole, resamples))
            if kind in ALONE:
                last, two = Truth(population, [3]), Truth(population, [0, 3])
                yield (
                    fate,
                    f"{name}, one class",
                    True,
                    partial(count, partial(of_two, last, resamples)),
                )
                yield (
                    verdict,
                    f"{name}, two classes",
                    True,
                    partial(count, partial(of_two, two, resamples)),
                )
                yield compared, name, False, partial(count, partial(of_means, whole, resamples))
    yield compared, "accuracy", False, partial(count, of_classifiers)
    for seeds in (2, 3, 5):
        draw = partial(over_seeds, seeds)
        yield "compare, over seeds", f"accuracy, {seeds} seeds", False, partial(count, draw)


def cell(misses: Misses, is_alone: bool) -> str:
    """Return how often the truth lay below and above, in percent, with a mark if too often."""
    runs, below, above = misses
    most = binom.ppf(0.99, runs, 1 - CONFIDENCE)
    worst = max(below, above) if is_alone else below + above
    shares = " / ".join(f"{100 * number / max(runs, 1):.1f}" for number in (below, above))
    return f"{shares} !" if worst > most else shares


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=300, help="draws for each figure")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resamples", type=int, default=150, help="sets an interval is made from")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="numbers of images")
    parser.add_argument("--only", default="", help="rows whose name holds this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    most = binom.ppf(0.99, options.runs, 1 - CONFIDENCE) / options.runs
    print(f"Of {options.runs:,} draws {100 * most:.1f} % are the bound.")
    head("printed by", "of", "5 % of", *options.sizes)
    for where, what, is_alone, misses in rows(options.resamples, options.seed):
        if options.only in f"{where}: {what}":
            cells = (cell(misses(size, options), is_alone) for size in options.sizes)
            row(where, what, "each end" if is_alone else "both", *cells)


if __name__ == "__main__":
    main()
