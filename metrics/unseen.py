"""What no image showed: how much a score may change, by chance, without a trace in any image."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shown:
    """How many images there are to see a change on, and how many of them show each class.

    Args:
        num_images: The number of images.
        by_class: How many show each class that the score is a mean over; empty where classes do
            not count, as in accuracy.
        is_accuracy: Whether the score is a share of the images, which the exact test decides about.
    """

    num_images: int
    by_class: Sequence[int] = ()
    is_accuracy: bool = False

    def unseen(self, confidence: float, num_images: float | None = None) -> float:
        """Return the change of the score that so many images may not show at all.

        What happens on a share s = 1 - (1 - confidence)^(1 / n) of all images is seen on none of n
        with a probability of 1 - confidence. Of accuracy s is lost. Of mean IoU and mean AP, if all
        is mistaken on these, it is missing where it belongs and found where it does not: of an
        intersection 1 - s and a union 1 + s are left, so 2 s / (1 + s) is lost. In a mean over
        classes, what is missing on a share of the images that show a class is lost of that class.
        A class of few objects loses more if all goes to it that is mistaken for another; that is
        not bounded here.

        Source: Hanley and Lippman-Hand, If nothing goes wrong, is everything all right?, JAMA 249,
        1983 (the rule of three: a share of about 3 / n at 95 %).

        Args:
            confidence: The confidence, in (0, 1).
            num_images: The number of images, if it were another; classes are shown as often.

        Returns:
            A change of the score, in (0, 1].
        """
        count = self.num_images if num_images is None else num_images
        share = _share(count, confidence)
        if self.is_accuracy:
            return share
        shown = [number for number in self.by_class if number > 0]
        if not shown:
            return 2 * share / (1 + share)
        rarest = min(shown) * count / max(self.num_images, 1)
        return max(2 * share / (1 + share), _share(rarest, confidence) / len(shown))

    def least_images(self, limit: float, confidence: float) -> int | None:
        """Return the fewest images that could decide about a limit, were nothing to change at all.

        Args:
            limit: The change in question, in [0, 1].
            confidence: The confidence of the decision, in (0, 1).

        Returns:
            The number; None where none decides, for a limit of 0.
        """
        return first(lambda count: self.unseen(confidence, count) <= limit + 1e-12, 1)


def count_shown(names: Sequence[Collection[str]], is_accuracy: bool) -> Shown:
    """Count images and the classes that they show, before any network has seen them.

    Args:
        names: For each image the names of the classes that its label shows.
        is_accuracy: Whether the score is accuracy: images that show none of the classes are left
            out then.
    """
    by_class = Counter(name for own in names for name in own)
    if is_accuracy:
        return Shown(sum(bool(own) for own in names), is_accuracy=True)
    return Shown(len(names), tuple(by_class.values()))


def _share(num_images: float, confidence: float) -> float:
    return float(1 - (1 - confidence) ** (1 / num_images)) if num_images > 0 else 1.0


def first(holds: Callable[[int], bool], start: int, limit: float = 1e12) -> int | None:
    """Return the first number from which something holds, which holds ever after.

    Args:
        holds: Whether it holds at a number.
        start: The least number in question.
        limit: Where the search ends.

    Returns:
        The number; None if there is none up to the limit.
    """
    low, high, step = start - 1, start, 1
    while not holds(high):
        if high > limit:
            return None
        low, high, step = high, high + step, 2 * step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
