"""The rule of three for scores: the change that can occur without showing on any image."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shown:
    """The number of images of a test set, and how many of them show each class.

    Args:
        num_images: The number of images.
        by_class: The number of images that show each class, if the score is a mean over classes;
            empty for accuracy.
        is_accuracy: Whether the score is accuracy, which the exact test decides about.
    """

    num_images: int
    by_class: Sequence[int] = ()
    is_accuracy: bool = False

    def unseen(self, confidence: float, num_images: float | None = None) -> float:
        """Compute the change of the score that can occur without showing on any of the images.

        An event on a share s = 1 - (1 - confidence)^(1 / n) of all images occurs on none of n
        with a probability of 1 - confidence. Accuracy then loses s. Mean IoU and mean AP, if all is
        mistaken on these images, lose true positives and gain false ones: an intersection of 1 - s
        and a union of 1 + s are left, a loss of 2 s / (1 + s). In a mean over classes, a class
        loses the share s of the images that show it. A class of few objects loses more if all
        mistaken objects of other classes are taken for it; that is not bounded here.

        Source: Hanley and Lippman-Hand, If nothing goes wrong, is everything all right?, JAMA 249,
        1983 (the rule of three: a share of about 3 / n at 95 %).

        Args:
            confidence: The confidence, in (0, 1).
            num_images: Another number of images, which show the classes in the same proportions.

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
        """Return the least number of images that could decide about a limit.

        So many decide if the score does not change at all on them.

        Args:
            limit: The accepted change, in [0, 1].
            confidence: The confidence of the decision, in (0, 1).

        Returns:
            The number; None where no number decides, for a limit of 0.
        """
        return first(lambda count: self.unseen(confidence, count) <= limit + 1e-12, 1)


def count_shown(names: Sequence[Collection[str]], is_accuracy: bool) -> Shown:
    """Count images and the classes that they show, from their labels alone.

    Args:
        names: For each image the names of the classes in its label.
        is_accuracy: Whether the score is accuracy, which leaves out images that show no class.
    """
    by_class = Counter(name for own in names for name in own)
    if is_accuracy:
        return Shown(sum(bool(own) for own in names), is_accuracy=True)
    return Shown(len(names), tuple(by_class.values()))


def _share(num_images: float, confidence: float) -> float:
    return float(1 - (1 - confidence) ** (1 / num_images)) if num_images > 0 else 1.0


def first(holds: Callable[[int], bool], start: int, limit: float = 1e12) -> int | None:
    """Return the least integer at which a monotone condition holds, by binary search.

    Args:
        holds: The condition; where it holds it holds for all larger numbers.
        start: The least number that is tried.
        limit: The number at which the search ends.

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
