"""The interface of a task: the methods that classification, detection, segmentation define."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor
from torchmetrics import Metric

from regrow.data.targets.labels import Kind
from regrow.errors import BadInput
from regrow.metrics.evidence import Collector
from regrow.models.attachment import Attachable
from regrow.models.class_rows import ClassRows
from regrow.models.distillation_losses import Shared


class Interface(Attachable, ABC):
    """Abstract LightningModule: outputs, losses, predictions, metric and class rows of a task.

    Shapes: b batch, c classes, h height, w width, n objects.
    """

    kind: ClassVar[Kind]
    score: ClassVar[str]
    min_classes: ClassVar[int] = 2

    @abstractmethod
    def outputs(self, features: Tensor) -> dict[str, Tensor]:
        """Compute the raw outputs of the network by name for normalised images, (b, 3, h, w).

        The names and their order are the same in training and evaluation; the tensors are on the
        autograd graph.
        """

    @abstractmethod
    def losses(self, outputs: dict[str, Tensor], targets: Any) -> dict[str, Tensor]:
        """Compute the terms of the loss by name, scalars."""

    @abstractmethod
    def predict(self, outputs: dict[str, Tensor]) -> Any:
        """Return predictions: probabilities (b, c); boxes, scores, labels per image; or masks."""

    @abstractmethod
    def decode(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the traceable part of `predict`, with which an exported graph ends."""

    @abstractmethod
    def from_decoded(self, decoded: dict[str, Tensor]) -> Any:
        """Return predictions from the outputs of `decode` or of an exported graph."""

    @abstractmethod
    def make_metric(self) -> Metric:
        """Return the metric; its `compute` returns the headline score by name, and `per_class`."""

    @abstractmethod
    def make_evidence(self) -> Collector:
        """Return an empty collector of the per-image evidence for paired intervals."""

    @abstractmethod
    def class_rows(self) -> list[ClassRows]:
        """Return the layers of the network whose output rows belong to classes."""

    @abstractmethod
    def output_layers(self) -> list[str]:
        """Return the names of the layers whose output width must not be pruned."""

    @property
    def even_score(self) -> str:
        """Name of the score in which all classes weigh the same, however many images show them."""
        return self.score

    def distillation_loss(
        self,
        outputs: dict[str, Tensor],
        wanted: dict[str, Tensor],
        shared: Shared,
        temperature: float,
    ) -> Tensor:
        """Compute the distillation loss between student and teacher, 0 where both agree.

        Args:
            outputs: The raw outputs of this task, the student.
            wanted: The raw outputs of the teacher, a task of the same kind, on the same images.
            shared: The classes in common.
            temperature: Distillation temperature: logits of competing classes are divided by it.

        Raises:
            BadInput: If the task has no such loss, or the outputs cannot be compared.
        """
        raise BadInput(
            f"distillation: {type(self).__name__} has no method `distillation_loss`; write one"
        )

    def class_maps(self, outputs: dict[str, Tensor]) -> Tensor:
        """Return the logits of each class at each place of the images, (b, c, ...).

        Raises:
            BadInput: If the task has no places.
        """
        raise BadInput(
            f"distillation.channels: {type(self).__name__} has no method `class_maps`, which says "
            "where classes are; leave it out"
        )

    def hide(self, outputs: dict[str, Tensor], known: Tensor) -> dict[str, Tensor]:
        """Return raw outputs without the classes that an image's label does not cover.

        Such labels are partial: they were made before a class was added.

        Args:
            outputs: The raw outputs.
            known: Whether the label of each image covers each class, (b, c).

        Raises:
            BadInput: If the task cannot train on partial labels.
        """
        raise BadInput(
            f"{type(self).__name__} cannot train on labels that know some classes only; label all "
            "images for all classes"
        )
