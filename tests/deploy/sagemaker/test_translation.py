"""Jobs for SageMaker's built-in algorithms become the options that their guide means."""

import re
from typing import Any

import pytest
import torch
from torchvision.transforms import v2

from regrow.deploy.sagemaker.builtin import IC, OD, SS, TABLE, Values
from regrow.deploy.sagemaker.translation import (
    AUGMENTATIONS,
    BACKBONES,
    DETECTORS,
    RESNETS,
    SEGMENTERS,
    translate,
)
from regrow.errors import BadInput
from regrow.models.nets.build import list_nets


def options(builtin: str, devices: int = 1, /, **given: Any) -> dict[str, Any]:
    """Return the options of a job by name."""
    return translate(Values(builtin, given), devices)


# The defaults of the guide's tables.

FLIP = {"class_path": "torchvision.transforms.v2.RandomHorizontalFlip"}


def test_image_classification_without_any_value() -> None:
    assert options(IC) == {
        "task": "regrow.models.classification.Classification",
        "task.net": "torchvision/resnet152",
        "data.size": [224, 224],
        "data.batch_size": 32,
        "task.optimization.optimizer": "sgd",
        "task.optimization.lr": 0.1,
        "task.optimization.weight_decay": 0.0001,
        "task.optimization.momentum": 0.9,
        "task.optimization.nesterov": False,
        "task.optimization.schedule": "constant",
        "task.optimization.warmup": 0,
        "fit.epochs": 30,
    }


def test_object_detection_without_any_value() -> None:
    found = options(OD)
    transforms = found.pop("data.augment")
    assert [t["class_path"].rpartition(".")[2] for t in transforms] == [
        "RandomHorizontalFlip",
        "RandomAffine",
        "ColorJitter",
    ]
    assert found.pop("task.std") == pytest.approx([1 / 255] * 3)
    assert found == {
        "task": "regrow.models.detection.Detection",
        "task.net": "torchvision/ssd300_vgg16",
        "task.weights": "DEFAULT",
        "task.mean": [0.48235, 0.45882, 0.40784],
        "task.iou_threshold": 0.45,
        "data.size": [300, 300],
        "data.batch_size": 32,
        "task.optimization.optimizer": "sgd",
        "task.optimization.lr": 0.001,
        "task.optimization.weight_decay": 0.0005,
        "task.optimization.momentum": 0.9,
        "task.optimization.nesterov": False,
        "task.optimization.schedule": "constant",
        "task.optimization.warmup": 0,
        "fit.epochs": 30,
    }


def test_semantic_segmentation_without_any_value() -> None:
    found = options(SS)
    assert found.pop("data.augment")[0] == FLIP
    assert found == {
        "task": "regrow.models.segmentation.Segmentation",
        "task.net": "torchvision/fcn_resnet50",
        "task.weights": "DEFAULT",
        "data.size": [240, 240],
        "data.batch_size": 16,
        "task.optimization.optimizer": "sgd",
        "task.optimization.lr": 0.001,
        "task.optimization.weight_decay": 0.0001,
        "task.optimization.momentum": 0.9,
        "task.optimization.nesterov": False,
        "task.optimization.schedule": "poly",
        "task.optimization.warmup": 0,
        "fit.epochs": 10,
    }


# The sample notebooks' jobs.


def test_the_job_of_the_segmentation_notebook() -> None:
    job = {
        "backbone": "resnet-101",
        "algorithm": "deeplab",
        "use_pretrained_model": "False",
        "crop_size": "242",
        "epochs": "30",
        "learning_rate": "0.0001",
        "optimizer": "rmsprop",
        "lr_scheduler": "cosine",
        "mini_batch_size": "8",
        "early_stopping": "True",
        "early_stopping_patience": "2",
        "early_stopping_min_epochs": "10",
        "gamma1": "0.8",
        "gamma2": "0.7",
        "syncbn": "True",
    }
    found = options(SS, **job)
    assert "task.weights" not in found
    found = {name: value for name, value in found.items() if name != "data.augment"}
    assert found == {
        "task": "regrow.models.segmentation.Segmentation",
        "task.net": "torchvision/deeplabv3_resnet101",
        "data.size": [248, 248],
        "data.batch_size": 8,
        "task.optimization.optimizer": "rmsprop",
        "task.optimization.lr": 0.0001,
        "task.optimization.weight_decay": 0,
        "task.optimization.momentum": 0.7,
        "task.optimization.alpha": 0.8,
        "task.optimization.schedule": "cosine",
        "task.optimization.warmup": 0,
        "fit.epochs": 30,
        "fit.patience": 2,
        "fit.trainer": {"min_epochs": 10, "sync_batchnorm": True},
    }


