"""Labelled images stored beside a run: a snapshot that needs nothing but its own folder."""

import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from regrow.data.checks.faults import Faults, shown
from regrow.data.images.conversion import Decoding
from regrow.data.images.decoding import Derived, decode, decode_mask
from regrow.data.images.pixels import Pixels
from regrow.data.names.lookup import find_file
from regrow.data.names.tidy import MAX_NUMBER, mask_number
from regrow.data.source import Content, Source, locate
from regrow.data.splits import SPLITS
from regrow.data.targets.labels import (
    CROWD,
    DIFFICULT,
    OBJECT,
    VOID,
    Boxes,
    Item,
    Kind,
    Mask,
    Target,
    pixels_hash,
)
from regrow.errors import BadInput
from regrow.files import read_json, whole_folder, write_json
from regrow.plain import MISSHAPEN

LIST = "snapshot.json"
MEMORY = "memory"  # the folder of a run that holds the images it keeps for later ones
KINDS = ("labels", "boxes", "masks")


class Stored(Source):
    """A stored snapshot, as `store` wrote it.

    The pixels are compared with the hash that they had, those of an image whenever it is read.
    """

    stands_alone = False

    def _read(self, root: Path | None, faults: Faults) -> Content:
        """Read the list of the snapshot, all of it: nothing in it may be bad."""
        root = locate(root)
        content = read_json(root / LIST)
        try:
            if content["kind"] not in KINDS:
                raise ValueError(f"it has the kind {content['kind']!r}")
            items = [_item(root, entry) for entry in content["items"]]
            return Content(content["kind"], [str(name) for name in content["classes"]], items)
        except MISSHAPEN as error:
            raise BadInput(f"{root / LIST}: no list of a stored snapshot ({error})") from error


def store(
    folder: Path,
    kind: Kind,
    classes: Sequence[str],
    items: Sequence[Item],
    about: Mapping[str, Any] | None = None,
    kept: Sequence[Pixels] | None = None,
) -> None:
    """Store images and labels: files as they are, pixels as PNG.

    Args:
        folder: Where to; what is there is replaced when everything is written.
        kind: What the labels are.
        classes: Class names.
        items: The images, each with the split that it shall have.
        about: Further plain data, to stand beside them in the list.
        kept: What is remembered of each image, of which the copies are checked.

    Raises:
        BadInput: If a file is no longer what it was.
    """
    known = [Pixels((0, 0))] * len(items) if kept is None else kept
    with whole_folder(folder) as made:
        (made / "images").mkdir()
        pairs = zip(items, known, strict=True)
        entries = [_store(made, number, *pair) for number, pair in enumerate(pairs)]
        listed = {**(about or {}), "kind": kind, "classes": list(classes), "items": entries}
        write_json(made / LIST, listed, indent=1)


def exemplars(shown: Sequence[set[str]], hashes: Sequence[bytes], count: int) -> list[int]:
    """Choose images so that the classes come as equally often as they can.

    Again and again the class of which the fewest are chosen gives its next image. Which that is
    depends on nothing but the hashes of the images, so a larger choice contains a smaller one.

    Args:
        shown: The classes that each image shows; images that show none are taken last.
        hashes: The hash of each image's pixels.
        count: How many to choose, at most as many as there are.

    Returns:
        Their places, ascending.
    """
    order = sorted(range(len(shown)), key=lambda place: hashes[place])
    waiting: dict[str, list[int]] = defaultdict(list)
    for place in reversed(order):
        for name in shown[place]:
            waiting[name].append(place)
    chosen: dict[int, None] = {}
    counts = Counter({name: 0 for name in sorted(waiting)})
    while len(chosen) < count and waiting:
        name = min(waiting, key=lambda own: (counts[own], own))
        place = waiting[name].pop()
        if not waiting[name]:
            del waiting[name]
        if place not in chosen:
            chosen[place] = None
            counts.update(shown[place])
    rest = [place for place in order if place not in chosen]
    return sorted([*chosen, *rest[: count - len(chosen)]])


