"""The start of a new run from an old network, on data that has grown."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regrow.data.checks.remarks import Remarks
from regrow.data.module import GrowingData
from regrow.data.partial_labels import HIDDEN
from regrow.data.snapshot import SPLITS, Diff, Manifest, diff
from regrow.errors import BadInput
from regrow.incremental.expand import NewRows, expand_
from regrow.incremental.label_map import LabelMap
from regrow.models.task import Task
from regrow.training.evaluation import Evaluation, evaluate

TRAIN = 0  # in a manifest's splits


@dataclass(frozen=True, slots=True)
class WarmStart:
    """What a new run knows of the one it starts from.

    Args:
        label_map: How the classes of the old network and of the data correspond.
        diff: What changed in the data; None where the old network did not record its data.
        before: The old network on the new validation images. It cannot name a new class, so
            those count as missed.
        num_leaked: Validation and test images of the data that the old network was trained on.
    """

    label_map: LabelMap
    diff: Diff | None
    before: Evaluation
    num_leaked: int

    def known_score(self, evaluation: Evaluation) -> float:
        """Give the mean of the per-class scores over the classes that the old network knew.

        Args:
            evaluation: The old network's or the new one's, on the same images.

        Returns:
            The mean; NaN where none of these classes occurs in the images.
        """
        scores = [evaluation.per_class[name] for name in self.label_map.kept_names]
        scores = [score for score in scores if not math.isnan(score)]
        return sum(scores) / len(scores) if scores else math.nan


def warm_start_(
    parent: Task,
    data: GrowingData,
    *,
    renamed: Mapping[str, str] | None = None,
    removed: Sequence[str] = (),
    new_rows: NewRows = "random",
    allow_absent: bool = False,
    seed: int = 0,
) -> WarmStart:
    """Make an old network ready to be trained on data that has grown, in place.

    The class rows are matched by name and grow for new classes, the labels of the data take the
    order of the rows, and the old network is scored on the new validation images.

    Args:
        parent: The loaded network, dense or pruned; it has the new classes afterwards, and is in
            training mode: Lightning trains a network in the mode that it finds.
        data: The grown data; it has the order of the rows afterwards.
        renamed: Names that changed, old name to new name.
        removed: Old classes that are given up on purpose.
        new_rows: What the rows of new classes begin with, see `expand_`.
        allow_absent: Keep the rows of old classes that the data does not have.
        seed: What new rows are drawn from.

    Returns:
        What the old network knew, and what changed since.

    Raises:
        BadInput: If a class of the network is neither in the data, nor renamed, nor removed, or
            the images are of another size: a detector's anchors belong to one.
    """
    if tuple(data.size) != parent.size:
        raise BadInput(
            f"data.size is {_size(data.size)}, but the checkpoint's network was made for "
            f"{_size(parent.size)}; set data.size to that, or train from the start"
        )
    now = [(renamed or {}).get(name, name) for name in parent.classes if name not in removed]
    absent = [name for name in now if name not in data.classes] if allow_absent else []
    classes = LabelMap.merged(parent.classes, [*data.classes, *absent], renamed, removed).new
    label_map = expand_(
        parent, classes, renamed=renamed, removed=removed, new_rows=new_rows, seed=seed
    )
    data.order_classes(classes)
    with silenced(parent, label_map.added):
        before = evaluate(parent, data.val_dataloader(), description="before")
    parent.train()
    difference, num_leaked = None, 0
    if parent.provenance.manifest is not None:
        called = names_before(data.classes, renamed or {}, removed)
        old, new = Manifest.from_dict(parent.provenance.manifest), data.manifest(called)
        difference, num_leaked = diff(old, new), count_leaked(old, new)
    return WarmStart(label_map, difference, before, num_leaked)


def names_before(
    classes: Sequence[str], renamed: Mapping[str, str], removed: Sequence[str]
) -> dict[str, str]:
    """Give the names that classes of the data had in old data, where they differ.

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


@contextmanager
def silenced(task: Task, names: Sequence[str]) -> Iterator[None]:
    """Keep a network from naming some of its classes: their raw scores are lowest for a while.

    Args:
        task: The network.
        names: The classes.
    """
    count = len(task.classes)
    hooks = []
    for rows in task.class_rows() if names else ():
        if rows.rows_per_class != 1:  # a class's own box, which its score decides about
            continue
        silent = [i for name in names for i in rows.indices(task.classes.index(name), count)]
        layer = task.net.get_submodule(rows.layer)
        hooks.append(layer.register_forward_hook(_Silencer(torch.tensor(silent))))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


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
    """Name the validation and test images that an old network was trained on.

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


class _Silencer:
    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        dim = -1 if isinstance(layer, nn.Linear) else 1
        return output.index_fill(dim, self.rows.to(output.device), HIDDEN)
