"""Counting of images that no annotation lists, and of annotation files that are not read."""

from collections.abc import Collection
from pathlib import Path

from regrow.data.checks.remarks import Remarks
from regrow.data.names.listing import list_images
from regrow.data.targets.labels import Item, Mask
from regrow.files import name_below

UNLISTED = "images left out that no annotation lists"


UNREAD = "annotation files left out"


SEVERAL = "images that several splits of {lists} list, taken for the last of train, val, test"


def files_of(item: Item) -> list[Path]:
    """Return the files of an item."""
    pixels = item.target.pixels if isinstance(item.target, Mask) else None
    return [place for place in (item.image, pixels) if isinstance(place, Path)]


def count_unlisted(
    folder: Path, used: Collection[Path], remarks: Remarks, root: Path | None = None
) -> None:
    """Count the images in a folder that are not used."""
    for file in list_images(folder, remarks) if folder.is_dir() else []:
        if file not in used:
            remarks.add(UNLISTED, name_below(root or folder, file))
