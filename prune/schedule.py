"""How much goes at each step, and which numbers of channels are legal: pure functions."""

from collections.abc import Callable, Sequence
from typing import Literal

Curve = Literal["linear", "geometric"]


def kept_shares(keep: float, num_steps: int, curve: Curve = "linear") -> list[float]:
    """Give the share of the cost that is left after each step.

    Args:
        keep: The share left at the end, in (0, 1].
        num_steps: Number of steps, >= 1.
        curve: `linear` removes the same cost in each step, `geometric` the same share of the rest.

    Returns:
        The shares, descending, the last of them `keep`.

    Raises:
        ValueError: If `keep` or `num_steps` is out of range.
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep is {keep}, it must lie in (0, 1]")
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}, it must be at least 1")
    done = [step / num_steps for step in range(1, num_steps + 1)]
    if curve == "geometric":
        return [keep**share for share in done]
    return [1 - share * (1 - keep) for share in done]


def alignment(width: int, round_to: int) -> int:
    """Give the number that a layer's width should stay a multiple of.

    A layer narrower than four times `round_to` is aligned more finely, or it could hardly lose
    anything.

    Args:
        width: The channels of the layer before pruning.
        round_to: What wide layers are aligned to, >= 1.
    """
    while round_to > 1 and width < 4 * round_to:
        round_to //= 2
    return max(round_to, 1)


def legal_count(asked: int, width: int, per_unit: int, align: int, smallest: int) -> int:
    """Give the most units, not above those asked for, that may leave a layer.

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
    scores: Sequence[Sequence[float]], scope: Literal["global", "local"]
) -> list[int]:
    """Give the group of each unit in the order in which units are removed.

    Args:
        scores: For each group the scores of its units, ascending.
        scope: `global` removes the lowest scores of all; `local` the same share of every group.
    """
    ranked: list[tuple[float, int]] = []
    for group, values in enumerate(scores):
        for place, value in enumerate(values):
            ranked.append(((place + 1) / len(values) if scope == "local" else value, group))
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