def test_the_job_of_the_detection_notebook() -> None:
    job = {
        "base_network": "resnet-50",
        "use_pretrained_model": "1",
        "mini_batch_size": "16",
        "epochs": "5",
        "learning_rate": "0.001",
        "lr_scheduler_step": "3,6",
        "lr_scheduler_factor": "0.2",
        "optimizer": "rmsprop",
        "weight_decay": "0.0004",
        "overlap_threshold": "0.5",
        "nms_threshold": "0.4",
        "image_shape": "512",
    }
    found = options(OD, **job)
    assert found["task.net"] == "torchvision/retinanet_resnet50_fpn"
    assert found["task.weights"] == "DEFAULT"
    assert "task.mean" not in found
    assert (found["task.iou_threshold"], found["data.size"]) == (0.4, [512, 512])
    steps = {n.rpartition(".")[2]: v for n, v in found.items() if "optimization" in n}
    assert steps == {
        "optimizer": "rmsprop",
        "lr": 0.001,
        "weight_decay": 0.0004,
        "momentum": 0,
        "schedule": "steps",
        "warmup": 0,
        "milestones": [3 / 5],  # the sixth of five epochs never comes
        "factor": 0.2,
    }


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        ("nag", {"optimizer": "sgd", "nesterov": True, "momentum": 0.5, "weight_decay": 0.01}),
        ("sgd", {"optimizer": "sgd", "nesterov": False, "momentum": 0.5, "weight_decay": 0.01}),
        (
            "adam",
            {"optimizer": "adamw", "weight_decay": 0, "beta1": 0.8, "beta2": 0.99, "eps": 1e-4},
        ),
        (
            "rmsprop",
            {"optimizer": "rmsprop", "weight_decay": 0, "momentum": 0, "alpha": 0.7, "eps": 1e-4},
        ),
    ],
)
def test_optimizers_of_image_classification(optimizer: str, expected: dict[str, Any]) -> None:
    given = {"momentum": 0.5, "weight_decay": 0.01, "beta_1": 0.8, "beta_2": 0.99}
    found = options(IC, optimizer=optimizer, eps=1e-4, gamma=0.7, **given)
    found = {n.rpartition(".")[2]: v for n, v in found.items() if "optimization" in n}
    rest = {"lr": 0.1, "schedule": "constant", "warmup": 0}
    assert found == expected | rest


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10,20", [1 / 3, 2 / 3]), ("20, 10", [1 / 3, 2 / 3]), (15, [0.5]), ("10,30", [1 / 3])],
)
def test_the_rate_falls_after_epochs(text: str, expected: list[float]) -> None:
    found = options(IC, lr_scheduler_step=text)
    assert found["task.optimization.schedule"] == "steps"
    assert found["task.optimization.milestones"] == expected
    assert found["task.optimization.factor"] == 0.1


def test_a_fall_that_never_comes_leaves_the_rate_constant() -> None:
    found = options(SS, lr_scheduler="step", lr_scheduler_step="10")
    assert found["task.optimization.schedule"] == "constant"
    assert "task.optimization.milestones" not in found


def test_gpus_share_a_batch() -> None:
    assert options(IC, 4, mini_batch_size="32")["data.batch_size"] == 8
    assert options(IC, 4, mini_batch_size="2")["data.batch_size"] == 1


@pytest.mark.parametrize(("word", "name"), [("float32", "32-true"), ("float16", "16-mixed")])
def test_precision_and_weights(word: str, name: str) -> None:
    found = options(IC, precision_dtype=word, use_pretrained_model=1, num_layers="50")
    assert (found["fit.precision"], found["task.weights"]) == (name, "DEFAULT")
    assert found["task.net"] == "torchvision/resnet50"


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_keep_the_size(name: str) -> None:
    image = torch.randint(0, 256, (3, 24, 36), dtype=torch.uint8)
    shown = options(IC, augmentation_type=name, image_shape="3,24,36")["data.augment"]
    assert len(shown) == {"crop": 2, "crop_color": 3, "crop_color_transform": 4}[name]
    for entry in shown:
        image = getattr(v2, entry["class_path"].rpartition(".")[2])(**entry.get("init_args", {}))(
            image
        )
        assert image.shape == (3, 24, 36)


def test_a_crop_keeps_the_shape_of_what_it_shows() -> None:
    """Of a plain crop at most a quarter is lost, and a square stays one."""
    crop, _ = options(IC, augmentation_type="crop", image_shape="3,24,48")["data.augment"]
    assert crop["init_args"]["ratio"] == [2, 2]
    assert crop["init_args"]["scale"] == [pytest.approx(0.765625), 1]
    crop = options(IC, augmentation_type="crop_color_transform")["data.augment"][0]
    assert crop["init_args"]["ratio"] == [0.75, 1.25]


def test_networks_exist() -> None:
    assert set(RESNETS.values()) <= set(list_nets("labels"))
    assert set(DETECTORS.values()) <= set(list_nets("boxes"))
    names = {f"torchvision/{a}_{b}" for a in SEGMENTERS.values() for b in BACKBONES.values()}
    assert names <= set(list_nets("masks"))


# What is refused, and what has no effect.


