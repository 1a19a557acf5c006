"""Replay memory: exemplars of the training images, stored with a run for the next one."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from regrow.data.images.pixels import Pixels
from regrow.data.module import GrowingData
from regrow.data.splits import SPLITS
from regrow.data.stored import LIST, MEMORY, exemplars, store
from regrow.data.targets.labels import Item, Target
from regrow.errors import BadInput
from regrow.files import read_json
from regrow.plain import MISSHAPEN

MIXED = ""  # in place of a class, for images that are not of a single one


def stood_for(
    memory: Path, called: Mapping[str, str] | None = None, removed: Collection[str] = ()
) -> Counter[str]:
    """Count the training images that a memory stands for, by the class that each is.

    Args:
        memory: Its folder.
        called: Names of classes there to names here.
        removed: Names of classes there that are given up: no image that is one of them counts.

    Raises:
        BadInput: If it does not say so.
    """
    listed = read_json(memory / LIST)
    listed, names = listed if isinstance(listed, dict) else {}, called or {}
    value = listed.get("stands_for")
    counts = listed.get("by_class", {MIXED: value})
    if not isinstance(counts, dict) or any(
        type(n) is not int or n < 0 for n in (value, *counts.values())
    ):
        raise BadInput(f"{memory / LIST}: does not say what the memory stands for")
    return Counter({names.get(n, n): count for n, count in counts.items() if n not in removed})


def memory_size(memory: Path) -> int:
    """Count the training images of a memory.

    Raises:
        BadInput: If its list is none.
    """
    listed = read_json(memory / LIST)
    try:
        return sum(item["split"] == "train" for item in listed["items"])
    except MISSHAPEN as error:
        raise BadInput(f"{memory / LIST}: no list of a stored snapshot ({error!r})") from error


def check_replay(data: GrowingData, replay: float) -> None:
    """Refuse a size of a memory that the data cannot fill.

    Raises:
        BadInput: If it is no size or share, or larger than the data.
    """
    count = len(data.snapshot.indices("train"))
    if not (0 < replay <= 1 or (replay > 1 and float(replay).is_integer())):
        raise BadInput(f"replay is {replay}, it must be a share in (0, 1], or a number of images")
    if replay > max(count, 1):
        raise BadInput(
            f"replay is {replay:g}, more than the {count} training images; lower it, or give a "
            "share in (0, 1]"
        )


def store_memory(
    data: GrowingData, replay: float, run: Path, *, before: Counter[str] | None = None
) -> int:
    """Store exemplars of the data with a run, as equally many of each class as there can be.

    There is the same share of validation and test images, for the scores of later networks.

    Source: Chaudhry et al., On Tiny Episodic Memories in Continual Learning, 2019, arXiv
    1902.10486, for random exemplars that are balanced by class.

    Args:
        data: The data.
        replay: The share of the training images, in (0, 1]; or how many, if more than 1. Where the
            data has a memory joined, the share is that of all images it stands for too.
        run: The run's folder; the memory goes to `memory/` there.
        before: Counts that a memory joined to the data stands for, if one was; see `stood_for`.

    Returns:
        The number of training images in it.

    Raises:
        BadInput: If the memory is larger than the data, or a file is no longer what it was.
    """
    check_replay(data, replay)
    snapshot = data.snapshot
    count = len(snapshot.indices("train"))
    trained = [snapshot.items[place] for place in snapshot.indices("train")]
    if before is not None:
        trained = [item for item in trained if not item.name.startswith(f"{MEMORY}/")]
    by_class = Counter(_class_of(item.target) for item in trained) + (before or Counter())
    stands_for = by_class.total()
    share = min(replay * stands_for if replay <= 1 else replay, count) / count
    items: list[Item] = []
    kept: list[Pixels] = []
    sizes = {}
    for split in SPLITS:
        places = snapshot.indices(split)
        size = min(max(round(share * len(places)), 1), len(places))
        hashes = [snapshot.hashes[place] for place in places]
        chosen = exemplars(data.shown(split), hashes, size)
        items += [_of_split(snapshot.items[places[own]], split) for own in chosen]
        kept += [data.kept(split)[own] for own in chosen]
        sizes[split] = size
    about = {"stands_for": stands_for, "by_class": by_class}
    store(run / MEMORY, snapshot.kind, snapshot.classes, items, about, kept)
    return sizes["train"]


def _class_of(target: Target) -> str:
    return target if isinstance(target, str) else MIXED


def _of_split(item: Item, split: str) -> Item:
    return replace(item, split=split, group=None)
