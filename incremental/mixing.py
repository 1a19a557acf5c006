"""Sampling weights of old and new images in a warm-started run."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from regrow.data.batches.mixture import Mixture, repeat_factors
from regrow.errors import BadInput


@dataclass(frozen=True)  # slots would hide its defaults from the command line
class Mixing:
    """Sampling weights of a warm start's images; the length of an epoch stays.

    Args:
        new_share: Share of new images, which the old network was not trained on, in an epoch, in
            (0, 1); null leaves the share that they have in the data.
        boost: Oversampling of images that show a class new to the network: how many times as often
            they come at first.
        boosted: Share of the run, from its start, with that oversampling, in [0, 1].
        balance: Class balance: let classes come equally often, however many images show them; null
            does so where a memory stands for the old data. Where `data.balance` is given, it
            decides.

    Raises:
        BadInput: If a value is out of range.
    """

    new_share: float | None = None
    boost: float = 2.0
    boosted: float = 0.25
    balance: bool | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.new_share is not None and not 0 < self.new_share < 1:
            raise BadInput(f"mixing.new_share is {self.new_share}, it must lie in (0, 1), or null")
        if not 1 <= self.boost < float("inf"):
            raise BadInput(f"mixing.boost is {self.boost}, it must be 1 or more")
        if not 0 <= self.boosted <= 1:
            raise BadInput(f"mixing.boosted is {self.boosted}, it must lie in [0, 1]")

    def mixture(
        self,
        shown: Sequence[Collection[str]],
        is_new: Sequence[bool],
        new_classes: Collection[str],
        num_epochs: int,
        *,
        has_memory: bool = False,
        exponent: float | None = None,
    ) -> Mixture | None:
        """Return the sampling weights of the training images.

        Args:
            shown: The classes that each image shows.
            is_new: Whether the old network was not trained on it.
            new_classes: The classes that are new to the network.
            num_epochs: The epochs of the run.
            has_memory: Whether the old images are a memory of what there was.
            exponent: The `data.balance` of the run, which decides how far classes are balanced
                where it is given.

        Returns:
            The mixture; None if each image comes once an epoch.
        """
        is_balanced = self.balance if self.balance is not None else has_memory
        if exponent is None and is_balanced:
            exponent = 1.0
        weights = [1.0] * len(shown) if exponent is None else repeat_factors(shown, exponent)
        weights = _shared(weights, is_new, self.new_share)
        boosts = [self.boost if set(new_classes) & set(own) else 1.0 for own in shown]
        first = [weight * boost for weight, boost in zip(weights, boosts, strict=True)]
        num_first = round(self.boosted * num_epochs) if first != weights else 0
        if len(set(weights)) == 1 and (not num_first or len(set(first)) == 1):
            return None
        return Mixture(weights, first, num_first)


def _shared(
    weights: Sequence[float], is_new: Sequence[bool], new_share: float | None
) -> list[float]:
    totals = {
        flag: sum(w for w, own in zip(weights, is_new, strict=True) if own is flag)
        for flag in (True, False)
    }
    if new_share is None or not all(totals.values()):
        return list(weights)
    parts = {True: new_share / totals[True], False: (1 - new_share) / totals[False]}
    return [weight * parts[own] for weight, own in zip(weights, is_new, strict=True)]
