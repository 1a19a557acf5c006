"""Error rate and power of the accuracy budget: wrong acceptances at its edge, right ones beyond.

    python benchmarks/budget.py --runs 1000 --seed 0

Networks whose true drop is the budget itself are judged on test images drawn at random. Each
acceptance is wrong, and of 1,000 at 95 % at most 67 may be: the number that a probability of 5 %
exceeds once in a hundred times. Then networks as good as the one before are judged; the share that
is accepted is the power. Markdown tables on standard output.

Accuracy is drawn from the multinomial of images lost and gained. Mean IoU and mean AP are drawn
with replacement from made-up images, whose score as a whole is the truth: `dense` networks err a
little everywhere, `sparse` ones miss an object here and there, `blind` ones find nothing on 4 % of
the images, `rare` has a class that few images show. `mistaken` takes every class for the next on
4 % of the images, `seldom mistaken` on 2 %, and `flooded` takes all of the common class for the
rarest on 3 %. A handful of false detections decides a class of few objects there, and the AP of a
small set is not that of a large one. `benchmarks/intervals.py` counts how often each interval that
is printed holds what it should; of its images some kinds seldom show a class.
"""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.stats import binom

from regrow.metrics.evidence import BoxEvidence, ConfusionEvidence, Evidence
from regrow.metrics.exact_test import is_at_least, rank
from regrow.metrics.intervals import paired_interval

CONFIDENCE, NUM_CLASSES, NUM_IMAGES = 0.95, 4, 3000
MISTAKEN = {"mistaken": 0.04, "seldom mistaken": 0.02}
SELDOM = ("seldom shown", "seldom found")  # one image in 30 shows the last class
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Population:
    """Made-up images, and what two networks make of each.

    Args:
        name: The score and what sets the images apart.
        images: What the first and the second network gave for each image.
        collect: Collects the evidence of some of these images.
    """

    name: str
    images: list[tuple[Any, Any]]
    collect: Callable[[list[Any]], Evidence]

    def pair(self, numbers: Iterable[int], swapped: Iterable[int]) -> tuple[Evidence, Evidence]:
        """Return both networks' evidence of some images, in each other's place where swapped."""
        places = list(zip(numbers, swapped, strict=True))
        before, after = ([self.images[n][s ^ side] for n, s in places] for side in (0, 1))
        return self.collect(before), self.collect(after)

    def drop(self) -> float:
        """Return how much worse the second network is on all images."""
        before, after = self.pair(range(NUM_IMAGES), [0] * NUM_IMAGES)
        return before.score() - after.score()


def segmentation(kind: str, random: Generator) -> Population:
    """Make confusions of the 400 pixels of an image."""
    shares = [0.8, 0.15, 0.045, 0.005] if kind == "rare" else [0.7, 0.15, 0.1, 0.05]
    images = []
    for _ in range(NUM_IMAGES):
        is_shown = random.random(NUM_CLASSES) < [1, 0.7, 0.5, 0.03 if kind in SELDOM else 0.3]
        area = (400 * random.dirichlet(4 * np.array(shares)) * is_shown).astype(int)
        error = random.beta(1, 6)
        before = _confusion(area, error * random.lognormal(0, 0.3), random)
        after = before.copy()
        if kind == "seldom found":
            after[-1] = area[-1] * np.eye(NUM_CLASSES)[0 if random.random() < 0.4 else -1]
        elif kind in ("dense", "rare", "seldom shown"):
            worse = error * random.lognormal(0, 0.3) + 0.1 * random.exponential()
            after = _confusion(area, worse, random)
        elif kind == "sparse" and random.random() < 0.27:
            # A class is taken for the first one, or at times all of it is found.
            row = random.integers(1, NUM_CLASSES)
            after[row] = 0
            after[row, row if random.random() < 0.25 else 0] = area[row]
        elif kind == "blind" and random.random() < 0.04:
            after = np.outer(area, np.eye(NUM_CLASSES)[0])
        elif kind in MISTAKEN and random.random() < MISTAKEN[kind]:
            after = np.roll(np.diag(area), 1, 1).astype(float)
        elif kind == "flooded" and random.random() < 0.03:
            after[0] = area[0] * np.eye(NUM_CLASSES)[-1]
        images.append((before, after))
    return Population(f"mean IoU, {kind}", images, _masks)


def _confusion(area: NDArray[np.int64], error: float, random: Generator) -> Array:
    wrong = random.binomial(area, min(error, 0.95))
    counts = np.diag(area - wrong).astype(float)
    for row, number in enumerate(wrong):
        others = (1 - np.eye(NUM_CLASSES)[row]) / (NUM_CLASSES - 1)
        counts[row] += random.multinomial(number, others)
    return counts


def _masks(counts: list[Array]) -> Evidence:
    return ConfusionEvidence.of(torch.from_numpy(np.stack(counts)))


