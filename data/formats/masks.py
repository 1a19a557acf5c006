"""Masks: images with a PNG of class numbers each, and a file that names the numbers."""

from collections import Counter
from pathlib import Path
from typing import Any

from regrow.data.checks.faults import Faults
from regrow.data.checks.remarks import Remarks
from regrow.data.names.pairing import NAME, pair_masks
from regrow.data.names.tidy import (
    MAX_NUMBER,
    class_name,
    clean_name,
    mask_number,
)
from regrow.data.source import Content, Source, locate
from regrow.data.targets.labels import Item, Mask
from regrow.errors import BadInput
from regrow.files import GAP, SPLIT_NAMES, name_below, read_json

FORMS = 'a list of class names, as ["sky", "road"], or names with numbers, as {"sky": 0, "road": 1}'


def read_mask_classes(path: Path) -> tuple[dict[int, str], frozenset[int]]:
    """Return the class of each number, and the numbers of void."""
    if not path.is_file():
        raise BadInput(f"{path}: no such list of classes; set data.source.classes_file")
    content, void = read_json(path), None
    if isinstance(content, dict):
        void = content.get("void", content.get("ignore_index"))
        content = content.get("classes", {k: v for k, v in content.items() if _is_number(v)})
        content = content or None  # names of numbers, the other way round, are not read
    if isinstance(content, list):
        pairs = list(enumerate(content))
    elif isinstance(content, dict) and all(isinstance(v, int) for v in content.values()):
        pairs = [(number, name) for name, number in content.items()]
    else:
        raise BadInput(f"{path}: expected {FORMS}")
    try:
        pairs = [(number, class_name(name)) for number, name in pairs]
    except ValueError as error:
        raise BadInput(f"{path}: {error}; write its name") from error
    if void is not None and (not isinstance(void, int) or void > MAX_NUMBER):
        raise BadInput(f"{path}: void is {void!r:.99}; give its number, at most {MAX_NUMBER}")
    numbers = {mask_number(number, str(path)): name for number, name in pairs}
    if len(numbers) < len(pairs):
        raise BadInput(f"{path}: two classes have the same number; number each")
    counts = Counter(clean_name(name) for _, name in pairs)
    twice = sorted(name for name, count in counts.items() if count > 1)
    if twice:
        raise BadInput(f"{path}: {', '.join(twice)} is named twice; name each class once")
    voids = {k for k, name in pairs if k == void or clean_name(name).lower() in ("void", "ignore")}
    names = {number: name for number, name in pairs if number not in voids}
    return names, frozenset(voids if void is None else voids | {void})


def _is_number(value: Any) -> bool:
    """Whether a value beside class names was meant to be a number, and is no other fact."""
    return isinstance(value, int | float) or (isinstance(value, str) and value.strip().isdecimal())


class Masks(Source):
    """Images with a PNG of class numbers each.

    `classes.json` holds a list of class names by number, or a mapping of names to numbers, perhaps
    under `classes`, with the number of void under `void` or `ignore_index`. 255 is void too unless
    it is the number of a class, and so is a class named void or ignore. A mask with any other
    number is refused.

    Args:
        images: The folder of a split's images, below the root.
        masks: The folder of a split's masks, below the root.
        classes_file: The list of classes, below the root.
        group: Groups of images that a split keeps together, see `Source`.
        mask_name: The name of a mask without its ending, such as `{name}_mask` of `{name}.jpg`.
    """

    def __init__(
        self,
        images: str = "images/{split}",
        masks: str = "masks/{split}",
        classes_file: str = "classes.json",
        group: str | None = None,
        mask_name: str = NAME,
    ) -> None:
        super().__init__(group)
        self.images, self.masks, self.classes_file = images, masks, classes_file
        self.mask_name = mask_name
        if NAME not in mask_name or "/" in mask_name:
            raise BadInput(
                f"data.source.mask_name is {mask_name!r}; it must hold {NAME} and no folder"
            )

    def _read(self, root: Path | None, faults: Faults) -> Content:
        """Read all splits that have images."""
        root, remarks = locate(root), Remarks()
        names, void = read_mask_classes(root / self.classes_file)
        items = []
        for alias, split in SPLIT_NAMES.items() if GAP in self.images else [("", None)]:
            folder = root / self.images.replace(GAP, alias)
            if not folder.is_dir():
                continue
            masks = root / self.masks.replace(GAP, alias)
            for file, mask in pair_masks(folder, masks, faults, remarks, self.mask_name):
                target = Mask(mask, names, void)
                items.append(Item(name_below(root, file), file, target, split))
        if not items:
            faults.refuse()
            raise BadInput(f"{root}: no images at {self.images}; set data.source.images")
        return Content("masks", list(dict.fromkeys(names.values())), items, remarks)
