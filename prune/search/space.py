"""The space of a width search: the legal widths of each group, and what they would cost."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from random import Random

from regrow.prune.channels.records import Plan
from regrow.prune.cost_model import Costs
from regrow.prune.search.knapsack import knapsack, minimax
from regrow.prune.selection import Chooser

# How many units leave each group: one candidate.
Counts = tuple[int, ...]
# How often the knapsack is solved again where widths multiply, so that its sums are wrong.
MAX_SOLUTIONS = 12
# It is then improved by exchanges of so many legal widths, so often at most.
STEPS, MAX_EXCHANGES = (1, 2, 4, 8, 16), 8
# A mutation moves a width by up to this share of its group's legal widths.
LARGEST_MOVE = 0.2


class Space:
    """The joint choices of widths that are under the ceilings of the costs.

    Args:
        chooser: The groups with their units in the order in which they go, and their costs.
        ceilings: The largest accepted value of each cost.

    Attributes:
        ladders: For each group the numbers of units that may go, ascending from 0.
        times: For each group and number of units the share of the time that is left when no other
            group loses any, where that was measured.
        correction: What the predicted time is multiplied with to be that of joint candidates.
    """

    def __init__(self, chooser: Chooser, ceilings: Costs) -> None:
        self.chooser, self.ceilings = chooser, dict(ceilings)
        self.ladders = [
            sorted({chooser.legal(index, count) for count in range(group.num_units + 1)})
            for index, group in enumerate(chooser.groups)
        ]
        self.whole: Counts = (0,) * len(self.ladders)
        self.least: Counts = tuple(ladder[-1] for ladder in self.ladders)
        self.times: list[Mapping[int, float]] = []
        self.correction = 1.0

    def plan(self, counts: Counts) -> Plan:
        """Return the plan that removes the lowest units of each group."""
        return self.chooser.plan(counts)

    def costs(self, counts: Counts) -> dict[str, float]:
        """Predict the costs of a choice that have ceilings."""
        found = self.chooser.costs_after(counts)
        if self.times and "latency" in found:
            now = self.chooser.now
            saved = [now - own[n] for own, n in zip(self.times, counts, strict=True)]
            found = {**found, "latency": max(now - sum(saved), 0.0) * self.correction}
        return {name: found[name] for name in self.ceilings}

    def fits(self, counts: Counts) -> bool:
        """Whether a choice is under all ceilings, as predicted."""
        costs = self.costs(counts)
        return all(costs[name] <= ceiling for name, ceiling in self.ceilings.items())

    def single(self, group: int, count: int) -> Counts:
        """Return the choice that takes units from one group alone."""
        return self._with(self.whole, group, count)

    def ranking(self) -> Counts | None:
        """Return the choice of the chooser itself; None if the ceilings are out of reach."""
        plan = self.chooser.choose(self.ceilings, tightly=True)
        if plan is None:
            return None
        counts = {group.layer: len(units) for group, units in plan}
        return tuple(counts.get(group.layer, 0) for group in self.chooser.groups)

    def uniform(self) -> Counts | None:
        """Return the choice that takes the same share of each group, filled up to the ceilings."""

        def counts(thousandths: int) -> Counts:
            share = thousandths / 1000
            return tuple(
                max(n for n in ladder if n <= share * group.num_units + 1e-9)
                for ladder, group in zip(self.ladders, self.chooser.groups, strict=True)
            )

        place = bisect_left(range(1001), True, key=lambda n: self.fits(counts(n)))
        return self.filled(counts(place), range(len(self.ladders))) if place <= 1000 else None

    def minimax(self, drops: list[Mapping[int, float]]) -> Counts | None:
        """Return the choice whose largest drop of a single group is least.

        Args:
            drops: For each group and number of units what removing them alone costs, ascending.
        """
        values = [[own[n] for n in ladder] for own, ladder in zip(drops, self.ladders, strict=True)]
        choice = minimax(values, lambda places: self.fits(self._at(places)))
        return None if choice is None else self._at(choice)

    def knapsack(self, drops: list[Mapping[int, float]]) -> Counts | None:
        """Return the choice whose drops add up to least, filled up to the ceilings.

        Where two groups meet in a layer, their savings multiply, and add up to too much: then the
        sums' ceilings are lowered until the choice itself is under the real ones.
        """
        names = list(self.ceilings)
        whole = self.costs(self.whole)
        values = [[own[n] for n in ladder] for own, ladder in zip(drops, self.ladders, strict=True)]
        costs = []
        for group, ladder in enumerate(self.ladders):
            after = [self.costs(self.single(group, count)) for count in ladder]
            costs.append([[one[name] - whole[name] for name in names] for one in after])
        lowest = [sum(min(c[k] for c in own) for own in costs) for k in range(len(names))]
        best: Counts | None = None
        low, high, part = 0.0, 1.0, 1.0
        for _ in range(MAX_SOLUTIONS):
            asked = [
                least + part * (self.ceilings[name] - whole[name] - least)
                for name, least in zip(names, lowest, strict=True)
            ]
            choice = knapsack(values, _above(costs, lowest), _rise(asked, lowest))
            counts = None if choice is None else self._at(choice)
            if counts is not None and self.fits(counts):
                best, low = counts, part
                if part == 1:
                    break
            elif counts is None:
                low = part
            else:
                high = part
            part = (low + high) / 2
        if best is None:
            return None
        best = self.filled(best, range(len(self.ladders)))
        return best if part == 1 else self._improved(best, drops)

    def _improved(self, counts: Counts, drops: list[Mapping[int, float]]) -> Counts:
        """Exchange units between pairs of groups while the drops' sum falls."""

        def total(choice: Counts) -> float:
            return sum(own[n] for own, n in zip(drops, choice, strict=True))

        groups = range(len(counts))
        for _ in range(MAX_EXCHANGES):
            ladders = [self.ladders[g] for g in groups]
            more = [
                self._with(counts, g, ladders[g][place])
                for g in groups
                for place in {bisect_left(ladders[g], counts[g]) + step for step in STEPS}
                if place < len(ladders[g])
            ]
            fits = [self.filled(choice, (g,)) for choice in more for g in groups]
            best = min(filter(self.fits, fits), key=total, default=counts)
            if not total(best) < total(counts):
                break
            counts = self.filled(best, groups)
        return counts

    def is_reachable(self) -> bool:
        """Whether the costs that are known to the channel can come under their ceilings."""
        costs = self.costs(self.least)
        return all(costs[k] <= most for k, most in self.ceilings.items() if k != "latency")

    def mutated(self, counts: Counts, rng: Random) -> Counts | None:
        """Return a neighbour: a group loses more, another one less, up to the ceilings.

        Args:
            counts: The choice that it is made from.
            rng: What chooses the groups, and how far they move.

        Returns:
            The neighbour, perhaps the choice itself; None if nothing that it tried is small enough.
        """
        changed = list(counts)
        for _ in range(rng.choice((1, 1, 2))):
            pair = rng.sample(range(len(changed)), min(2, len(changed)))
            for group, sign in zip(pair, (1, -1), strict=False):
                ladder = self.ladders[group]
                most = max(1, round(LARGEST_MOVE * len(ladder)))
                place = bisect_left(ladder, changed[group]) + sign * rng.randint(1, most)
                changed[group] = ladder[min(max(place, 0), len(ladder) - 1)]
        order = rng.sample(range(len(changed)), len(changed))
        small = self._lowered(tuple(changed), order)
        return None if small is None else self.filled(small, order[::-1])

    def filled(self, counts: Counts, order: Iterable[int]) -> Counts:
        """Give units back to one group after the other, as many as the ceilings leave room for."""
        for group in order:
            ladder = self.ladders[group]
            options = [n for n in ladder if n <= counts[group]]
            place = self._first(options, counts, group)
            if place is not None:
                counts = self._with(counts, group, options[place])
        return counts

    def _lowered(self, counts: Counts, order: Iterable[int]) -> Counts | None:
        """Take units from one group after the other until the costs are under their ceilings."""
        if self.fits(counts):
            return counts
        for group in order:
            options = [n for n in self.ladders[group] if n >= counts[group]]
            place = self._first(options, counts, group)
            if place is not None:
                return self._with(counts, group, options[place])
            # Not even all of it is enough: half of the rest, so that others share the burden.
            counts = self._with(counts, group, options[len(options) // 2])
        return None

    def _first(self, options: list[int], counts: Counts, group: int) -> int | None:
        """Return the place of the fewest units of a group that are enough; None if all are not."""
        is_enough: Callable[[int], bool] = lambda n: self.fits(self._with(counts, group, n))  # noqa: E731
        place = bisect_left(options, True, key=is_enough)
        return place if place < len(options) else None

    def _at(self, places: Iterable[int]) -> Counts:
        return tuple(ladder[k] for ladder, k in zip(self.ladders, places, strict=True))

    def _with(self, counts: Counts, group: int, count: int) -> Counts:
        return (*counts[:group], count, *counts[group + 1 :])


def _above(costs: list[list[list[float]]], lowest: list[float]) -> list[list[list[float]]]:
    """Return costs as what each option takes more than the least of its class, all >= 0."""
    least = [[min(c[k] for c in own) for k in range(len(lowest))] for own in costs]
    return [
        [[cost - low for cost, low in zip(c, lows, strict=True)] for c in own]
        for own, lows in zip(costs, least, strict=True)
    ]


def _rise(asked: list[float], lowest: list[float]) -> list[float]:
    return [a - low for a, low in zip(asked, lowest, strict=True)]