@pytest.mark.parametrize(
    ("algorithm", "given", "message"),
    [
        (IC, {"epohcs": 3}, "epohcs: image-classification has none of this name; did you mean ep"),
        (IC, {"nms_threshold": 0.4}, "nms_threshold: image-classification has none of this name"),
        (IC, {"multi_label": "1"}, "multi_label is 1; 0 only: an image has one class; leave it"),
        (OD, {"freeze_layer_pattern": "^(conv1_).*"}, "freeze_layer_pattern is .*; empty only"),
        (OD, {"overlap_threshold": 0.6}, "overlap_threshold is 0.6; 0.5 only: the score is map50"),
        (SS, {"early_stopping_tolerance": 0.1}, "early_stopping_tolerance is 0.1; 0 only"),
        (IC, {"epochs": "ten"}, "epochs is 'ten'; it must be a whole number, at least 1"),
        (IC, {"epochs": "0"}, "epochs is '0'; it must be a whole number, at least 1"),
        (IC, {"learning_rate": "x"}, "learning_rate is 'x'; it must be a number"),
        (IC, {"lr_scheduler_step": "1,b"}, "lr_scheduler_step is '1,b'; it must be whole numbers"),
        (SS, {"lr_scheduler": "step"}, "lr_scheduler_step is ''; it must be whole numbers"),
        (SS, {"lr_scheduler": "exp"}, "lr_scheduler is 'exp'; it must be one of poly, cosine, st"),
        (SS, {"algorithm": "psp"}, "algorithm is 'psp'; it must be one of fcn, deeplab"),
        (OD, {"optimizer": "adadelta"}, "optimizer is 'adadelta'; it must be one of sgd, nag, ad"),
        (IC, {"num_layers": "19"}, "num_layers is '19'; it must be one of 18, 34, 50"),
        (IC, {"image_shape": "1,28,28"}, "image_shape is '1,28,28'; it must be 3,height,width"),
        (IC, {"image_shape": "224"}, "image_shape is '224'; it must be 3,height,width"),
        (OD, {"image_shape": "3,300,300"}, "image_shape is '3,300,300'; it must be a whole number"),
        (SS, {"use_pretrained_model": "yes"}, "use_pretrained_model is 'yes'; it must be True or"),
        (IC, {"augmentation_type": "flip"}, "augmentation_type is 'flip'; it must be one of crop"),
    ],
)
def test_what_cannot_be_had_is_named(algorithm: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=f"hyperparameter {message}"):
        translate(Values(algorithm, given))


# A value of each hyperparameter that is not its default, and what else makes it count.
OTHER: dict[str, tuple[Any, dict[str, Any]]] = {
    "epochs": (7, {}),
    "learning_rate": (0.5, {}),
    "mini_batch_size": (4, {}),
    "optimizer": ("rmsprop", {}),
    "momentum": (0.3, {}),
    "weight_decay": (0.3, {}),
    "beta_1": (0.5, {"optimizer": "adam"}),
    "beta_2": (0.5, {"optimizer": "adam"}),
    "eps": (0.5, {"optimizer": "adam"}),
    "gamma": (0.5, {"optimizer": "rmsprop"}),
    "gamma1": (0.5, {"optimizer": "rmsprop"}),
    "gamma2": (0.5, {"optimizer": "rmsprop"}),
    "lr_scheduler": ("cosine", {}),
    "lr_scheduler_step": ("3", {"lr_scheduler": "step", "lr_scheduler_step": "2"}),
    "lr_scheduler_factor": (0.5, {"lr_scheduler": "step", "lr_scheduler_step": "3"}),
    "early_stopping": ("True", {}),
    "early_stopping_patience": (3, {"early_stopping": "True"}),
    "early_stopping_min_epochs": (3, {"early_stopping": "True"}),
    "use_pretrained_model": (None, {}),
    "num_layers": (18, {}),
    "base_network": ("resnet-50", {}),
    "algorithm": ("deeplab", {}),
    "backbone": ("resnet-101", {}),
    "image_shape": (None, {}),
    "crop_size": (64, {}),
    "augmentation_type": ("crop", {}),
    "precision_dtype": ("float16", {}),
    "nms_threshold": (0.3, {}),
    "syncbn": ("True", {}),
}
VARYING = {"use_pretrained_model": {IC: 1, OD: 0, SS: False}, "image_shape": {IC: "3,8,8", OD: 512}}
COUNTS = ("num_classes", "num_training_samples")
MAPPED = [
    (entry.name, algorithm)
    for entry in TABLE
    for algorithm in entry.defaults
    if entry.only is None and not entry.is_idle and entry.name not in COUNTS
]


@pytest.mark.parametrize(("name", "algorithm"), MAPPED)
def test_no_hyperparameter_is_ignored(name: str, algorithm: str) -> None:
    value, beside = OTHER[name]
    value = VARYING[name][algorithm] if name in VARYING else value
    if algorithm != SS:
        beside = {n: v for n, v in beside.items() if n != "lr_scheduler"}
    values = Values(algorithm, beside | {name: value})
    one, other = translate(values), translate(Values(algorithm, beside))
    changed = {n for n in one.keys() | other.keys() if one.get(n) != other.get(n)}
    assert changed
    assert values.lines() == []
    # What the table of the docs names is what changes.
    entry = next(entry for entry in TABLE if entry.name == name)
    named = re.findall(r"`([\w.]+)`", entry.becomes)[0]
    assert named in changed
