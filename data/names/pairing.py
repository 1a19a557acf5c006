"""Masks found for images by their names: one mask an image."""

from collections import defaultdict
from pathlib import Path

from regrow.data.checks.faults import Faults
from regrow.data.checks.remarks import Remarks
from regrow.data.names.listing import list_images
from regrow.data.names.lookup import Folder
from regrow.errors import BadInput

NAME = "{name}"  # where the name of a mask repeats that of its image
UNUSED = "masks left out that are of no image"


def pair_masks(
    images: Path, masks: Path, faults: Faults, remarks: Remarks, pattern: str = NAME
) -> list[tuple[Path, Path]]:
    """Find the mask of each image below a folder.

    Args:
        images: The folder of the images.
        masks: The folder of the masks, PNG.
        faults: Where images are noted that have none, or one in common.
        remarks: Where masks without an image are counted.
        pattern: The name of a mask without its ending, as a function of that of its image.

    Returns:
        Each image with its mask.
    """
    found: dict[Path, list[Path]] = defaultdict(list)
    folder = Folder(masks)
    for file in list_images(images, remarks):
        below = file.relative_to(images)
        mask = below.with_name(f"{pattern.replace(NAME, below.stem)}.png")
        with faults.row(str(file)):
            place = folder.find(mask.parts)
            if place is None:
                raise BadInput(
                    f"{file}: its mask {masks / mask} is not there; add it, or say how masks are "
                    "called (regrow.data.formats.Masks: data.source.masks and .mask_name)"
                )
            found[place].append(file)
    pairs = []
    for mask, files in found.items():
        pairs += [(file, mask) for file in files if len(files) == 1]
        for file in files if len(files) > 1 else []:
            other = next(one for one in files if one != file)
            faults.add(
                f"{file}: its mask {mask} is that of {other} too; give each a name of its own",
                str(file),
            )
    for mask in list_images(masks) if masks.is_dir() else []:
        if mask not in found and mask.suffix.lower() == ".png":
            remarks.add(UNUSED, str(mask.relative_to(masks)))
    return sorted(pairs)
