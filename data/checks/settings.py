"""The settings of data: numbers out of range are refused before anything is read."""

from regrow.errors import BadInput
from regrow.limits import BATCH, NUM_PROCESSES, SIDE, refuse_beyond


def refuse_settings(
    size: tuple[int, int],
    batch_size: int,
    shares: tuple[float, float],
    num_workers: int,
    cache_bytes: int,
    max_images: int | None,
    balance: float | None,
) -> None:
    """Refuse settings of `GrowingData` that are out of range.

    Args:
        size: Height and width of the resized images, in pixels.
        batch_size: Number of images in a batch.
        shares: The shares of the images that validate and test.
        num_workers: Processes that decode and augment.
        cache_bytes: Bytes of resized images that are kept in memory.
        max_images: Number of images of each split at most; None for all.
        balance: The power of class-balanced sampling; None for none.

    Raises:
        BadInput: Naming the setting, what it is and what it may be.
    """
    if batch_size < 1 or min(size) < 1:
        raise BadInput(f"data.batch_size is {batch_size} and data.size {size}; both must be > 0")
    if not 0 <= sum(shares) < 1 or min(shares) < 0:
        raise BadInput(
            f"data.val_share {shares[0]} and data.test_share {shares[1]} must leave something to "
            "train on"
        )
    refuse_beyond(BATCH, data__batch_size=batch_size)
    refuse_beyond(SIDE, data__size=max(size))
    refuse_beyond(NUM_PROCESSES, data__num_workers=num_workers)
    if num_workers < 0 or cache_bytes < 0:
        raise BadInput(
            f"data.num_workers is {num_workers} and data.cache_bytes {cache_bytes}; both must be 0 "
            "or more"
        )
    if max_images is not None and max_images < 1:
        raise BadInput(f"data.max_images is {max_images}, it must be at least 1, or null")
    if balance is not None and not 0 < balance <= 1:
        raise BadInput(f"data.balance is {balance}, it must lie in (0, 1], or be null")


def refuse_decoding(max_pixels: int, grey_range: tuple[int, int] | None) -> None:
    """Refuse limits and ranges of pixels that no image can have.

    Args:
        max_pixels: Number of pixels of an image at most.
        grey_range: The values of 16-bit grey images that become 0 and 255; None for all.

    Raises:
        BadInput: Naming the setting, what it is and what it may be.
    """
    if max_pixels < 1:
        raise BadInput(f"data.max_pixels is {max_pixels}, it must be at least 1")
    if grey_range is not None and not 0 <= grey_range[0] < grey_range[1] <= 65535:
        raise BadInput(
            f"data.grey_range is {[*grey_range]}; it must be two values of 0 to 65535, the lower "
            "one first"
        )
