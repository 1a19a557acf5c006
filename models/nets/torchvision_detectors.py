"""Torchvision's detectors, taken apart.

They resize, normalise, match, and suppress inside `forward`, which can neither be traced nor
pruned. Here the forward pass gives raw tensors only; matching and decoding stand apart. Labels
outside count from 0 and know no background; the families that have one shift here.
"""

import copy
import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection as families
from torchvision.models import get_model_builder, get_model_weights, list_models
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou, clip_boxes_to_image

from regrow.data.ignored import IGNORED_BOXES
from regrow.errors import BadInput
from regrow.metrics.ignored import has_ignored, is_covered, spared, spared_points
from regrow.models.class_rows import ClassRows
from regrow.models.distillation_losses import Shared, focused_divergence, one_against_rest
from regrow.models.nets.detector import (
    Detections,
    Detector,
    Targets,
    feature_shapes,
    heads_distillation_loss,
)

# Arguments of torchvision's resizing, and of its suppression, which the task has knobs for.
UNUSED = (
    *("min_size", "max_size", "topk_candidates"),
    *("score_thresh", "nms_thresh", "detections_per_img"),
    *("box_score_thresh", "box_nms_thresh", "box_detections_per_img"),
)
# Torchvision trained these with a batch norm that forgot its epsilon, and keeps it so
# (pytorch/vision#2933, `overwrite_eps`).
WITHOUT_EPSILON = ("fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn")


