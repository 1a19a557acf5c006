"""The schedule: how much is removed at each step, and which widths are legal."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

# Sizes of steps, over that of the first.
SMALLEST_STEP, LARGEST_STEP = 0.25, 2.0


def kept_share(keep: float, done: float) -> float:
    """Return the share of a cost that is left after a part of the way, if it falls evenly.

    Args:
        keep: The share left at the end, in (0, 1].
        done: The part of the way that is done, in [0, 1].
    """
    return 1 - done * (1 - keep)


@dataclass(frozen=True, slots=True)
class Pace:
    """The progress of a run and the size of its next step, both as parts of the way.

    Args:
        first: The size of the first step, in (0, 1].
        done: The part of the way that is done, in [0, 1].
        size: The next step.
    """

    first: float
    done: float
    size: float

    @classmethod
    def begin(cls, num_steps: int) -> "Pace":
        """Return the pace of equal steps.

        Raises:
            ValueError: If there is not even one.
        """
        if num_steps < 1:
            raise ValueError(f"num_steps is {num_steps}, it must be at least 1")
        return cls(1 / num_steps, 0.0, 1 / num_steps)

    @property
    def next(self) -> float:
        """Return where the next step ends."""
        after = self.done + self.size
        # A rest that is smaller than any step, or than rounding, goes with the last one.
        return 1.0 if after > 1 - self.first * SMALLEST_STEP + 1e-9 else after

    def after(self, used: float, *, adapts: bool = True) -> "Pace | None":
        """Return the pace after a step, by the part of the budget that is used up.

        A third of the budget or less makes the next step half as large again, up to twice the
        first; more than two thirds make it half as large. Beyond the budget, the step is undone
        and one of half its size is tried, down to a quarter of the first.

        Args:
            used: The drop of the score over the largest accepted drop.
            adapts: Whether the size follows the score; if not, the first step that breaks the
                budget is the last.

        Returns:
            The pace; None if there is no smaller step to try.
        """
        if not used <= 1:  # neither is a score that is no number
            smaller = (self.next - self.done) / 2
            is_over = not adapts or smaller < self.first * SMALLEST_STEP - 1e-9
            return None if is_over else replace(self, size=smaller)
        size = self.size
        if adapts and used <= 1 / 3:
            size = min(1.5 * size, LARGEST_STEP * self.first)
        elif adapts and used > 2 / 3:
            size = max(size / 2, SMALLEST_STEP * self.first)
        return replace(self, done=self.next, size=size)


def alignment(width: int, round_to: int) -> int:
    """Return the number that a layer's width should stay a multiple of.

    A layer narrower than four times `round_to` is aligned more finely, or it could hardly lose
    anything.

    Args:
        width: The channels of the layer before pruning.
        round_to: The alignment of wide layers, >= 1.
    """
    while round_to > 1 and width < 4 * round_to:
        round_to //= 2
    return max(round_to, 1)


def legal_count(asked: int, width: int, per_unit: int, align: int, smallest: int) -> int:
    """Return the largest legal number of units to remove, not above the number asked for.

    Args:
        asked: Number of units that would go by their scores.
        width: The channels of the layer now.
        per_unit: Channels in one unit.
        align: The width that is left is a multiple of this.
        smallest: The width that is left is not below this.
    """
    for count in range(asked, 0, -1):
        rest = width - count * per_unit
        if rest >= max(smallest, 1) and rest % align == 0:
            return count
    return 0


def counts_of(order: Sequence[int], length: int, num_groups: int) -> list[int]:
    """Count how often each group occurs among the first entries of a removal order."""
    counts = [0] * num_groups
    for group in order[:length]:
        counts[group] += 1
    return counts


def removal_order(
    scores: Sequence[Sequence[float]],
    scope: Literal["global", "local"],
    dense: Sequence[int] | None = None,
) -> list[int]:
    """Return the group of each unit, in the order in which units are removed.

    Args:
        scores: For each group the scores of its units, ascending.
        scope: `global` removes the lowest scores of all; `local` the same share of every group.
        dense: How many units each group had before any pruning, of which shares are taken; by
            default as many as it has.
    """
    ranked: list[tuple[float, int]] = []
    for group, values in enumerate(scores):
        whole = len(values) if dense is None else dense[group]
        gone = whole - len(values)
        for place, value in enumerate(values):
            ranked.append(((gone + place + 1) / whole if scope == "local" else value, group))
    return [group for _, group in sorted(ranked)]


def first_length(is_enough: Callable[[int], bool], longest: int) -> int | None:
    """Find the smallest length that is enough, given that all longer ones are too.

    Args:
        is_enough: Says whether a length, 0 to `longest`, is enough.
        longest: The largest length.

    Returns:
        That length; None if even `longest` is not enough.
    """
    if not is_enough(longest):
        return None
    low, high = 0, longest
    while low < high:
        middle = (low + high) // 2
        if is_enough(middle):
            high = middle
        else:
            low = middle + 1
    return high
