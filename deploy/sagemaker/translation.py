"""A job for one of SageMaker's built-in image algorithms, as options of regrow's training."""

import math
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from regrow.data.source import Content
from regrow.deploy.sagemaker.builtin import IC, OD, SS, Values
from regrow.deploy.sagemaker.channels import find_source
from regrow.errors import BadInput
from regrow.logs import log

Options = dict[str, Any]
TASKS = {
    IC: "regrow.models.classification.Classification",
    OD: "regrow.models.detection.Detection",
    SS: "regrow.models.segmentation.Segmentation",
}
OPTIMIZERS = {"sgd": "sgd", "nag": "sgd", "adam": "adamw", "rmsprop": "rmsprop"}
RESNETS = {str(depth): f"torchvision/resnet{depth}" for depth in (18, 34, 50, 101, 152)}
RESNETS |= {"200": "timm/resnet200"}
RESNETS |= {str(depth): f"cifar_resnet{depth}" for depth in (20, 32, 44, 56, 110)}
DETECTORS = {
    "vgg-16": "torchvision/ssd300_vgg16",
    "resnet-50": "torchvision/retinanet_resnet50_fpn",
}
SEGMENTERS = {"fcn": "fcn", "deeplab": "deeplabv3"}
BACKBONES = {"resnet-50": "resnet50", "resnet-101": "resnet101"}
SCHEDULES = {"poly": "poly", "cosine": "cosine", "step": "steps"}
PRECISIONS = {"float32": "32-true", "float16": "16-mixed"}
# torchvision's weights of SSD with VGG-16 are for colours from 0 to 255, less these means.
VGG_MEAN, VGG_STD = [0.48235, 0.45882, 0.40784], [1 / 255] * 3
MASKS = "regrow.data.sagemaker.SageMakerMasks"
MANIFEST = "regrow.data.formats.ManifestFile"
TRANSFORMS = "torchvision.transforms.v2."
# Which optimizers decay weights, by algorithm. The guide gives the momentum and decay of semantic
# segmentation to sgd alone; nag, which is sgd with another momentum, has them here too.
DECAYING = {IC: ("sgd", "nag"), OD: ("sgd", "rmsprop"), SS: ("sgd", "nag")}
# A crop of 224 pixels of 256, He et al. 2015, arXiv 1512.03385; the guide says no size.
CROP = 224 / 256


