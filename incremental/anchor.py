"""WiSE-FT: validate and save an interpolation between the trained and the parent's weights."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from regrow.incremental.expand import source_rows
from regrow.incremental.label_map import LabelMap
from regrow.models.masks import masks_of
from regrow.models.task import Task
from regrow.training.lightning_internals import averaged


class Anchor(WeightAveraging):
    """Interpolate the validated and saved weights between the trained and the old ones.

    Training itself goes on from its own weights. Where few old images are left, what is kept
    remembers far more of the old classes and loses little of the new.

    Source: Wortsman et al., Robust fine-tuning of zero-shot models, 2022, arXiv 2109.01903,
    WiSE-FT, there after the training, for networks that saw all classes in captions. Running means
    and variances are interpolated like weights: estimated anew they do no better.

    Args:
        old: The result of `old_weights` for the task that is trained.
        share: The share of the old weights, in [0, 1].
    """

    def __init__(self, old: Mapping[str, Tensor], share: float) -> None:
        super().__init__()
        self._old, self._share = dict(old), share

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Return false: the interpolation is computed before each validation and save instead."""
        return False

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Interpolate before validation."""
        self._make_(cast(Task, pl_module))
        super().on_validation_epoch_start(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Interpolate before saving; the trained weights are saved beside the result."""
        self._make_(cast(Task, pl_module))
        super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the interpolated weights in the network."""
        self._make_(cast(Task, pl_module))
        super().on_train_end(trainer, pl_module)

    def _make_(self, task: Task) -> None:
        """Write the interpolation of the current and the old weights into the average model."""
        average = averaged(self)
        if average is None:
            return
        kept = cast(Task, average).net.state_dict()
        masks = masks_of(task.net)
        for name, current in task.net.state_dict().items():
            value = current
            if name in self._old:
                old = self._old[name].to(current)
                value = torch.lerp(current, old, self._share).where(~old.isnan(), current)
            kept[name].copy_(value.masked_fill(~masks[name], 0) if name in masks else value)


def old_weights(
    task: Task, old: Task, renamed: Mapping[str, str], removed: Sequence[str]
) -> dict[str, Tensor]:
    """Return the weights and running statistics of an old network, in the rows of a grown one.

    Args:
        task: The grown network.
        old: The old one, with its own classes.
        renamed: Old class names to new ones.
        removed: Old classes that were given up.

    Returns:
        Floats by their names in the net, NaN in the rows of classes that only the grown one has;
        nothing if the networks differ in more than these.
    """
    label_map = LabelMap(old.classes, task.classes, renamed, removed)
    grown = task.net.state_dict()
    found = {n: v for n, v in old.net.state_dict().items() if v.is_floating_point()}
    for rows in task.class_rows():
        sources = source_rows(rows, label_map)
        known = [row for row, source in enumerate(sources) if source is not None]
        origins = [source for source in sources if source is not None]
        for name in (f"{rows.layer}.weight", f"{rows.layer}.bias"):
            if name in found:
                theirs = found[name]
                found[name] = theirs.new_full((len(sources), *theirs.shape[1:]), torch.nan)
                found[name][known] = theirs[origins]
    is_same = all(n in grown and grown[n].shape == value.shape for n, value in found.items())
    return found if is_same else {}