def detection(kind: str, random: Generator) -> Population:
    """Make detections of a few objects: class, score, and whether it is one."""
    shares, images = [0.5, 0.3, 0.15, 0.05], []
    if kind in SELDOM:
        shares = [0.5, 0.3, 0.19, 0.01]
    for _ in range(NUM_IMAGES):
        objects = random.choice(NUM_CLASSES, 1 + random.poisson(1.5), p=shares)
        stray = random.choice(NUM_CLASSES, random.poisson(1), p=shares)
        ease = random.beta(5, 1.5)
        true = [[label, random.normal(1.2 * ease, 0.8), 1] for label in objects]
        false = [[label, random.normal(-0.3, 0.8), 0] for label in stray]
        found = [row for row in true if random.random() < ease + 0.1]
        before, after = found + false, found + false
        if kind == "seldom found":
            last = NUM_CLASSES - 1
            after = [row for row in found if row[0] != last or random.random() > 0.4] + false
        elif kind in ("dense", "seldom shown"):
            found = [row for row in true if random.random() < ease + 0.06]
            after = [
                [label, s + random.normal(-0.1, 0.5), real] for label, s, real in found + false
            ]
        elif kind == "sparse":
            after = [row for row in found if random.random() > 0.075] + false
        elif kind == "blind" and random.random() < 0.04:
            after = []
        elif kind in MISTAKEN and random.random() < MISTAKEN[kind]:
            after = [[(label + 1) % NUM_CLASSES, score, 0] for label, score, _ in before]
        elif kind == "flooded" and random.random() < 0.03:
            last = NUM_CLASSES - 1
            after = [[last, s, 0] if label == 0 else [label, s, real] for label, s, real in before]
        counts = np.bincount(objects, minlength=NUM_CLASSES)
        one, other = (np.array(rows, float).reshape(-1, 3) for rows in (before, after))
        images.append(((counts, one), (counts, other)))
    return Population(f"mean AP, {kind}", images, _boxes)


def _boxes(images: list[tuple[NDArray[np.int64], Array]]) -> Evidence:
    rows = torch.from_numpy(np.concatenate([found for _, found in images]))
    number = torch.arange(len(images)).repeat_interleave(torch.tensor([len(f) for _, f in images]))
    of_class = [rows[:, 0] == index for index in range(NUM_CLASSES)]
    found = [(rows[mine, 1], rows[mine, 2] > 0, number[mine]) for mine in of_class]
    return BoxEvidence.of(torch.from_numpy(np.stack([counts for counts, _ in images])), found)


def low_ends(population: Population, size: int, is_equal: bool, args: argparse.Namespace) -> Array:
    """Compute the low end of each run, for the two networks or for two equal mixtures of them."""
    random = np.random.default_rng([args.seed, size])
    ends = []
    for _ in range(args.runs):
        swapped = random.integers(0, 2, size) * is_equal
        pair = population.pair(random.integers(0, NUM_IMAGES, size), swapped)
        ends.append(paired_interval(*pair, CONFIDENCE, args.resamples)[0])
    return np.array(ends)


def accepted(lost: float, gained: float, drop: float, size: int, args: argparse.Namespace) -> int:
    """Count the runs in which a network that loses and gains at some rates keeps the budget."""
    random = np.random.default_rng([args.seed, size])
    drawn = random.multinomial(size, [lost, gained, 1 - lost - gained], args.runs)[:, :2]
    tables, times = np.unique(drawn, axis=0, return_counts=True)
    order = np.argsort([rank(*table.tolist(), size, CONFIDENCE) for table in tables])
    # The decision rises with the rank, so the first that is accepted is found by halves.
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        keeps = is_at_least(*tables[order[middle]].tolist(), size, -drop, CONFIDENCE)
        low, high = (low, middle) if keeps else (middle + 1, high)
    return int(times[order[low:]].sum())


def accuracy(args: argparse.Namespace) -> None:
    """Print wrong acceptances and power of accuracy."""
    sizes, drops = (100, 300, 1000, 3000, 10_000), (0.01, 0.02, 0.05)
    head("accuracy, at the edge: drop", "gained beside the drop", *sizes)
    for drop in drops:
        for rate in (0.0, 0.005, 0.02, 0.1):
            row(drop, rate, *(accepted(drop + rate, rate, drop, size, args) for size in sizes))
    head("accuracy, equal: budget", "disagreement", *sizes)
    for drop in drops:
        for rate in (0.0, 0.02, 0.05):
            counts = (accepted(rate / 2, rate / 2, drop, size, args) for size in sizes)
            row(drop, rate, *(f"{count / args.runs:.0%}" for count in counts))


def other_scores(args: argparse.Namespace) -> None:
    """Print wrong acceptances and power of mean IoU and mean AP."""
    sizes, random = (50, 100, 200, 400), np.random.default_rng(args.seed)
    kinds = ("dense", "sparse", "blind", "mistaken")
    populations = [segmentation(kind, random) for kind in (*kinds, "rare")]
    populations += [detection(kind, random) for kind in kinds]
    for make in (segmentation, detection):
        populations += [make(kind, random) for kind in ("seldom mistaken", "flooded")]
    head("other scores, at the edge", "drop", *sizes)
    for population in populations:
        drop = population.drop()
        runs = (low_ends(population, size, False, args) for size in sizes)
        row(population.name, f"{drop:.3f}", *(int((ends >= -drop).sum()) for ends in runs))
    head("other scores, equal", "budget", *sizes)
    for population in populations:
        if "dense" in population.name or "sparse" in population.name:
            equal = [low_ends(population, size, True, args) for size in sizes]
            for drop in (0.02, 0.05, 0.1):
                shares = [f"{(ends >= -drop).mean():.0%}" for ends in equal]
                row(population.name, drop, *shares)


def head(*cells: object) -> None:
    """Begin a table; its last columns are numbers of images."""
    print()
    row(*cells)
    row(*["---"] * len(cells))


def row(*cells: object) -> None:
    """Print a row of a table."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def main() -> None:
    """Read the command line and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000, help="networks for each figure")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resamples", type=int, default=300, help="sets an interval is made from")
    args = parser.parse_args()
    torch.set_num_threads(1)
    bound = int(binom.ppf(0.99, args.runs, 1 - CONFIDENCE))
    print(f"At the edge: wrong acceptances in {args.runs:,} runs, of which {bound} are the bound.")
    print("Equal: the power. The columns are numbers of images.")
    accuracy(args)
    other_scores(args)


if __name__ == "__main__":
    main()
