"""Object detection: boxes with a class and a score each."""

from typing import Any, ClassVar

from torch import Tensor
from torchmetrics import Metric

from regrow.data.targets.labels import Kind
from regrow.data.targets.partial_labels import hidden
from regrow.errors import BadInput
from regrow.metrics.evidence import BoxEvidence, Collector
from regrow.metrics.scores import MeanAP
from regrow.models.class_rows import ClassRows
from regrow.models.distillation_losses import Shared
from regrow.models.nets.detector import Detections, Detector, Targets, suppress
from regrow.models.task import Task


class Detection(Task):
    """Object detection; the score is mean AP at an IoU of 0.5.

    Boxes are xyxy in pixels of the resized image.

    Shapes: b batch, c classes, h height, w width, k anchors or points, n objects.

    Args:
        classes: Class names, in the order of the head's rows.
        size: Height and width of the images, in pixels.
        score_threshold: Score threshold: detections at or below it are dropped, in [0, 1).
        iou_threshold: Non-maximum suppression: of two boxes of a class whose IoU is larger, the
            better stays, in (0, 1].
        max_detections: Most detections per image.
        **kwargs: The arguments of `regrow.models.Task`.

    Raises:
        BadInput: If the network is not a `regrow.models.nets.detector.Detector`.

    Examples:
        >>> import torch
        >>> from regrow.models import Detection
        >>> task = Detection(["car", "person"], (64, 64), net="fcos")
        >>> images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
        >>> sorted(task.eval().predict(task(images))[0])
        ['boxes', 'labels', 'scores']
    """

    kind: ClassVar[Kind] = "boxes"
    score: ClassVar[str] = "map50"
    min_classes: ClassVar[int] = 1
    net: Detector

    def __init__(
        self,
        classes: list[str],
        size: tuple[int, int],
        *,
        score_threshold: float = 0.05,
        iou_threshold: float = 0.5,
        max_detections: int = 100,
        **kwargs: Any,
    ) -> None:
        super().__init__(classes, size, **kwargs)
        if not isinstance(self.net, Detector):
            raise BadInput(
                f"net: {self.net_name!r} gives a {type(self.net).__name__}; a detection network"
                " has the methods of regrow.models.nets.detector.Detector"
            )
        if not 0 <= score_threshold < 1 or not 0 < iou_threshold <= 1 or max_detections < 1:
            raise BadInput(
                f"task.score_threshold {score_threshold} must lie in [0, 1), task.iou_threshold "
                f"{iou_threshold} in (0, 1], and task.max_detections {max_detections} be 1 or more"
            )
        self.suppression: dict[str, Any] = {
            "score_threshold": score_threshold,
            "iou_threshold": iou_threshold,
            "max_detections": max_detections,
        }

    def outputs(self, features: Tensor) -> dict[str, Tensor]:
        """Compute the raw outputs of the network's heads for normalised images, (b, 3, h, w)."""
        raw: dict[str, Tensor] = self.net(features)
        return raw

    def losses(self, outputs: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Compute the losses that the network defines.

        Args:
            outputs: Raw outputs.
            targets: Per image `boxes` (n, 4) and `labels` (n,) from 0, where n may be 0, and
                ignored boxes if the data has them.
        """
        return self.net.losses({k: v.float() for k, v in outputs.items()}, targets)

    def predict(self, outputs: dict[str, Tensor]) -> Detections:
        """Return `boxes` (n, 4), `scores` (n,) and `labels` (n,) per image, best first."""
        return self.net.predict({k: v.float() for k, v in outputs.items()}, **self.suppression)

    def decode(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute `boxes` (b, k, 4) inside the image and `scores` (b, c, k) in [0, 1].

        Raises:
            BadInput: If the network has two stages.
        """
        return self.net.decode(outputs)

    def from_decoded(self, decoded: dict[str, Tensor]) -> Detections:
        """Return detections from the decoded boxes and scores, by non-maximum suppression."""
        return suppress(decoded["boxes"], decoded["scores"], **self.suppression)

    def hide(self, outputs: dict[str, Tensor], known: Tensor) -> dict[str, Tensor]:
        """Remove unknown classes from the logits of a one-stage detector.

        Raises:
            BadInput: If the network has two stages.
        """
        if "cls_logits" not in outputs:
            raise BadInput(
                f"net {self.net_name!r} cannot train on labels that know some classes only; train "
                "an SSDLite, RetinaNet or FCOS, or label all images for all classes"
            )
        return hidden(outputs, "cls_logits", known, -1)

    def distillation_loss(
        self,
        outputs: dict[str, Tensor],
        wanted: dict[str, Tensor],
        shared: Shared,
        temperature: float,
    ) -> Tensor:
        """Compute the network's distillation loss, weighted by the objects that the teacher finds.

        The temperature is ignored: every score is independent, and softening would raise the many
        scores of the background.
        """
        return self.net.distillation_loss(outputs, wanted, shared)

    def class_maps(self, outputs: dict[str, Tensor]) -> Tensor:
        """Return the logits of each class at each anchor or point, (b, c, k)."""
        maps: Tensor = self.net.class_maps(outputs)
        return maps

    def make_metric(self) -> Metric:
        """Return the mean average precision metric of COCO."""
        return MeanAP(len(self.classes))

    def make_evidence(self) -> Collector:
        """Return an empty collector of the matches in each image."""
        return BoxEvidence(len(self.classes))

    def class_rows(self) -> list[ClassRows]:
        """Return the layers of the network whose output rows belong to classes."""
        return self.net.class_rows()

    def output_layers(self) -> list[str]:
        """Return the last layers of the network's branches."""
        return self.net.output_layers()
