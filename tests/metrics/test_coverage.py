"""Intervals miss the truth no more often than they say, for rare classes and few images too."""

from collections.abc import Callable, Iterator

import pytest
import torch
from scipy.stats import binom

from regrow.metrics.differences import MeanEvidence, PartEvidence, differ, seed_interval
from regrow.metrics.evidence import ConfusionEvidence, CorrectEvidence, Evidence
from regrow.metrics.intervals import paired_interval

# Pixels of two classes, by truth and prediction. One image of ten shows the second class, and the
# second network takes it for the first on 40 % of these.
PLAIN, BOTH, LOST = [100.0, 0, 0, 0], [50.0, 0, 0, 50], [50.0, 0, 50, 0]
# The second class keeps 0.6. The first has 95 pixels an image, and 2 more are taken for it.
RARE, COMMON = 0.6 - 1, 95 / 97 - 1


def drawn(num_images: int, runs: int) -> Iterator[tuple[ConfusionEvidence, ConfusionEvidence]]:
    """Draw images, and give both networks' evidence where any shows the second class."""
    generator = torch.Generator().manual_seed(num_images)
    for _ in range(runs):
        is_shown, is_lost = torch.rand(2, num_images, generator=generator) < torch.tensor(
            [[0.1], [0.4]]
        )
        if is_shown.any():
            images = torch.tensor([PLAIN, BOTH, LOST]).view(3, 2, 2)
            rows = is_shown.long() + (is_shown & is_lost).long()
            yield ConfusionEvidence.of(images[is_shown.long()]), ConfusionEvidence.of(images[rows])


def most(runs: int) -> float:
    """Return the misses that a probability of 5 % exceeds once in a hundred times."""
    return float(binom.ppf(0.99, runs, 0.05))


def whole(evidence: Evidence) -> Evidence:
    return evidence


def rare(evidence: Evidence) -> Evidence:
    return evidence.only([1])


@pytest.mark.parametrize(("of", "truth"), [(whole, (RARE + COMMON) / 2), (rare, RARE)])
@pytest.mark.parametrize("num_images", [20, 50, 200])
def test_each_end_holds_for_a_rare_class_and_for_the_mean_that_it_is_part_of(
    of: Callable[[Evidence], Evidence], truth: float, num_images: int
) -> None:
    ends = [
        paired_interval(of(before), of(after), num_resamples=90)
        for before, after in drawn(num_images, 200)
    ]
    assert sum(low > truth for low, _ in ends) <= most(len(ends))
    assert sum(high < truth for _, high in ends) <= most(len(ends))


@pytest.mark.parametrize("num_images", [20, 50])
def test_both_ends_hold_for_means_of_networks_on_some_of_the_images(num_images: int) -> None:
    truth, misses, runs = (RARE + COMMON) / 4, 0, 0
    for before, after in drawn(2 * num_images, 150):
        flags = [place % 2 == 0 for place in range(2 * num_images)]
        old, new = PartEvidence(before, flags), PartEvidence(after, flags)
        if old.images_by_class[1]:
            pair = MeanEvidence([old, new]), MeanEvidence([new, new])
            low, high = paired_interval(*pair, 0.975, num_resamples=90)
            runs, misses = runs + 1, misses + (not low <= truth <= high)
    assert misses <= most(runs)


def test_both_ends_over_images_hold_together_at_the_confidence_of_a_comparison() -> None:
    # 200 images, of which each network has another half right by itself: no difference.
    generator, misses, runs = torch.Generator().manual_seed(0), 0, 120
    for _ in range(runs):
        pair = []
        for flags in torch.rand(2, 200, generator=generator) < 0.5:
            evidence = CorrectEvidence()
            scores = torch.stack([~flags, flags], 1).float()
            evidence.update(scores, torch.ones(200, dtype=torch.long))
            pair.append(evidence)
        found = differ([0.0], [0.0], [pair[0]], [pair[1]]).by_image
        assert found is not None
        misses += not found[0] <= 0 <= found[1]
    assert misses <= most(runs)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_both_ends_over_seeds_hold_together(seeds: int) -> None:
    generator, runs = torch.Generator().manual_seed(seeds), 2000
    differences = 0.02 + 0.01 * torch.randn(runs, seeds, generator=generator)
    ends = [seed_interval(row.tolist()) for row in differences]
    misses = [not one[0] <= 0.02 <= one[1] for one in ends if one is not None]
    assert len(misses) == runs
    # Student's t is exact for normal differences: neither too narrow nor too wide.
    assert binom.ppf(0.005, runs, 0.05) <= sum(misses) <= binom.ppf(0.995, runs, 0.05)
