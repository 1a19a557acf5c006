"""Several sources in one: other files or folders, each of which knows classes of its own."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from regrow.data.checks.faults import Faults, shown
from regrow.data.checks.remarks import Remarks
from regrow.data.formats.unlisted import UNLISTED, UNREAD
from regrow.data.source import Content, Source, locate
from regrow.data.targets.labels import Boxes, Item
from regrow.errors import BadInput

MAX_SOURCES = 100
TOGETHER = "images that several sources list, taken with the boxes of each"
# What one source leaves out of a folder another one may list.
OF_ONE_SOURCE = (UNLISTED, UNREAD)


@dataclass(frozen=True)
class Part:
    """One of several sources.

    Args:
        source: The source.
        root: Its folder, which may lie below that of the data; null takes the latter.
    """

    source: Source
    root: Path | None = None


class Several(Source):
    """Several sources in one run, such as COCO files that were labelled for different classes.

    What an image does not show of a class that its own source does not know is unknown: neither
    loss nor score counts it as background. An image that several sources list is one image, with
    the boxes and the known classes of all of them.

    Args:
        sources: The sources, each with its folder (`source` and `root`), of one kind of labels.
        group: Groups of images that a split keeps together, where a source gives none; see
            `Source`.

    Raises:
        BadInput: If there are none, or too many.
    """

    is_tidy = True

    def __init__(self, sources: list[Part], group: str | None = None) -> None:
        super().__init__(group)
        if not 1 <= len(sources) <= MAX_SOURCES:
            raise BadInput(
                f"data.source.sources has {len(sources)} sources; give 1 to {MAX_SOURCES}"
            )
        self.sources = list(sources)

    def _read(self, root: Path | None, faults: Faults) -> Content:
        """Read all sources, and let each image know the classes of its own."""
        own, remarks = faults.root, Remarks()
        contents: list[Content] = []
        for part in self.sources:
            content = part.source.gather(_folder(root, part.root), faults)
            faults.root = own
            if contents and content.kind != contents[0].kind:
                raise BadInput(
                    f"data.source.sources: {_called(self.sources[0])} has {contents[0].kind}, "
                    f"{_called(part)} has {content.kind}; one kind of label in a run"
                )
            contents.append(content)
            is_shared = sum(other.root == part.root for other in self.sources) > 1
            remarks.take(content.remarks, OF_ONE_SOURCE if is_shared else ())
        classes = list(dict.fromkeys(name for content in contents for name in content.classes))
        items: dict[object, Item] = {}
        for prefix, content in zip(_prefixes(self.sources), contents, strict=True):
            known = frozenset(content.classes)
            for item in content.items:
                key = os.path.realpath(item.image) if isinstance(item.image, Path) else id(item)
                item = replace(
                    item,
                    name=f"{prefix}{item.name}",
                    known=known if item.known is None else item.known,
                )
                with faults.row(item.name):
                    items[key] = _both(items[key], item, remarks) if key in items else item
        joined = [_knowing(item, classes) for item in items.values()]
        return Content(contents[0].kind, classes, joined, remarks)


def _called(part: Part) -> str:
    name = type(part.source).__name__
    return name if part.root is None else f"{name} ({part.root})"


def _folder(root: Path | None, own: Path | None) -> Path | None:
    """Return the folder of a source: below that of the data where there is one."""
    if own is None or root is None or own.is_absolute():
        return root if own is None else own
    below = locate(root) / own
    return below if below.is_dir() else own


def _prefixes(parts: Sequence[Part]) -> list[str]:
    """Return what the names of each source's images begin with: its folder, each of its own."""
    prefixes: dict[Path, str] = {}
    for part in parts:
        if part.root is not None and part.root not in prefixes:
            is_plain = not part.root.is_absolute() and ".." not in part.root.parts
            name = part.root.as_posix() if is_plain else part.root.name
            prefix = f"{name}/"
            while prefix in prefixes.values():
                prefix = f"{name}-{len(prefixes) + 1}/"
            prefixes[part.root] = prefix
    return [prefixes[part.root] if part.root is not None else "" for part in parts]


def _both(item: Item, other: Item, remarks: Remarks) -> Item:
    """Return an image that two sources list, with what both say of it.

    Raises:
        BadInput: If they contradict each other.
    """
    splits = {item.split, other.split} - {None}
    if len(splits) > 1:
        raise BadInput(
            f"{other.name}: one source has it in {item.split}, another in {other.split}; list it "
            "in one split"
        )
    target = item.target
    if isinstance(target, Boxes) and isinstance(other.target, Boxes):
        target = _boxes_of_both(target, other.target)
        remarks.add(TOGETHER, item.name)
    elif target != other.target or not isinstance(target, str):
        said = ", ".join(shown(own) for own in (target, other.target) if isinstance(own, str))
        raise BadInput(
            f"{other.name}: two sources label it ({said or 'masks'}); list it in one of them"
        )
    known = (item.known or frozenset()) | (other.known or frozenset())
    return replace(
        item,
        target=target,
        split=item.split or other.split,
        group=item.group or other.group,
        known=known,
        declared=item.declared or other.declared,
        declared_by=item.declared_by or other.declared_by,
    )


def _boxes_of_both(boxes: Boxes, more: Boxes) -> Boxes:
    """Return the boxes of both, those that are the same once."""
    seen = {(name, *box) for name, box in zip(boxes.classes, boxes.xyxy.tolist(), strict=True)}
    pairs = zip(more.classes, more.xyxy.tolist(), strict=True)
    new = [place for place, (name, box) in enumerate(pairs) if (name, *box) not in seen]
    return Boxes(
        np.concatenate([boxes.xyxy, more.xyxy[new]]),
        (*boxes.classes, *(more.classes[place] for place in new)),
        (*boxes.marks, *(more.marks[place] for place in new)),
    )


def _knowing(item: Item, classes: Sequence[str]) -> Item:
    """Return an item that says which classes it knows, where these are not all."""
    knows_all = isinstance(item.target, str) or item.known == frozenset(classes)
    return replace(item, known=None) if knows_all else item