class DenseDetector(Detector):
    """What torchvision's one-stage detectors share: a head over anchors that are known before.

    Args:
        detector: Torchvision's SSD, RetinaNet or FCOS; only its transform is not used.
        size: Height and width of the images, in pixels.
    """

    detector: Any
    anchors: Tensor
    keys: tuple[str, ...] = ("cls_logits", "bbox_regression")
    background: int = 0  # how many logits it has, before those of the classes

    def __init__(self, detector: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.detector = detector
        self.size = size
        shapes = feature_shapes(self.detector.backbone, size)
        anchors = _anchors(self.detector.anchor_generator, shapes, size)
        self.register_buffer("anchors", anchors, persistent=False)
        self.num_points = [h * w for _, h, w in shapes]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Give `cls_logits` (b, k, c or 1 + c), `bbox_regression` (b, k, 4) and what else is."""
        raw = self.detector.head(list(self.detector.backbone(images).values()))
        return {key: raw[key] for key in self.keys}

    def decode(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        """Give all anchors' boxes and scores."""
        deltas = raw["bbox_regression"].float()
        anchors = self.anchors.expand(deltas.shape[0], -1, -1)
        boxes = self._boxes(deltas, anchors)
        scores = self._scores({key: value.float() for key, value in raw.items()})
        return {"boxes": clip_boxes_to_image(boxes, self.size), "scores": scores.transpose(1, 2)}

    def distillation_loss(
        self, raw: dict[str, Tensor], wanted: dict[str, Tensor], shared: Shared
    ) -> Tensor:
        """Give how far the raw outputs are from a teacher's."""
        return heads_distillation_loss(
            self._with_sigmoids(raw), self._with_sigmoids(wanted), shared
        )

    def class_rows(self) -> list[ClassRows]:
        """Give the classification layer."""
        (num_anchors,) = set(self.detector.anchor_generator.num_anchors_per_location())
        return [ClassRows("detector.head.classification_head.cls_logits", num_anchors)]

    def _boxes(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        flat = self.detector.box_coder.decode_single(deltas.reshape(-1, 4), anchors.reshape(-1, 4))
        return flat.reshape(deltas.shape)

    def _scores(self, raw: dict[str, Tensor]) -> Tensor:
        return raw["cls_logits"].sigmoid()

    def _match(self, boxes: Tensor) -> Tensor:
        """Give the object of each anchor, (k,), below 0 where it has none."""
        if len(boxes) == 0:
            return torch.full((len(self.anchors),), -1, dtype=torch.int64, device=boxes.device)
        return self.detector.proposal_matcher(box_iou(boxes, self.anchors))

    def _spared(self, raw: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Take the loss as background from anchors in ignored boxes."""
        if not has_ignored(targets):
            return raw
        places = torch.stack(
            [
                is_covered(self.anchors, target[IGNORED_BOXES]) & (self._match(target["boxes"]) < 0)
                for target in targets
            ]
        )
        return {**raw, "cls_logits": spared(raw["cls_logits"], places, self.background)}

    def _with_sigmoids(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        return raw

    def _anchors_of(self, raw: dict[str, Tensor]) -> list[Tensor]:
        return [self.anchors] * len(raw["cls_logits"])


class RetinaNet(DenseDetector):
    """Torchvision's RetinaNet.

    Source: Lin et al., Focal Loss for Dense Object Detection, 2017, arXiv 1708.02002.
    """

    def losses(self, raw: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Give focal loss and box loss."""
        raw = self._spared(raw, targets)
        return self.detector.compute_loss(targets, raw, self._anchors_of(raw))

    def output_layers(self) -> list[str]:
        """Give the last layers of both branches."""
        head = "detector.head"
        return [f"{head}.classification_head.cls_logits", f"{head}.regression_head.bbox_reg"]


class TorchvisionFcos(DenseDetector):
    """Torchvision's FCOS.

    Source: Tian et al., FCOS: A simple and strong anchor-free object detector, 2020,
    arXiv 2006.09214.
    """

    keys = ("cls_logits", "bbox_regression", "bbox_ctrness")

    def _spared(self, raw: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        points = (self.anchors[:, :2] + self.anchors[:, 2:]) / 2
        return {**raw, "cls_logits": spared_points(raw["cls_logits"], points, targets)}

    def losses(self, raw: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Give focal loss, box loss and centerness loss."""
        raw = self._spared(raw, targets)
        return self.detector.compute_loss(targets, raw, self._anchors_of(raw), self.num_points)

    def output_layers(self) -> list[str]:
        """Give the last layers of the three branches."""
        box = "detector.head.regression_head"
        return [
            "detector.head.classification_head.cls_logits",
            f"{box}.bbox_reg",
            f"{box}.bbox_ctrness",
        ]

    def _boxes(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        return self.detector.box_coder.decode(deltas, anchors)

    def _scores(self, raw: dict[str, Tensor]) -> Tensor:
        return (raw["cls_logits"].sigmoid() * raw["bbox_ctrness"].sigmoid()).sqrt()


class Ssd(DenseDetector):
    """Torchvision's SSD and SSDLite; logit 0 is the background.

    Source: Liu et al., SSD: Single Shot MultiBox Detector, 2015, arXiv 1512.02325.
    """

    background = 1

    def losses(self, raw: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Give cross-entropy over the hardest negatives, and box loss."""
        raw = self._spared(raw, targets)
        matches = [self._match(target["boxes"]) for target in targets]
        return self.detector.compute_loss(
            _behind_background(targets), raw, self._anchors_of(raw), matches
        )

    def class_rows(self) -> list[ClassRows]:
        """Give the classification layer of each level."""
        layers = self._last_convs("classification_head")
        counts = self.detector.anchor_generator.num_anchors_per_location()
        return [ClassRows(n, a, background=1) for n, a in zip(layers, counts, strict=True)]

    def output_layers(self) -> list[str]:
        """Give the last layers of both branches of each level."""
        return self._last_convs("classification_head") + self._last_convs("regression_head")

    def _scores(self, raw: dict[str, Tensor]) -> Tensor:
        return raw["cls_logits"].softmax(-1)[..., 1:]

    def _with_sigmoids(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**raw, "cls_logits": one_against_rest(raw["cls_logits"])[..., 1:]}

    def _last_convs(self, branch: str) -> list[str]:
        blocks = getattr(self.detector.head, branch).module_list
        names = []
        for level, block in enumerate(blocks):
            last = [name for name, layer in block.named_modules() if isinstance(layer, nn.Conv2d)]
            names.append(f"detector.head.{branch}.module_list.{level}.{last[-1]}".rstrip("."))
        return names


class FasterRcnn(Detector):
    """Torchvision's Faster R-CNN; logit 0 of the second stage is the background.

    `forward` runs the second stage on a fixed number of proposals, the RPN's best without
    suppression and without gradient, so that its layers have a cost and a place on the graph.
    Losses and predictions choose their proposals as torchvision does, from the raw feature maps.

    Source: Ren et al., Faster R-CNN, 2015, arXiv 1506.01497.

    Args:
        detector: Torchvision's network; only its transform is not used.
        size: Height and width of the images, in pixels.
        num_proposals: How many proposals an image the forward pass runs on.
    """

    detector: Any
    anchors: Tensor

    def __init__(
        self, detector: nn.Module, size: tuple[int, int], num_proposals: int = 100
    ) -> None:
        super().__init__()
        self.detector = detector
        self.size = size
        shapes = feature_shapes(self.detector.backbone, size)
        generator = self.detector.rpn.anchor_generator
        anchors = _anchors(generator, shapes, size)
        self.register_buffer("anchors", anchors, persistent=False)
        counts = generator.num_anchors_per_location()
        self.num_anchors = [h * w * a for (_, h, w), a in zip(shapes, counts, strict=True)]
        self.num_proposals = min(num_proposals, len(anchors))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Give feature maps, the RPN's outputs and the second stage's on its best proposals."""
        maps = self.detector.backbone(images)
        objectness, deltas = concat_box_prediction_layers(*self.detector.rpn.head([*maps.values()]))
        raw = {f"features.{name}": value for name, value in maps.items()}
        raw["objectness"] = objectness.reshape(len(images), -1)
        raw["rpn_deltas"] = deltas.reshape(len(images), -1, 4)
        return {**raw, **self._on_proposals_of(raw, maps)}

    def losses(self, raw: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Give the losses of both stages."""
        proposals = self._suppressed(raw)
        if has_ignored(targets):
            proposals = [self._counted(*pair) for pair in zip(proposals, targets, strict=True)]
        objectness, rpn_box = self._first_losses(raw, targets)
        heads = self.detector.roi_heads
        proposals, _, labels, box_targets = heads.select_training_samples(
            proposals, _behind_background(targets)
        )
        logits, boxes = self._second_stage(_feature_maps(raw), proposals)
        classifier, box = logits.sum() * 0, boxes.sum() * 0  # where all is ignored
        if len(logits):
            classifier, box = fastrcnn_loss(logits, boxes, labels, box_targets)
        return {
            "loss_classifier": classifier,
            "loss_box_reg": box,
            "loss_objectness": objectness,
            "loss_rpn_box_reg": rpn_box,
        }

    def _first_losses(self, raw: dict[str, Tensor], targets: Targets) -> tuple[Tensor, Tensor]:
        """Give the loss of objectness and of the boxes of proposals."""
        rpn, anchors = self.detector.rpn, [self.anchors] * len(targets)
        is_object, matched = rpn.assign_targets_to_anchors(anchors, _behind_background(targets))
        if has_ignored(targets):
            is_object = [
                wanted.masked_fill((wanted == 0) & is_covered(self.anchors, t[IGNORED_BOXES]), -1)
                for wanted, t in zip(is_object, targets, strict=True)
            ]
            if all((wanted < 0).all() for wanted in is_object):
                return raw["objectness"].sum() * 0, raw["rpn_deltas"].sum() * 0
        return rpn.compute_loss(
            raw["objectness"].reshape(-1, 1),
            raw["rpn_deltas"].reshape(-1, 4),
            is_object,
            rpn.box_coder.encode(matched, anchors),
        )

    def distillation_loss(
        self, raw: dict[str, Tensor], wanted: dict[str, Tensor], shared: Shared
    ) -> Tensor:
        """Give how far both stages are from a teacher's, the second on the teacher's proposals."""
        first = focused_divergence(
            raw["objectness"][..., None],
            raw["rpn_deltas"],
            wanted["objectness"][..., None],
            wanted["rpn_deltas"],
        )
        same = self._on_proposals_of(wanted, _feature_maps(raw))
        second = focused_divergence(*_by_class(same, shared.own), *_by_class(wanted, shared.theirs))
        return first + second

    def predict(
        self,
        raw: dict[str, Tensor],
        *,
        score_threshold: float,
        iou_threshold: float,
        max_detections: int,
    ) -> Detections:
        """Give `boxes` (n, 4), `scores` (n,) and `labels` (n,) an image, best first."""
        heads = copy.copy(self.detector.roi_heads)
        heads.score_thresh, heads.nms_thresh = score_threshold, iou_threshold
        heads.detections_per_img = max_detections
        proposals = self._suppressed(raw)
        logits, deltas = self._second_stage(_feature_maps(raw), proposals)
        sizes = [self.size] * len(proposals)
        parts = heads.postprocess_detections(logits, deltas, proposals, sizes)
        return [
            {"boxes": boxes, "scores": scores, "labels": labels - 1}
            for boxes, scores, labels in zip(*parts, strict=True)
        ]

    def decode(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        """Refuse: the second stage depends on which proposals survive the first.

        Raises:
            BadInput: Always.
        """
        raise BadInput(
            "net: Faster R-CNN cannot be exported, since its second stage depends on its first;"
            " train an SSDLite, RetinaNet or FCOS, or regrow's own `fcos`"
        )

    def class_rows(self) -> list[ClassRows]:
        """Give the classification layer, and the box layer, which has four rows a class."""
        name = "detector.roi_heads.box_predictor"
        return [
            ClassRows(f"{name}.cls_score", background=1),
            ClassRows(f"{name}.bbox_pred", background=1, rows_per_class=4),
        ]

    def output_layers(self) -> list[str]:
        """Give the last layers of both stages."""
        rpn = [f"detector.rpn.head.{name}" for name in ("cls_logits", "bbox_pred")]
        return rpn + [rows.layer for rows in self.class_rows()]

    def _on_proposals_of(
        self, raw: dict[str, Tensor], maps: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Run the second stage on the best proposals of a first one, maybe another network's."""
        with torch.no_grad():
            best = raw["objectness"].topk(self.num_proposals).indices
            proposals = clip_boxes_to_image(self._proposals(raw), self.size)
            proposals = proposals.gather(1, best[..., None].expand(-1, -1, 4))
        logits, boxes = self._second_stage(maps, list(proposals))
        shape = (len(best), self.num_proposals, -1)
        return {"cls_logits": logits.reshape(shape), "bbox_regression": boxes.reshape(shape)}

    def _second_stage(
        self, maps: dict[str, Tensor], proposals: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        heads = self.detector.roi_heads
        regions = heads.box_roi_pool(maps, proposals, [self.size] * len(proposals))
        return heads.box_predictor(heads.box_head(regions))

    def _proposals(self, raw: dict[str, Tensor]) -> Tensor:
        deltas = raw["rpn_deltas"].detach()
        flat = self.detector.rpn.box_coder.decode(
            deltas.reshape(-1, 4), [self.anchors] * len(deltas)
        )
        return flat.reshape(deltas.shape)

    def _counted(self, proposals: Tensor, target: dict[str, Tensor]) -> Tensor:
        """Leave out proposals in ignored boxes, but those that have an object."""
        least = self.detector.roi_heads.proposal_matcher.low_threshold
        has_object = (box_iou(proposals, target["boxes"]) >= least).any(1)
        return proposals[has_object | ~is_covered(proposals, target[IGNORED_BOXES])]

    def _suppressed(self, raw: dict[str, Tensor]) -> list[Tensor]:
        sizes = [self.size] * len(raw["objectness"])
        boxes, _ = self.detector.rpn.filter_proposals(
            self._proposals(raw), raw["objectness"], sizes, self.num_anchors
        )
        return boxes


def build_detector(
    name: str,
    num_classes: int,
    size: tuple[int, int],
    args: dict[str, Any] | None = None,
    weights: str | None = None,
) -> Detector:
    """Build one of torchvision's detectors for images of one size.

    With pretrained weights, torchvision freezes the backbone's batch norms and its first layers.
    Here every layer is trainable and every batch norm a plain `BatchNorm2d` with the same
    statistics, scale and shift: the same network in evaluation, but one that a pruner can cut; in
    training its statistics move, so give it batches of more than a few images.

    Args:
        name: Its name in `torchvision.models.detection`.
        num_classes: Number of classes, without background.
        size: Height and width of the images, in pixels.
        args: Further arguments of torchvision's builder, plain data.
        weights: `DEFAULT` for the weights trained on COCO, with new class rows; None downloads
            nothing.

    Raises:
        BadInput: If there is no such detector, or it does not take the arguments or the size.
    """
    names = [n for n in list_models(families) if n.startswith(tuple(FAMILIES))]
    if name not in names:
        raise BadInput(f"net: no detector {name!r} in torchvision; there are {', '.join(names)}")
    family, adapter = FAMILIES[next(prefix for prefix in FAMILIES if name.startswith(prefix))]
    args = args or {}
    known = _arguments(family)
    for key, value in args.items():
        if key not in known:
            raise BadInput(f"net_args: {name} has no argument {key}; it has {', '.join(known)}")
        if type(value) not in (int, float):
            raise BadInput(f"net_args.{key}: {name} takes a number, and got {value!r}")
    has_background = adapter in (Ssd, FasterRcnn)
    try:
        built = get_model_builder(name)(
            num_classes=num_classes + has_background, weights=None, weights_backbone=None, **args
        )
    except (AssertionError, ValueError) as error:
        raise BadInput(f"net_args: torchvision's {name} does not take {args}: {error}") from error
    net = adapter(built, size)
    if weights == "DEFAULT":
        _load_pretrained_(net, name)
    elif weights is not None:
        raise BadInput(f"weights: {weights!r} is unknown to {name}; give DEFAULT or nothing")
    return net


FAMILIES: dict[str, tuple[type[nn.Module], type[DenseDetector] | type[FasterRcnn]]] = {
    "ssd": (SSD, Ssd),
    "retinanet": (families.RetinaNet, RetinaNet),
    "fcos": (families.FCOS, TorchvisionFcos),
    "fasterrcnn": (families.FasterRCNN, FasterRcnn),
}


def _arguments(family: type[nn.Module]) -> list[str]:
    """Give the numbers that a family takes; torchvision swallows any other without a word."""
    parameters = inspect.signature(family).parameters.values()
    return [p.name for p in parameters if type(p.default) in (int, float) and p.name not in UNUSED]


def _load_pretrained_(net: DenseDetector | FasterRcnn, name: str) -> None:
    layers = [rows.layer.removeprefix("detector.") + "." for rows in net.class_rows()]
    state = get_model_weights(name).DEFAULT.get_state_dict(progress=True, check_hash=True)
    state = {k: v for k, v in state.items() if not k.startswith(tuple(layers))}
    missing, unexpected = net.detector.load_state_dict(state, strict=False)
    # Frozen batch norms count no batches.
    missing = [k for k in missing if not k.startswith(tuple(layers))]
    missing = [k for k in missing if not k.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise BadInput(f"weights: {name} does not fit them: {', '.join(missing + unexpected)}")
    if name in WITHOUT_EPSILON:
        for layer in net.detector.backbone.modules():
            if isinstance(layer, nn.BatchNorm2d) and layer.running_var is not None:
                # In the statistics, since a checkpoint keeps no epsilon.
                layer.running_var -= layer.eps


def _anchors(
    generator: nn.Module, shapes: list[tuple[int, int, int]], size: tuple[int, int]
) -> Tensor:
    images = ImageList(torch.empty(1, 3, *size), [size])
    return generator(images, [torch.empty(1, *shape) for shape in shapes])[0]


def _behind_background(targets: Targets) -> Targets:
    return [{"boxes": t["boxes"], "labels": t["labels"] + 1} for t in targets]


def _feature_maps(raw: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "features."
    return {k.removeprefix(prefix): v for k, v in raw.items() if k.startswith(prefix)}


def _by_class(second: dict[str, Tensor], classes: list[int] | slice) -> tuple[Tensor, Tensor]:
    """Give logits (b, p * c, 1) and boxes (b, p * c, 4), a place for each class of a proposal."""
    logits = one_against_rest(second["cls_logits"])[..., 1:][..., classes]
    boxes = second["bbox_regression"].unflatten(-1, (-1, 4))[:, :, 1:][:, :, classes]
    return logits.flatten(1)[..., None], boxes.flatten(1, 2)
