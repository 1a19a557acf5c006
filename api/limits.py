"""Upper limits of the numbers in options: generous, but below what exhausts the machine."""

from regrow.errors import BadInput

NUM_PROCESSES = 512  # workers that read images, or devices
BATCH = 2**17  # images
SIDE = 2**14  # pixels, of images as networks see them
NUM_EPOCHS = 10**6
NUM_SHOWN = 10**4  # images that a log shows
NUM_RUNS = 10**4  # seeds, or steps of pruning


def refuse_beyond(limit: int, **values: int | None) -> None:
    """Refuse numbers beyond a limit.

    Args:
        limit: The largest number that is accepted.
        values: Numbers by the name of their option, two underscores for a dot; None is none.

    Raises:
        BadInput: If one is larger, by its name.
    """
    for name, value in values.items():
        if value is not None and value > limit:
            raise BadInput(f"{name.replace('__', '.')} is {value:,}, it may be {limit:,} at most")
