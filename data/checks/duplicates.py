"""Images with the same pixels: on both sides of a split, or under several labels."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations

from regrow.data.checks.remarks import Remarks
from regrow.data.snapshot import Snapshot
from regrow.data.splits import SPLITS

WORDS = {"train": "training", "val": "validation", "test": "test"}


def remark_duplicates(snapshot: Snapshot, remarks: Remarks) -> None:
    """Count the images that are also in another split, and those under several labels.

    Args:
        snapshot: The images.
        remarks: What the counts are added to, with the first pairs of names.
    """
    same: dict[bytes, list[int]] = defaultdict(list)
    for place, key in enumerate(snapshot.hashes):
        same[key].append(place)
    groups = [places for places in same.values() if len(places) > 1]
    for one, other in combinations(SPLITS, 2):
        kind = f"{WORDS[other]} images have the pixels of {WORDS[one]} images"
        for places in groups:
            of_one = [place for place in places if snapshot.splits[place] == one]
            of_other = [place for place in places if snapshot.splits[place] == other]
            for place in of_other if of_one else ():
                remarks.add(kind, _pair(snapshot, place, of_one[0]))
    for places in groups:
        of_label = {snapshot.digests[place]: place for place in reversed(places)}
        if len(of_label) > 1:
            pair = sorted(of_label.values())[:2]
            kind = "images stand under several labels with the same pixels"
            remarks.add(kind, _pair(snapshot, *pair), len(places))


def remark_overlap(
    own: Snapshot,
    more: Snapshot,
    name: str,
    splits: Sequence[str],
    called: Mapping[str, str],
    remarks: Remarks,
) -> None:
    """Count the images of other data that are here in another split or under another label.

    Args:
        own: The images here, which stay as they are.
        more: The others.
        name: What the others are called after, as of a folder.
        splits: The splits of the others that are taken.
        called: Names of classes there to names here; where some differ, labels are not compared.
        remarks: What the counts are added to.
    """
    here: dict[bytes, list[int]] = defaultdict(list)
    for place, key in enumerate(own.hashes):
        here[key].append(place)
    for place, key in enumerate(more.hashes):
        split = more.splits[place]
        if split not in splits or key not in here:
            continue
        pair = f"{name}/{more.items[place].name} = {own.items[here[key][0]].name}"
        elsewhere = {own.splits[same] for same in here[key]}
        if split not in elsewhere:
            now = " and ".join(WORDS[own_split] for own_split in SPLITS if own_split in elsewhere)
            remarks.add(f"{WORDS[split]} images of {name} are in {now} here", pair)
        if not called and more.digests[place] not in {own.digests[same] for same in here[key]}:
            remarks.add(f"images of {name} have another label here, which counts", pair)


def seen_tests(snapshot: Snapshot, seen: Collection[bytes] = ()) -> list[str]:
    """Name the test images that are training or validation images too.

    Args:
        snapshot: The images.
        seen: Hashes of further training or validation images, such as those of a network.

    Returns:
        The names of the test images, in order.
    """
    held = {*seen}
    pairs = zip(snapshot.hashes, snapshot.splits, strict=True)
    held.update(key for key, split in pairs if split != "test")
    tests = snapshot.indices("test")
    return [snapshot.items[place].name for place in tests if snapshot.hashes[place] in held]


def _pair(snapshot: Snapshot, place: int, other: int) -> str:
    return f"{snapshot.items[place].name} = {snapshot.items[other].name}"
