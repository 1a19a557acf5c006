"""Object detection: boxes with a class each."""

from typing import Any, ClassVar

from torch import Tensor
from torchmetrics import Metric

from regrow.data.labels import Kind
from regrow.data.partial_labels import hidden
from regrow.errors import BadInput
from regrow.metrics.evidence import BoxEvidence, Collector
from regrow.metrics.scores import MeanAP
from regrow.models.class_rows import ClassRows
from regrow.models.distillation_losses import Shared
from regrow.models.nets.detector import Detections, Detector, Targets, suppress
from regrow.models.task import Task


class Detection(Task):
    """Find objects: boxes, xyxy in pixels of the resized image, each with a class and a score.

    Shapes: b batch, c classes, h height, w width, k anchors or points, n objects.

    Args:
        classes: Class names, in the order of the head's rows.
        size: Height and width of the images, in pixels.
        score_threshold: Detections with this score or less are dropped, in [0, 1].
        iou_threshold: Of two boxes of a class that overlap by more, the better stays, in [0, 1].
        max_detections: How many detections an image may have.
        **kwargs: What all tasks take.

    Raises:
        BadInput: If the network is not a `regrow.models.nets.detector.Detector`.
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
        """Give the raw outputs of the net's heads for normalised images, (b, 3, h, w)."""
        return self.net(features)

    def losses(self, outputs: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Give the net's own losses.

        Args:
            outputs: Raw outputs.
            targets: `boxes` (n, 4) and `labels` (n,) from 0 an image; n may be 0. Perhaps ignored
                boxes beside them.
        """
        return self.net.losses({k: v.float() for k, v in outputs.items()}, targets)

    def predict(self, outputs: dict[str, Tensor]) -> Detections:
        """Give `boxes` (n, 4), `scores` (n,) and `labels` (n,) an image, best first."""
        return self.net.predict({k: v.float() for k, v in outputs.items()}, **self.suppression)

    def decode(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Give `boxes` (b, k, 4) inside the image and `scores` (b, c, k) in [0, 1].

        Raises:
            BadInput: If the network has two stages.
        """
        return self.net.decode(outputs)

    def from_decoded(self, decoded: dict[str, Tensor]) -> Detections:
        """Give detections from dense boxes and scores."""
        return suppress(decoded["boxes"], decoded["scores"], **self.suppression)

    def hide(self, outputs: dict[str, Tensor], known: Tensor) -> dict[str, Tensor]:
        """Take unknown classes out of the logits of dense detectors."""
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
        """Give how far the raw outputs are from a teacher's, with the eye on what it has found.

        The temperature has no part in it: every score stands alone, and softening would lift those
        of the background, which are many.
        """
        return self.net.distillation_loss(outputs, wanted, shared)

    def make_metric(self) -> Metric:
        """Give COCO's average precision."""
        return MeanAP(len(self.classes))

    def make_evidence(self) -> Collector:
        """Give the collector of each image's matches."""
        return BoxEvidence(len(self.classes))

    def class_rows(self) -> list[ClassRows]:
        """Give the layers of the net that carry rows of weights a class."""
        return self.net.class_rows()

    def output_layers(self) -> list[str]:
        """Give the last layers of the net's branches."""
        return self.net.output_layers()
