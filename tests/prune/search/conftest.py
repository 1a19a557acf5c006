import itertools
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn

from regrow.prune.channels.groups import find_groups
from regrow.prune.search.scoring import Scored
from regrow.prune.search.space import Space
from regrow.prune.selection import Chooser, Selection


def deep() -> nn.Module:
    """Five layers one after another, each of which multiplies with the next."""
    sizes = [3, 12, 10, 12, 8, 12]
    pairs = itertools.pairwise(sizes)
    layers = [nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU()) for a, b in pairs]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 3))


@pytest.fixture
def make_space(make_task) -> Callable[..., Space]:
    """A space over a small net, its units in a random order."""

    def make(
        name: str = "residual", share: float = 0.5, round_to: int = 1, **given: float
    ) -> Space:
        task = make_task(deep() if name == "deep" else name)
        groups = find_groups(task).groups
        generator = torch.Generator().manual_seed(0)
        scores = [torch.rand(group.num_units, generator=generator) for group in groups]
        dense = {group.layer: group.width for group in groups}
        chooser = Chooser(task, groups, scores, dense, Selection(round_to=round_to))
        full = chooser.costs_after([0] * len(groups))
        return Space(chooser, given or {"macs": share * full["macs"]})

    return make


class Bowl:
    """Scores plans as if the network was nearest where a certain share of each group goes.

    Args:
        space: The space, for the costs.
        ideal: The share of each group's units that had best go.
        weights: How much each group counts.
    """

    def __init__(
        self, space: Space, ideal: Sequence[float], weights: Sequence[float] | None = None
    ) -> None:
        self.space, self.ideal = space, ideal
        self.weights = weights or [1.0] * len(ideal)
        self.plans: list[dict[str, int]] = []

    def __call__(self, plan, part: float = 1.0) -> Scored:
        taken = {group.layer: len(units) for group, units in plan}
        self.plans.append(taken)
        groups = self.space.chooser.groups
        shares = [taken.get(group.layer, 0) / group.num_units for group in groups]
        terms = zip(shares, self.ideal, self.weights, strict=True)
        distance = sum(weight * (share - best) ** 2 for share, best, weight in terms)
        counts = tuple(taken.get(group.layer, 0) for group in groups)
        return Scored(distance, {**self.space.chooser.costs_after(counts)})


@pytest.fixture
def bowl() -> type[Bowl]:
    return Bowl