def translate(values: Values, num_devices: int = 1) -> Options:
    """Return the options of `scripts/train.py` for a job, by name, without those of its folder.

    Args:
        values: The hyperparameters.
        num_devices: How many devices share a batch of the built-in algorithm.

    Raises:
        BadInput: If a value cannot be used, or asks for what regrow has not.
    """
    parts: dict[str, Callable[[Values], Options]] = {
        IC: _classification,
        OD: _detection,
        SS: _segmentation,
    }
    options = {"task": TASKS[values.algorithm], **parts[values.algorithm](values)}
    if values.flag("use_pretrained_model"):
        options["task.weights"] = "DEFAULT"
    options["data.batch_size"] = max(1, values.whole("mini_batch_size") // num_devices)
    moves = _optimizer(values) | _schedule(values)
    options |= {f"task.optimization.{name}": value for name, value in moves.items()}
    return options | _length(values)


def data_options(values: Values, root: Path, own: Mapping[str, Any]) -> Options:
    """Return the options of the data's folder and format, compared with what the job says of it.

    Args:
        values: The hyperparameters.
        root: The folder of the data.
        own: The options of regrow that the job gives besides.

    Raises:
        BadInput: If the data cannot be read, or has more classes than the job says.
    """
    path = find_source(root)
    options: Options = {"data.root": str(root), "data.source": path}
    prefix = "data.source."
    arguments = {n.removeprefix(prefix): v for n, v in own.items() if n.startswith(prefix)}
    if path == MASKS or (path == MANIFEST and values.algorithm == SS):
        arguments = {"num_classes": values.whole("num_classes"), **arguments}
        options[f"{prefix}num_classes"] = arguments["num_classes"]
    if "data.source" in own or "class_path" in arguments:
        return options  # whatever reads it, the job has chosen it
    module, _, name = path.rpartition(".")
    try:
        source = getattr(import_module(module), name)(**arguments)
    except TypeError as error:
        raise BadInput(f"hyperparameter data.source: {path} does not take it: {error}") from error
    _compare(values, source.read(root))
    return options


def _compare(values: Values, content: Content) -> None:
    """Refuse more classes than the job says, and name other differences."""
    shown = f"{len(content.classes)} classes: {', '.join(content.classes[:20])}"
    if values.has("num_classes"):
        count = values.whole("num_classes")
        if count < len(content.classes):
            raise BadInput(
                f"hyperparameter num_classes is {count}, and the data has {shown}; correct one"
            )
        if count > len(content.classes):
            log.info(
                f"hyperparameter num_classes is {count}, and the data has {shown}; the network "
                "gets a row for each of these, and grows at a warm start"
            )
    if values.has("num_training_samples"):
        count = values.whole("num_training_samples")
        found = sum(item.split in (None, "train") for item in content.items)
        if count != found:
            log.info(
                f"hyperparameter num_training_samples is {count}, and the data has {found} "
                "training images; regrow trains on those of the data"
            )


def _classification(values: Values) -> Options:
    shape = values.wholes("image_shape")
    if len(shape) != 3 or shape[0] != 3:
        raise values.wrong("image_shape", "3,height,width: regrow's images have three channels")
    options: Options = {"task.net": values.choice("num_layers", RESNETS), "data.size": shape[1:]}
    if values.has("augmentation_type"):
        augment = values.choice("augmentation_type", AUGMENTATIONS)
        options["data.augment"] = augment(shape[1:])
    if values.has("precision_dtype"):
        options["fit.precision"] = values.choice("precision_dtype", PRECISIONS)
    return options


def _detection(values: Values) -> Options:
    side = values.whole("image_shape")
    options: Options = {
        "task.net": values.choice("base_network", DETECTORS),
        "task.iou_threshold": values.number("nms_threshold"),
        "data.size": [side, side],
        # The guide: flip, rescale and jitter.
        "data.augment": [
            _transform("RandomHorizontalFlip"),
            _transform("RandomAffine", degrees=0, scale=[0.8, 1.2]),
            _transform("ColorJitter", brightness=0.2, contrast=0.2, saturation=0.2),
        ],
    }
    if values.flag("use_pretrained_model") and values.text("base_network") == "vgg-16":
        options |= {"task.mean": VGG_MEAN, "task.std": VGG_STD}
    return options


def _segmentation(values: Values) -> Options:
    side = 8 * math.ceil(values.whole("crop_size") / 8)
    family = values.choice("algorithm", SEGMENTERS)
    options: Options = {
        "task.net": f"torchvision/{family}_{values.choice('backbone', BACKBONES)}",
        "data.size": [side, side],
        # The guide enlarges twice at most, and crops.
        "data.augment": [
            _transform("RandomHorizontalFlip"),
            _transform("RandomResizedCrop", size=[side, side], scale=[0.25, 1.0]),
        ],
    }
    return options


def _optimizer(values: Values) -> Options:
    name = values.text("optimizer")
    options: Options = {
        "optimizer": values.choice("optimizer", OPTIMIZERS),
        "lr": values.number("learning_rate"),
        "weight_decay": 0.0,
    }
    if name in DECAYING[values.algorithm]:
        options["weight_decay"] = values.number("weight_decay")
    if name in ("sgd", "nag"):
        options |= {"momentum": values.number("momentum"), "nesterov": name == "nag"}
    if name == "rmsprop":
        options["momentum"] = values.number("gamma2") if values.algorithm == SS else 0.0
        for decay in {IC: ["gamma"], SS: ["gamma1"]}.get(values.algorithm, []):
            options["alpha"] = values.number(decay)
    if values.algorithm == IC and name == "adam":
        options |= {"beta1": values.number("beta_1"), "beta2": values.number("beta_2")}
    if values.algorithm == IC and name in ("adam", "rmsprop"):
        options["eps"] = values.number("eps")
    return options


def _schedule(values: Values) -> Options:
    """Return the schedule; a fall at or after the last epoch is none."""
    if values.algorithm == SS:
        schedule = values.choice("lr_scheduler", SCHEDULES)
    else:
        schedule = "steps" if values.has("lr_scheduler_step") else "constant"
    options: Options = {"schedule": schedule, "warmup": 0.0}
    if schedule != "steps":
        return options
    epochs = values.whole("epochs")
    shares = [e / epochs for e in sorted(values.wholes("lr_scheduler_step")) if e < epochs]
    factor = values.number("lr_scheduler_factor")
    if not shares:
        return options | {"schedule": "constant"}
    return options | {"milestones": shares, "factor": factor}


def _length(values: Values) -> Options:
    """Return the options of the length of the training."""
    options: Options = {"fit.epochs": values.whole("epochs")}
    trainer: Options = {}
    if values.flag("early_stopping"):
        options["fit.patience"] = values.whole("early_stopping_patience")
        trainer["min_epochs"] = values.whole("early_stopping_min_epochs")
    if values.algorithm == SS and values.flag("syncbn"):
        trainer["sync_batchnorm"] = True
    return options | ({"fit.trainer": trainer} if trainer else {})


def _transform(name: str, **arguments: Any) -> Options:
    return {"class_path": TRANSFORMS + name, **({"init_args": arguments} if arguments else {})}


def _crop(size: Sequence[int], change: float = 0.0) -> list[Options]:
    """Crop, and flip. The shape of a crop changes by a share of its own at most."""
    shape = size[1] / size[0]
    ratio = [shape * (1 - change), shape * (1 + change)]
    scale = [CROP**2, 1.0]
    crop = _transform("RandomResizedCrop", size=list(size), scale=scale, ratio=ratio)
    return [crop, _transform("RandomHorizontalFlip")]


def _color() -> Options:
    """Add up to 36 of 180 to the hue, and 50 of 255 to saturation and lightness."""
    return _transform("ColorJitter", brightness=50 / 255, saturation=50 / 255, hue=36 / 180)


def _bend() -> Options:
    """Turn by 10 degrees and shear by 0.1 at most."""
    return _transform("RandomAffine", degrees=10, shear=math.degrees(math.atan(0.1)))


AUGMENTATIONS: dict[str, Callable[[Sequence[int]], list[Options]]] = {
    "crop": _crop,
    "crop_color": lambda size: [*_crop(size), _color()],
    "crop_color_transform": lambda size: [*_crop(size, 0.25), _color(), _bend()],
}
