"""Limits of what a run of a monitor may be told."""

from regrow.errors import BadInput

MAX_SAMPLE = 10_000  # pictures of an hour that are run through the model again


def refuse_sample(embeddings: int, attributions: int) -> None:
    """Refuse numbers of pictures to run through the model that cannot be.

    Args:
        embeddings: Largest number of pictures an hour that are embedded.
        attributions: Largest number of pictures an hour whose attributions are computed.

    Raises:
        BadInput: If one is negative, or too large.
    """
    for name, count in (("embeddings", embeddings), ("attributions", attributions)):
        if not 0 <= count <= MAX_SAMPLE:
            raise BadInput(f"{name} is {count}, it must lie in [0, {MAX_SAMPLE:,}]")


def refuse_group(smallest_group: int) -> None:
    """Refuse a smallest group of pictures that cannot be.

    Args:
        smallest_group: Number of pictures below which a value of a facet has no metric.

    Raises:
        BadInput: If it is less than one.
    """
    if smallest_group < 1:
        raise BadInput(f"smallest_group is {smallest_group}, it must be at least 1")
