"""An old network and grown data, matched: class rows, the score before training, what changed."""

from collections.abc import Mapping, Sequence

from regrow.data.checks.remarks import Remarks
from regrow.data.module import GrowingData
from regrow.data.snapshot import Diff, Manifest, diff
from regrow.data.splits import SPLITS
from regrow.errors import BadInput
from regrow.incremental.expand import NewRows, expand_
from regrow.incremental.label_map import LabelMap
from regrow.incremental.parent import silenced
from regrow.models.task import Task
from regrow.training.class_weights import weigh_classes_
from regrow.training.evaluation import Evaluation, evaluate

TRAIN = 0  # in a manifest's splits


def match_classes_(
    task: Task,
    data: GrowingData,
    *,
    renamed: Mapping[str, str] | None = None,
    removed: Sequence[str] = (),
    new_rows: NewRows = "random",
    allow_absent: bool = False,
    seed: int = 0,
) -> LabelMap:
    """Grow an old network's head for the classes of the data, and order labels alike, in place.

    The class rows are matched by name; those of classes that are new in the data follow.

    Args:
        task: The loaded network, dense or pruned; it has the new classes afterwards.
        data: The grown data; its labels have the order of the rows afterwards.
        renamed: Names that changed, old name to new name.
        removed: Old classes that are given up on purpose.
        new_rows: Initial rows of new classes, see `expand_`.
        allow_absent: Keep the rows of old classes that the data does not have.
        seed: Seed of random rows.

    Returns:
        How the classes of the network and of the data correspond.

    Raises:
        BadInput: If a class of the network is neither in the data, nor renamed, nor removed, or
            the images are of another size: a detector's anchors belong to one.
    """
    if tuple(data.size) != task.size:
        raise BadInput(
            f"data.size is {_size(data.size)}, but the checkpoint's network was made for "
            f"{_size(task.size)}; set data.size to that, or train from the start"
        )
    now = [(renamed or {}).get(name, name) for name in task.classes if name not in removed]
    absent = [name for name in now if name not in data.classes] if allow_absent else []
    classes = LabelMap.merged(task.classes, [*data.classes, *absent], renamed, removed).new
    label_map = expand_(
        task, classes, renamed=renamed, removed=removed, new_rows=new_rows, seed=seed
    )
    data.order_classes(classes)
    weigh_classes_(task, data)
    return label_map


def score_old(task: Task, data: GrowingData, added: Sequence[str]) -> Evaluation:
    """Score an old network on new validation images, before its first step.

    It cannot name a class that is new to it, so images of those count as missed.

    Args:
        task: The network, with rows for the new classes; it is in training mode afterwards, since
            Lightning trains a network in the mode that it finds.
        data: The data, its labels in the order of the rows.
        added: The classes that are new to the network.
    """
    with silenced(task, added):
        found = evaluate(task, data.val_dataloader(), description="before")
    task.train()
    return found


def compare_data(
    task: Task, data: GrowingData, renamed: Mapping[str, str], removed: Sequence[str]
) -> tuple[Diff | None, int]:
    """Compare grown data with the data that an old network was trained on.

    Args:
        task: The network.
        data: The grown data.
        renamed: Names that changed, old name to new name.
        removed: Old classes that are given up.

    Returns:
        What changed, None where the network did not record its data; and how many validation and
        test images the network was trained on.
    """
    if task.provenance.manifest is None:
        return None, 0
    called = names_before(data.classes, renamed, removed)
    old, new = Manifest.from_dict(task.provenance.manifest), data.manifest(called)
    return diff(old, new), count_leaked(old, new)


def names_before(
    classes: Sequence[str], renamed: Mapping[str, str], removed: Sequence[str]
) -> dict[str, str]:
    """Return the names that classes of the data had in old data, where they differ.

    A new class may have the name of an old one that is called otherwise now, or is given up: it is
    told from that by ` (new)`.

    Args:
        classes: Class names of the data.
        renamed: Names that changed, old name to new name.
        removed: Old classes that are given up.
    """
    called = {new: old for old, new in renamed.items()}
    left = {*renamed, *removed} - called.keys()
    return called | {name: f"{name} (new)" for name in classes if name in left}


def count_leaked(old: Manifest, new: Manifest) -> int:
    """Count validation and test images of new data that are training images of old data.

    Args:
        old: The manifest of the data that a network was trained on.
        new: The manifest of the data that it will be scored on.
    """
    trained = {row.tobytes() for row in old.hashes[old.splits == TRAIN].numpy()}
    held_out = new.hashes[new.splits != TRAIN].numpy()
    return sum(row.tobytes() in trained for row in held_out)


def remark_leaked(data: GrowingData, old: Manifest) -> None:
    """Name validation and test images that an old network was trained on among the data's remarks.

    Args:
        data: The data that it will be scored on.
        old: The manifest of the data that it was trained on.
    """
    trained = {row.tobytes() for row in old.hashes[old.splits == TRAIN].numpy()}
    leaked, snapshot = Remarks(), data.snapshot
    rows = zip(snapshot.items, snapshot.hashes, snapshot.splits, strict=True)
    for item, key, split in rows:
        if split != SPLITS[TRAIN] and key in trained:
            leaked.add(f"{split} images that the old network was trained on", item.name)
    data.remark(leaked)


def _size(size: tuple[int, int]) -> str:
    return f"[{size[0]}, {size[1]}]"
