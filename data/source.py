"""Sources of labelled images: a source lists the items of a data set, and decodes no pixels."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from regrow.data.checks.faults import Faults, reading
from regrow.data.checks.remarks import Remarks
from regrow.data.names.tidy import tidy
from regrow.data.targets.labels import Item, Kind
from regrow.errors import BadInput


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a source.

    Args:
        kind: What the labels are.
        classes: Class names.
        items: The images.
        remarks: What was left out, clipped or changed.
    """

    kind: Kind
    classes: Sequence[str]
    items: Sequence[Item]
    remarks: Remarks = field(default_factory=Remarks)


class Source:
    """A source of labelled images; each format implements `_read`, or `read` alone.

    Args:
        group: Groups of images that a split keeps together: a pattern (regular expression), whose
            first group in parentheses is the group of an image, such as its video. It is searched
            in the file's name without ending, and where it holds a `/` in the path below the root.

    Raises:
        BadInput: If the pattern is none, or has no group.
    """

    # Whether the images are trained on and scored by themselves, and do not only stand beside
    # others, as those of a memory do.
    stands_alone = True
    # Whether `_read` takes its items from other sources, which have tidied them.
    is_tidy = False
    group: re.Pattern[str] | None = None

    def __init__(self, group: str | None = None) -> None:
        try:
            self.group = re.compile(group) if group else None
        except re.error as error:
            raise BadInput(f"data.source.group {group!r} is not a pattern: {error}") from error
        if self.group and not self.group.groups:
            raise BadInput(f"data.source.group {group!r} has no group; put one in parentheses")

    def read(self, root: Path | None) -> Content:
        """Read what there is.

        Args:
            root: The folder of the data.

        Raises:
            BadInput: Naming the file that cannot be used, or all rows that cannot.
        """
        faults = Faults()
        content = self.gather(root, faults)
        faults.refuse()
        return content

    def gather(self, root: Path | None, faults: Faults) -> Content:
        """Read what can be used.

        Args:
            root: The folder of the data.
            faults: Where rows are noted that cannot be used.

        Raises:
            BadInput: Naming the file that cannot be used, whatever is wrong with it.
        """
        with suppress(BadInput):  # a source may need none
            faults.root = locate(root)
        with reading(f"{root}, read as {type(self).__name__}"):
            content = self._read(root, faults)
            told = Remarks() if self.is_tidy else content.remarks
            items = [self._grouped(item) for item in content.items]
            classes, items = tidy(content.classes, items, told, faults)
            return Content(content.kind, classes, items, content.remarks)

    def _grouped(self, item: Item) -> Item:
        """Return an item with the group that its name says, where its annotation says none."""
        if self.group is None or item.group is not None:
            return item
        path = PurePosixPath(item.name)
        name = path.with_suffix("").as_posix() if "/" in self.group.pattern else path.stem
        found = self.group.search(name)
        return item if found is None else replace(item, group=found.group(1))

    def _read(self, root: Path | None, faults: Faults) -> Content:
        return self.read(root)


def some_items(items: Sequence[Item], count: int | None) -> Sequence[Item]:
    """Draw so many items of each split at most; they stay in order."""
    if count is None:
        return items
    splits: dict[str | None, list[int]] = {}
    for place, item in enumerate(items):
        splits.setdefault(item.split, []).append(place)
    random = np.random.default_rng(0)
    drawn = [random.permutation(places)[:count] for places in splits.values()]
    return [items[place] for place in np.sort(np.concatenate(drawn))]


def locate(root: Path | None) -> Path:
    """Find the folder of the data.

    Args:
        root: A folder; where it does not exist as it stands, one under the environment variable
            `REGROW_DATA`, else under `../shared/data`.

    Raises:
        BadInput: If there is none, naming the places tried.
    """
    if root is None:
        raise BadInput("data.root is not set; give the folder of the data with --data.root")
    base = Path(os.environ.get("REGROW_DATA", "../shared/data"))
    places = [root] if root.is_absolute() else [root, base / root]
    for place in places:
        if place.is_dir():
            return place
    tried = " nor ".join(str(place) for place in places)
    here = "" if root.is_absolute() else f", seen from {Path.cwd()}"
    raise BadInput(f"data.root: no folder {tried}{here}; set --data.root or REGROW_DATA")
