"""Recipes: the config of a training run for a folder of images, where nobody wrote one.

The figures were tried on blood cells (BCCD), street scenes (CamVid) and a slice of CIFAR-10, with
one thread and three minutes each.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from regrow.data.targets.labels import Kind
from regrow.pipelines.recipes.survey import Machine, Survey

TRANSFORMS = "torchvision.transforms.v2"
TASKS: Mapping[Kind, str] = {
    "labels": "regrow.models.classification.Classification",
    "boxes": "regrow.models.detection.Detection",
    "masks": "regrow.models.segmentation.Segmentation",
}
# A network small enough for a CPU, with weights that timm offers, and the scale of their images.
PRETRAINED, PRETRAINED_SCALE = "timm/tf_efficientnet_lite0", [0.5, 0.5, 0.5]
MANY_CORES = 8  # from here on a CPU gets images and steps of twice the size and number
OBJECT_SIDE = 8  # pixels that the shorter side of a small object should have left
FAR = 110  # pixels that a point of the small detector sees
TINY = 64  # pixels of the sides of images that are trained on as they are
CACHE = 2**31  # the default of `data.cache_bytes`
FEW = 500  # images of which a larger share validates


@dataclass(frozen=True, slots=True)
class Scale:
    """How large images and how long a training run a machine is good for.

    Args:
        area: Pixels of a resized image.
        batch_size: Images in a batch.
        num_steps: Steps of a run.
    """

    area: int
    batch_size: int
    num_steps: int


ON_CPU: Mapping[Kind, Scale] = {
    "labels": Scale(96 * 96, 64, 3000),
    "boxes": Scale(256 * 320, 8, 600),
    "masks": Scale(192 * 256, 8, 700),
}
ON_CUDA: Mapping[Kind, Scale] = {
    "labels": Scale(224 * 224, 128, 20_000),
    "boxes": Scale(512 * 640, 16, 6000),
    "masks": Scale(384 * 512, 16, 6000),
}


@dataclass(frozen=True, slots=True)
class Given:
    """Settings that a recipe may not choose: those of the user, or of the parent of a warm start.

    Args:
        size: Height and width of the resized images, in pixels.
        net: The name of the network.
        net_args: Its further arguments.
        has_weights: Whether pretrained weights are given.
        is_warm: Whether the run is a warm start, whose network has learnt already.
    """

    size: tuple[int, int] | None = None
    net: str | None = None
    net_args: Mapping[str, Any] = field(default_factory=dict)
    has_weights: bool = False
    is_warm: bool = False

    @property
    def has_learnt(self) -> bool:
        """Whether the network begins with weights that were trained."""
        return self.has_weights or self.is_warm


def choose(survey: Survey, machine: Machine, given: Given = Given()) -> dict[str, Any]:
    """Return the settings of `run_training` that suit some images and a machine.

    Without pretrained weights, networks are small ones that learn from scratch.

    Args:
        survey: What the images are.
        machine: What there is to train with.
        given: What is settled already.

    Returns:
        `task`, `data` (but for its source and root) and `fit`, as a config has them.
    """
    scale = _scale(survey.kind, machine)
    size = given.size or _size(survey, scale, given.has_weights)
    batch_size = _batch_size(survey, scale)
    return {
        "task": {
            "class_path": TASKS[survey.kind],
            "init_args": _task(survey, machine, size, given),
        },
        "data": {
            "size": list(size),
            "batch_size": batch_size,
            "augment": _augment(survey, size),
            **_holding_out(survey),
            **_loading(survey, machine, size),
        },
        "fit": {"epochs": _epochs(survey, scale, batch_size, given.has_learnt)},
    }


def remarks_on(
    recipe: Mapping[str, Any],
    machine: Machine,
    given: Given = Given(),
) -> list[str]:
    """Return what a user should know of a recipe, one line each.

    Args:
        recipe: What `choose` returned.
        machine: What it was chosen for.
        given: What was settled before.
    """
    lines, net = [str(machine)], recipe["task"]["init_args"]["net"]
    if not given.has_learnt and given.net is None:
        lines.append(
            f"{net} learns from scratch; pretrained weights would do more with few images: "
            f"--task.weights DEFAULT downloads those of {PRETRAINED}, "
            "--task.weights FILE reads a state dict of it"
        )
    flips = [one for one in recipe["data"]["augment"] if one["class_path"].endswith("Flip")]
    if not flips:
        lines.append("classes look like letters or digits, so images are not mirrored")
    return lines


def _scale(kind: Kind, machine: Machine) -> Scale:
    if machine.has_cuda:
        return ON_CUDA[kind]
    scale = ON_CPU[kind]
    if machine.num_cores < MANY_CORES:
        return scale
    return Scale(2 * scale.area, scale.batch_size, 2 * scale.num_steps)


def _size(survey: Survey, scale: Scale, weights: bool) -> tuple[int, int]:
    """Return the size of the resized images: as large as they are, or as there is time for."""
    height, width = survey.size
    if survey.kind == "labels":
        side = min(height, width)
        if max(height, width) <= TINY and not weights:
            return _multiple(height, 8), _multiple(width, 8)
        largest = math.isqrt(scale.area) if not weights else max(math.isqrt(scale.area), 160)
        side = _multiple(min(side, largest), 32)
        return side, side
    area = scale.area
    if survey.object_sides is not None:
        # Small objects need larger images, up to four times as many pixels.
        shrunk = survey.object_sides[0] * math.sqrt(height * width)
        wanted = height * width * (OBJECT_SIDE / max(shrunk, 1e-6)) ** 2
        area = min(max(area, round(wanted)), 4 * area)
    factor = min(1.0, math.sqrt(area / (height * width)))
    return _multiple(height * factor, 32), _multiple(width * factor, 32)


def _multiple(side: float, step: int) -> int:
    return max(step, round(side / step) * step)


def _batch_size(survey: Survey, scale: Scale) -> int:
    """Return the size of a batch, halved until an epoch has eight."""
    batch_size = scale.batch_size
    while batch_size > 2 and survey.num_training < 8 * batch_size:
        batch_size //= 2
    return batch_size


def _epochs(survey: Survey, scale: Scale, batch_size: int, is_short: bool) -> int:
    """Return the epochs of as many steps as there is time for, within bounds."""
    num_steps = scale.num_steps * (0.6 if is_short else 1.0)
    batches = max(1, survey.num_training // batch_size)
    return min(max(round(num_steps / batches), 4), 60)


def _task(survey: Survey, machine: Machine, size: tuple[int, int], given: Given) -> dict[str, Any]:
    """Return the arguments of the task: its network, its loss and its optimizer."""
    made: dict[str, Any] = {}
    if given.net is not None:
        made["net"] = given.net
        made |= {"net_args": dict(given.net_args)} if given.net_args else {}
    elif given.has_weights:
        made |= _pretrained_net(survey.kind)
        made |= {"mean": PRETRAINED_SCALE, "std": PRETRAINED_SCALE}
    else:
        made |= _fresh_net(survey, machine, size)
    if survey.kind == "masks":
        made["dice"] = 1.0
    made["channels_last"] = True
    fresh_rate = 2e-3 if survey.kind == "boxes" else 3e-3
    made["optimization"] = {
        "optimizer": "adamw",
        "lr": 1e-3 if given.has_learnt else fresh_rate,
        "weight_decay": 0.05,
    }
    return made


def _pretrained_net(kind: Kind) -> dict[str, Any]:
    if kind == "labels":
        return {"net": PRETRAINED}
    if kind == "boxes":
        return {"net": "fcos", "net_args": {"backbone": PRETRAINED, "reach": 4}}
    return {"net": "lraspp", "net_args": {"backbone": PRETRAINED}}


def _fresh_net(survey: Survey, machine: Machine, size: tuple[int, int]) -> dict[str, Any]:
    """Return a network that learns from scratch: a small one, on CUDA one of middle size."""
    if survey.kind == "labels":
        if machine.has_cuda:
            return {"net": "cifar_resnet56" if max(size) <= TINY else "timm/resnet18"}
        return {"net": "small", "net_args": {"width": 32}}
    if survey.kind == "boxes":
        if machine.has_cuda:
            return {"net": "fcos", "net_args": {"backbone": "timm/resnet18"}}
        sides = survey.object_sides or (0.0, 0.0)
        if sides[1] * max(size) > FAR:
            return {"net": "fcos", "net_args": {"backbone": "timm/resnet10t", "reach": 4}}
        return {"net": "fcos"}
    if machine.has_cuda:
        return {"net": "lraspp", "net_args": {"backbone": "timm/resnet18"}}
    return {"net": "lraspp"}


def _augment(survey: Survey, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Return the augmentation of training images."""
    jitter = {
        "class_path": f"{TRANSFORMS}.ColorJitter",
        "init_args": {"brightness": 0.2, "contrast": 0.2},
    }
    flip = {"class_path": f"{TRANSFORMS}.RandomHorizontalFlip"}
    flips = [] if _are_letters(survey.classes) else [flip]
    if survey.kind != "labels":
        return [*flips, jitter]
    if max(size) <= TINY:
        moved = {"size": list(size), "padding": max(1, min(size) // 8)}
        return [{"class_path": f"{TRANSFORMS}.RandomCrop", "init_args": moved}, *flips]
    cut = {"size": list(size), "scale": [0.4, 1.0]}
    return [{"class_path": f"{TRANSFORMS}.RandomResizedCrop", "init_args": cut}, *flips, jitter]


def _are_letters(classes: Any) -> bool:
    """Whether classes are digits or letters, which mirrored are others."""
    named = [name for name in classes if name.lower() not in ("background", "void")]
    return bool(named) and all(len(name) == 1 and name.isalnum() for name in named)


def _holding_out(survey: Survey) -> dict[str, Any]:
    """Return how images are held out where no split is official."""
    shares = {"val_share": 0.2 if survey.num_training < FEW else 0.1, "test_share": 0.1}
    made: dict[str, Any] = {
        name: share
        for name, share in shares.items()
        if name.partition("_")[0] not in survey.num_images
    }
    if not made:
        return {}
    rarest = min(survey.num_shown.values(), default=0)
    if 0 < rarest * 0.1 < 5:  # chance may leave such a class out
        made["stratify"] = True
    return made


def _loading(survey: Survey, machine: Machine, size: tuple[int, int]) -> dict[str, Any]:
    """Return how images are read: by other processes for a GPU, and kept as far as memory goes."""
    made: dict[str, Any] = {}
    if machine.has_cuda and machine.num_cores > 2:
        made["num_workers"] = min(8, machine.num_cores - 1)
    channels = 4 if survey.kind == "masks" else 3
    needed = survey.total * (size[0] * size[1] * channels + 64)
    room = machine.memory // 4
    if min(needed, CACHE) > room:
        made["cache_bytes"] = room
    elif needed > CACHE:
        made["cache_bytes"] = min(needed, room)
    return made
