"""Semantic segmentation: one class per pixel."""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from regrow.data.targets.labels import VOID, Kind
from regrow.data.targets.partial_labels import hidden
from regrow.errors import BadInput
from regrow.metrics.evidence import Collector, ConfusionEvidence
from regrow.metrics.scores import MeanIoU
from regrow.models.class_rows import ClassRows
from regrow.models.distillation_losses import Shared, soft_divergence
from regrow.models.nets.build import find_class_layers, find_class_rows
from regrow.models.task import Task


class Segmentation(Task):
    """Semantic segmentation with cross-entropy; the score is mean IoU.

    Pixels that are void in the truth have no loss and no score.

    Args:
        classes: Class names, in the order of the head's rows.
        size: Height and width of the images, in pixels.
        dice: Weight of the soft Dice loss that is added to the cross-entropy; 0 leaves it out.
        class_weights: Class weights of the cross-entropy: `balanced` weighs each class by the
            inverse of the number of its pixels in the training images; null weighs all pixels the
            same. The Dice loss weighs classes the same in any case.
        **kwargs: The arguments of `regrow.models.Task`.

    Examples:
        >>> import torch
        >>> from regrow.models import Segmentation
        >>> task = Segmentation(["sky", "road"], (32, 48), net="small")
        >>> images = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
        >>> task.eval().predict(task(images)).shape
        torch.Size([2, 32, 48])
    """

    kind: ClassVar[Kind] = "masks"
    score: ClassVar[str] = "miou"

    def __init__(
        self,
        classes: list[str],
        size: tuple[int, int],
        *,
        dice: float = 0.0,
        class_weights: Literal["balanced"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(classes, size, **kwargs)
        if not 0 <= dice < math.inf:
            raise BadInput(f"task.dice is {dice}, it must be 0 or more")
        self.dice = dice
        self.class_weights = class_weights

    def outputs(self, features: Tensor) -> dict[str, Tensor]:
        """Compute `logits` (b, c, h, w); torchvision's auxiliary head is left out."""
        out = self.net(features)
        return {"logits": out["out"] if isinstance(out, Mapping) else out}

    def losses(self, outputs: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        """Compute the cross-entropy with masks (b, h, w), and the Dice loss if it has a weight."""
        logits, truth = outputs["logits"].float(), targets.long()
        # A batch may be void all over: its mean would be 0/0.
        known = (truth != VOID).sum().clamp(min=1)
        weights = None if self.loss_weights is None else self.loss_weights.float()
        ce = F.cross_entropy(logits, truth, weights, ignore_index=VOID, reduction="sum") / known
        if not self.dice:
            return {"ce": ce}
        return {"ce": ce, "dice": self.dice * soft_dice(logits, truth)}

    def predict(self, outputs: dict[str, Tensor]) -> Tensor:
        """Return masks of class indices, uint8 (b, h, w)."""
        return outputs["logits"].argmax(1).to(torch.uint8)

    def decode(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute `logits` (b, c, h, w) and `mask` (b, h, w)."""
        return {"logits": outputs["logits"].float(), "mask": self.predict(outputs)}

    def from_decoded(self, decoded: dict[str, Tensor]) -> Tensor:
        """Return the masks of class indices, uint8 (b, h, w)."""
        return decoded["mask"]

    def hide(self, outputs: dict[str, Tensor], known: Tensor) -> dict[str, Tensor]:
        """Remove unknown classes from the softmax of each pixel."""
        return hidden(outputs, "logits", known, 1)

    def distillation_loss(
        self,
        outputs: dict[str, Tensor],
        wanted: dict[str, Tensor],
        shared: Shared,
        temperature: float,
    ) -> Tensor:
        """Compute the mean over pixels of the divergence between softened probabilities."""
        return soft_divergence(outputs["logits"], wanted["logits"], shared, temperature)

    def class_maps(self, outputs: dict[str, Tensor]) -> Tensor:
        """Return the logits of each class at each pixel, (b, c, h, w)."""
        return outputs["logits"]

    def make_metric(self) -> Metric:
        """Return the mean IoU metric."""
        return MeanIoU(len(self.classes))

    def make_evidence(self) -> Collector:
        """Return an empty collector of each image's confusion matrix."""
        return ConfusionEvidence(len(self.classes))

    def class_rows(self) -> list[ClassRows]:
        """Return the last layer, which has one row per class."""
        return find_class_rows(self.kind, self.net_name, self.size, self.net_args)

    def output_layers(self) -> list[str]:
        """Return the names of the layers whose width changes with the number of classes."""
        return find_class_layers(self.kind, self.net_name, self.size, self.net_args)


def soft_dice(logits: Tensor, truth: Tensor) -> Tensor:
    """Compute the soft Dice loss: one minus the mean soft Dice coefficient over classes.

    Source: Milletari et al., V-Net, 2016, arXiv 1606.04797, for several classes; classes
    that are not in the batch are left out.

    Args:
        logits: Raw scores, (b, c, h, w).
        truth: Class indices, (b, h, w), 255 for void.
    """
    known = (truth != VOID)[:, None]
    wanted = F.one_hot(truth.where(truth != VOID, 0), logits.shape[1]).movedim(-1, 1) * known
    found = logits.softmax(1) * known
    overlap = 2 * (found * wanted).sum((0, 2, 3))
    size = (found + wanted).sum((0, 2, 3))
    present = wanted.sum((0, 2, 3)) > 0
    return (
        1 - (overlap / size.clamp(min=1e-6))[present].mean() if present.any() else logits.sum() * 0
    )
