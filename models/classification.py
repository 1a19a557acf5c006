"""Image classification: one label per image."""

from typing import Any, ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from regrow.data.targets.labels import Kind
from regrow.errors import BadInput
from regrow.metrics.evidence import Collector, CorrectEvidence
from regrow.metrics.scores import Accuracy
from regrow.models.class_rows import ClassRows
from regrow.models.distillation_losses import Shared, soft_divergence
from regrow.models.nets.build import find_class_layers, find_class_rows
from regrow.models.task import Task


class Classification(Task):
    """Image classification with cross-entropy; the score is accuracy.

    Args:
        classes: Class names, in the order of the head's rows.
        size: Height and width of the images, in pixels.
        label_smoothing: Label smoothing: share of the target spread over all classes, in [0, 1).
        class_weights: Class weights of the loss: `balanced` weighs each class by the inverse of the
            number of training images that show it; null weighs all images the same. Together with
            data.balance it favours rare classes twice.
        **kwargs: The arguments of `regrow.models.Task`.

    Examples:
        >>> import torch
        >>> from regrow.models import Classification
        >>> task = Classification(["cat", "dog"], (32, 32), net="small")
        >>> images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
        >>> task.eval().predict(task(images)).shape
        torch.Size([4, 2])
    """

    kind: ClassVar[Kind] = "labels"
    score: ClassVar[str] = "accuracy"

    def __init__(
        self,
        classes: list[str],
        size: tuple[int, int],
        *,
        label_smoothing: float = 0.0,
        class_weights: Literal["balanced"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(classes, size, **kwargs)
        if not 0 <= label_smoothing < 1:
            raise BadInput(f"task.label_smoothing is {label_smoothing}, it must lie in [0, 1)")
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights

    def outputs(self, features: Tensor) -> dict[str, Tensor]:
        """Compute `logits` (b, c) for normalised images, (b, 3, h, w)."""
        return {"logits": self.net(features)}

    def losses(self, outputs: dict[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        """Compute the cross-entropy with labels (b,)."""
        logits, smoothing = outputs["logits"].float(), self.label_smoothing
        if self.loss_weights is None:
            return {"ce": F.cross_entropy(logits, targets, label_smoothing=smoothing)}
        # Not torch's weighted mean, in which an image's weight depends on the rest of its batch.
        weights = self.loss_weights.float()
        total = F.cross_entropy(
            logits, targets, weights, label_smoothing=smoothing, reduction="sum"
        )
        return {"ce": total / len(targets)}

    def predict(self, outputs: dict[str, Tensor]) -> Tensor:
        """Return class probabilities (b, c)."""
        return outputs["logits"].float().softmax(1)

    def decode(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute `probabilities` (b, c)."""
        return {"probabilities": self.predict(outputs)}

    def from_decoded(self, decoded: dict[str, Tensor]) -> Tensor:
        """Return the class probabilities (b, c)."""
        return decoded["probabilities"]

    def distillation_loss(
        self,
        outputs: dict[str, Tensor],
        wanted: dict[str, Tensor],
        shared: Shared,
        temperature: float,
    ) -> Tensor:
        """Compute the divergence between softened probabilities of teacher and student."""
        return soft_divergence(outputs["logits"], wanted["logits"], shared, temperature)

    @property
    def even_score(self) -> str:
        """Name of the mean accuracy over classes; accuracy itself weighs images."""
        return "macro_accuracy"

    def make_metric(self) -> Metric:
        """Return the accuracy metric."""
        return Accuracy(len(self.classes))

    def make_evidence(self) -> Collector:
        """Return an empty collector of correct and wrong images."""
        return CorrectEvidence()

    def class_rows(self) -> list[ClassRows]:
        """Return the last layer, which has one row per class."""
        return find_class_rows(self.kind, self.net_name, self.size, self.net_args)

    def output_layers(self) -> list[str]:
        """Return the names of the layers whose width changes with the number of classes."""
        return find_class_layers(self.kind, self.net_name, self.size, self.net_args)