def _store(folder: Path, number: int, item: Item, kept: Pixels) -> dict[str, Any]:
    place = _put(folder / "images", number, item.image, partial(decode, decoding=kept.decoding))
    found = pixels_hash(decode(place, kept.decoding))
    if kept.known is not None:
        kept.known.check(found, item.image if isinstance(item.image, Path) else item.name)
    entry = {
        "name": item.name,
        "image": place.relative_to(folder).as_posix(),
        "hash": found.hex(),
        "split": item.split,
        "known": sorted(item.known) if item.known is not None else None,
    }
    return entry | {"target": _label(folder, number, item.target, kept)}


def _label(folder: Path, number: int, target: Target, kept: Pixels) -> Any:
    if isinstance(target, str):
        return target
    if isinstance(target, Boxes):
        boxes = {"classes": list(target.classes), "xyxy": target.xyxy.tolist()}
        return boxes | ({"ignored": list(target.ignored)} if target.ignored else {})
    masks = folder / "masks"
    masks.mkdir(exist_ok=True)
    place = _put(masks, number, target.pixels, decode_mask)
    found = pixels_hash(decode_mask(place, kept.decoding))
    # Numbers that lie in no file are written in fewer bytes each.
    if kept.known_mask is not None and isinstance(target.pixels, Path):
        kept.known_mask.check(found, target.pixels)
    return {
        "mask": place.relative_to(folder).as_posix(),
        "hash": found.hex(),
        "names": {str(key): name for key, name in target.names.items()},
        "void": sorted(target.void),
    }


def _put(folder: Path, number: int, image: Any, read: Any) -> Path:
    """Copy a file, or write pixels as PNG."""
    if isinstance(image, Path):
        return Path(shutil.copyfile(image, folder / f"{number:06}{image.suffix.lower()}"))
    place = folder / f"{number:06}.png"
    pixels = read(image)
    if pixels.ndim == 2:
        pixels = pixels.astype(np.uint8 if pixels.max(initial=0) <= VOID else np.uint16)
    Image.fromarray(pixels).save(place)
    return place


def _item(root: Path, entry: Mapping[str, Any]) -> Item:
    split = entry["split"]
    if split is not None and split not in SPLITS:
        raise ValueError(f"it has the split {split!r}")
    image = _Checked(_file(root, entry["image"]), str(entry["hash"]))
    known = None if entry["known"] is None else frozenset(map(str, entry["known"]))
    target = _target(root, entry["target"])
    return Item(str(entry["name"]), image, target, split, known=known)


def _target(root: Path, label: Any) -> Target:
    if isinstance(label, str):
        return label
    if "xyxy" in label:
        xyxy = np.array(label["xyxy"], dtype=np.float32).reshape(-1, 4)
        names = tuple(map(str, label["classes"]))
        if len(names) != len(xyxy):
            raise ValueError("it has boxes without a class")
        ignored = tuple(map(int, label.get("ignored", ())))
        if not {*ignored} <= {OBJECT, DIFFICULT, CROWD}:
            raise ValueError(f"it has boxes ignored as {ignored}")
        return Boxes(xyxy, names, ignored)
    called = {mask_number(k, LIST): str(name) for k, name in label["names"].items()}
    file = _file(root, label["mask"])
    _refuse_changed(file, decode_mask(file), str(label["hash"]))
    void = frozenset(int(number) for number in label["void"] if int(number) <= MAX_NUMBER)
    return Mask(file, called, void)


def _file(root: Path, name: Any) -> Path:
    """Return a stored file; what stands beside a run may lead nowhere else, not even by a link."""
    file = find_file(root, name, allows_links=False)
    if file is None:
        raise BadInput(f"{root}/{shown(name)}: no such file below that folder; restore it")
    return file


@dataclass(frozen=True, slots=True)
class _Checked(Derived):
    """A stored image, which is compared with its hash whenever it is read."""

    file: Path
    hash: str

    def __call__(self, decoding: Decoding = Decoding()) -> np.ndarray:
        pixels = decode(self.file, decoding)
        _refuse_changed(self.file, pixels, self.hash)
        return pixels


def _refuse_changed(file: Path, pixels: np.ndarray, wanted: str) -> None:
    if pixels_hash(pixels).hex() != wanted:
        raise BadInput(
            f"{file}: not what was stored, its pixels have changed, or data.grey_range is not "
            "that of then; restore either, or train the network before with `replay` again"
        )
