"""Torchvision's detectors by name, with their pretrained weights."""

import inspect
from typing import Any

from torch import nn
from torchvision.models import detection as families
from torchvision.models import get_model_builder, get_model_weights, list_models
from torchvision.models.detection.ssd import SSD

from regrow.errors import BadInput
from regrow.models.nets.detector import Detector
from regrow.models.nets.faster_rcnn import FasterRcnn
from regrow.models.nets.one_stage import DenseDetector, RetinaNet, Ssd, TorchvisionFcos

# Arguments of torchvision's resizing and suppression, which the data and the task set.
UNUSED = (
    *("min_size", "max_size", "topk_candidates"),
    *("score_thresh", "nms_thresh", "detections_per_img"),
    *("box_score_thresh", "box_nms_thresh", "box_detections_per_img"),
)
# Torchvision trained these with a batch norm without epsilon, and keeps it so
# (pytorch/vision#2933, `overwrite_eps`).
WITHOUT_EPSILON = ("fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn")


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
    statistics, scale and shift: the same network in evaluation, but one that can be pruned. In
    training its statistics move, so train it on batches of more than a few images.

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
    """Return the numeric arguments of a family; torchvision silently ignores unknown ones."""
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
