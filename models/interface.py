"""The interface of a task: what classification, detection and segmentation each define."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor
from torchmetrics import Metric

from regrow.data.labels import Kind
from regrow.errors import BadInput
from regrow.metrics.evidence import Collector
from regrow.models.attachment import Attachable
from regrow.models.class_rows import ClassRows
from regrow.models.distillation_losses import Shared


class Interface(Attachable, ABC):
    """The parts of a LightningModule that differ from task to task.

    Shapes: b batch, c classes, h height, w width, n objects.
    """

    kind: ClassVar[Kind]
    score: ClassVar[str]
    min_classes: ClassVar[int] = 2

    @abstractmethod
    def outputs(self, features: Tensor) -> dict[str, Tensor]:
        """Give the raw outputs of the net by name for normalised images, (b, 3, h, w).

        The same names in the same order in training and evaluation, on the autograd graph.
        """

    @abstractmethod
    def losses(self, outputs: dict[str, Tensor], targets: Any) -> dict[str, Tensor]:
        """Give the named terms of the loss, scalars."""

    @abstractmethod
    def predict(self, outputs: dict[str, Tensor]) -> Any:
        """Give what a user sees: probabilities (b, c); boxes, scores, labels an image; masks."""

    @abstractmethod
    def decode(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Give the traceable part of `predict`, which an exported graph ends with."""

    @abstractmethod
    def from_decoded(self, decoded: dict[str, Tensor]) -> Any:
        """Give predictions from what `decode` gave, here or in an exported graph."""

    @abstractmethod
    def make_metric(self) -> Metric:
        """Give the metric, whose `compute` names the headline score and `per_class`."""

    @abstractmethod
    def make_evidence(self) -> Collector:
        """Give the collector of per-image statistics that paired intervals are made from."""

    @abstractmethod
    def class_rows(self) -> list[ClassRows]:
        """Give the layers of the net that carry rows of weights a class."""

    @abstractmethod
    def output_layers(self) -> list[str]:
        """Give the names of the net's layers whose output width must stay."""

    @property
    def even_score(self) -> str:
        """Name the score in which all classes count alike, however many images show them."""
        return self.score

    def distillation_loss(
        self,
        outputs: dict[str, Tensor],
        wanted: dict[str, Tensor],
        shared: Shared,
        temperature: float,
    ) -> Tensor:
        """Give how far raw outputs are from those of a teacher, a scalar, 0 where both agree.

        Args:
            outputs: The raw outputs of this task.
            wanted: Those of another task of this kind on the same images.
            shared: The classes in common.
            temperature: What the logits of classes that compete are divided by.

        Raises:
            BadInput: If the task does not say how, or the outputs do not compare.
        """
        raise BadInput(
            f"distillation: {type(self).__name__} has no method `distillation_loss`; write one"
        )

    def hide(self, outputs: dict[str, Tensor], known: Tensor) -> dict[str, Tensor]:
        """Give raw outputs in which classes that a label does not know take no part.

        Args:
            outputs: The raw outputs.
            known: Which classes the label of each image knows, (b, c).
        """
        raise BadInput(
            f"{type(self).__name__} cannot train on labels that know some classes only; label all "
            "images for all classes"
        )
