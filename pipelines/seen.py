"""Test images that also train or validate, now or in the data of a network."""

from collections.abc import Sequence
from pathlib import Path

from regrow.data.checks.duplicates import seen_tests
from regrow.data.checks.remarks import NUM_NAMES
from regrow.data.module import GrowingData
from regrow.data.snapshot import Manifest
from regrow.data.splits import SPLITS
from regrow.errors import BadInput
from regrow.models.checkpoint import load_provenance


def seen_before(data: GrowingData, checkpoints: Sequence[Path]) -> list[str]:
    """Return the names of test images that also train or validate, here or for a network.

    Args:
        data: The data.
        checkpoints: The networks' files.
    """
    seen: set[bytes] = set()
    for path in checkpoints:
        manifest = load_provenance(path).manifest
        if manifest is not None:
            own = Manifest.from_dict(manifest)
            held = own.hashes[own.splits != SPLITS.index("test")]
            seen.update(row.tobytes() for row in held.numpy())
    return seen_tests(data.snapshot, seen)


def seen_in_words(seen: Sequence[str], data: GrowingData) -> str:
    """Return in words how many test images were seen before, with the first names."""
    more = ", ..." if len(seen) > NUM_NAMES else ""
    return (
        f"{len(seen)} of the {len(data.snapshot.indices('test'))} test images, on which the budget "
        f"is decided, are also training or validation images ({', '.join(seen[:NUM_NAMES])}{more})"
    )


def refuse_seen(seen: Sequence[str], data: GrowingData) -> None:
    """Refuse to decide a budget on images that were seen before.

    Raises:
        BadInput: If there are some.
    """
    if seen:
        raise BadInput(
            f"{seen_in_words(seen, data)}: take them out of the test split, or accept them with "
            "--accept_seen true"
        )
