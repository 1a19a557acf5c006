"""Jobs for SageMaker's built-in algorithms become the command lines that their guide means."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from regrow.deploy.sagemaker.builtin import ALGORITHMS, IC, OD, SS, TABLE, Values, recognise
from regrow.deploy.sagemaker.channels import find_source
from regrow.deploy.sagemaker.training_job import Container
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

ROOT = Path(__file__).parents[3]
Job = Callable[..., Container]


def options(builtin: str, devices: int = 1, /, **given: Any) -> dict[str, Any]:
    """Give the options of a job by name, read as JSON where they are."""
    pairs = [word[2:].split("=", 1) for word in translate(Values(builtin, given), devices)]
    return {name: parsed(text) for name, text in pairs}


def parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


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
    changed = set(translate(values)) ^ set(translate(Values(algorithm, beside)))
    assert changed
    assert values.lines() == []
    # What the table of the docs names is what changes.
    entry = next(entry for entry in TABLE if entry.name == name)
    named = re.findall(r"`([\w.]+)`", entry.becomes)[0]
    assert any(word.startswith(f"--{named}=") for word in changed), (named, changed)


@pytest.mark.parametrize(
    ("algorithm", "given"),
    [
        (IC, {"multi_label": "0", "early_stopping_tolerance": "0.00"}),
        (OD, {"overlap_threshold": 0.50, "freeze_layer_pattern": ""}),
    ],
)
def test_the_values_that_regrow_has_are_accepted(algorithm: str, given: dict[str, Any]) -> None:
    assert Values(algorithm, given).lines() == []


def test_what_has_no_effect_is_said() -> None:
    values = Values(
        IC, {"kv_store": "dist_sync", "momentum": 0.9, "optimizer": "adam", "epochs": 1}
    )
    translate(values)
    assert values.lines() == [
        "hyperparameter kv_store: no effect: a job has one machine",
        "hyperparameter momentum: no effect beside the others of the job",
    ]
    values = Values(IC, {"num_layers": 18, "epochs": 1})
    translate(values)
    assert values.lines() == []
    assert values.lines(is_warm_start=True) == [
        "hyperparameter num_layers: no effect, the network is the model channel's"
    ]


def test_the_docs_have_the_table() -> None:
    """Name by name: the algorithms that have it, and what becomes of it."""
    lines = (ROOT / "docs" / "sagemaker.md").read_text().splitlines()
    start = lines.index("| hyperparameter | of | becomes |") + 2
    end = next(n for n in range(start, len(lines)) if not lines[n].startswith("|"))
    shown: dict[str, tuple[str, str]] = {}
    for line in lines[start:end]:
        names, of, becomes = (cell.strip() for cell in line.strip("|").split("|"))
        for name in re.findall(r"`(\w+)`", names):
            assert name not in shown
            shown[name] = (of, becomes)
    short = {IC: "IC", OD: "OD", SS: "SS"}
    assert shown == {
        entry.name: (", ".join(short[a] for a in ALGORITHMS if a in entry.defaults), entry.becomes)
        for entry in TABLE
    }


# Which algorithm a job is for.


def channel(folder: Path, name: str, *files: str) -> dict[str, Path]:
    for file in files:
        path = folder / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return {name: folder / name}


@pytest.mark.parametrize(
    ("names", "algorithm"),
    [
        (["epochs", "num_layers"], IC),
        (["augmentation_type", "top_k"], IC),
        (["base_network", "momentum"], OD),
        (["nms_threshold"], OD),
        (["backbone", "algorithm"], SS),
        (["crop_size"], SS),
        ([], None),
        (["fit"], None),
    ],
)
def test_names_tell_the_algorithm(names: list[str], algorithm: str | None) -> None:
    assert recognise(names, {}, None) == algorithm


@pytest.mark.parametrize(
    ("name", "file", "algorithm"),
    [
        ("train_lst", "train.lst", IC),
        ("label_map", "train_label_map.json", SS),
        ("train_annotation", "a/0000.png", SS),
        ("train_annotation", "sample_image1.json", OD),
    ],
)
def test_channels_tell_the_algorithm(tmp_path: Path, name: str, file: str, algorithm: str) -> None:
    assert recognise(["epochs"], channel(tmp_path, name, file), None) == algorithm


def test_a_label_map_beside_masks_is_no_annotation_of_boxes(tmp_path: Path) -> None:
    channels = channel(tmp_path, "train_annotation", "label_map.json", "a.png")
    assert recognise([], channels, None) == SS


def test_what_cannot_be_told_is_asked() -> None:
    assert recognise(["epochs"], {}, OD) == OD
    with pytest.raises(BadInput, match="all have epochs,momentum.*set hyperparameter builtin to"):
        recognise(["epochs", "momentum"], {}, None)
    with pytest.raises(BadInput, match="backbone is of semantic-.*; num_layers is of image-"):
        recognise(["num_layers", "backbone"], {}, None)
    with pytest.raises(BadInput, match="builtin is 'xgboost'; set hyperparameter builtin to one"):
        recognise(["epochs"], {}, "xgboost")


# The whole job.


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Give a maker of jobs for Image Classification: hyperparameters and what the list says."""
    options = ("replay", "renamed", "allow_forgetting", "warm_start", "epochs")

    def make(text: str = "0\t0\ta.png\n1\t1\tb.png\n", **given: Any) -> Container:
        data = tmp_path / "input" / "data"
        (data / "train").mkdir(parents=True)
        for name in ("a.png", "b.png"):
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(data / "train" / name)
        (data / "train_lst").mkdir()
        (data / "train_lst" / "train.lst").write_text(text)
        channels = {name: data / name for name in ("train", "train_lst")}
        checkpoints = tmp_path / "checkpoints"
        return Container(
            tmp_path, tmp_path / "configs", given, channels, checkpoints, options=options
        )

    return make


def test_a_job_gets_its_data_and_regrow_s_own_options_count_last(
    job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = job(num_classes=2, num_training_samples=2, epochs=3, **{"fit.clip": 1.5})
    words = made.arguments()
    data = tmp_path / "input" / "data"
    assert words[-4:] == [
        f"--data.root={data}",
        "--data.source=regrow.data.sagemaker.SageMakerList",
        "--fit.clip=1.5",
        f"--run={tmp_path / 'checkpoints' / 'run'}",
    ]
    assert "--fit.epochs=3" in words
    assert not any(word.startswith("--config") for word in words)
    assert capsys.readouterr().out == ""


def test_options_without_a_dot_stand_beside_them(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"replay": 0.5, "allow-forgetting": True, "renamed": {"0": "cat"}, "warm_start": "a.ckpt"}
    words = job(num_layers=18, epochs=3, **own).arguments()
    assert words[-5:-1] == [
        "--allow-forgetting=true",
        '--renamed={"0": "cat"}',
        "--replay=0.5",
        "--warm_start=a.ckpt",
    ]
    # A name of the built-in algorithm's own stays that.
    assert "--fit.epochs=3" in words
    assert not any(word.startswith("--epochs") for word in words)
    assert "num_layers: no effect, the network is" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "near"), [("epoch", "epochs"), ("replays", "replay"), ("allow-forgeting", "allow_for")]
)
def test_an_unknown_name_is_refused_with_the_nearest(job: Job, name: str, near: str) -> None:
    line = f"hyperparameter {name}: image-classification has none of this name; did you mean {near}"
    with pytest.raises(BadInput, match=line):
        job(num_layers=18, **{name: 1}).arguments()


def test_counts_that_differ_from_the_data_are_said(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    job(num_classes="3", num_training_samples="9", kv_store="dist_sync").arguments()
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3
    assert printed[0].startswith(
        "hyperparameter num_classes is 3, and the data has 2 classes: 0, 1"
    )
    assert printed[1].startswith("hyperparameter num_training_samples is 9, and the data has 2 tr")
    assert printed[2] == "hyperparameter kv_store: no effect: a job has one machine"


def test_more_classes_than_the_job_says_are_refused(job: Job) -> None:
    with pytest.raises(BadInput, match="num_classes is 1, and the data has 2 classes: 0, 1; corr"):
        job(num_classes="1").arguments()


def test_masks_need_the_number_of_classes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    channels = channel(data, "train", "a.jpg") | channel(data, "train_annotation", "a.png")
    made = Container(tmp_path, tmp_path, {"builtin": SS}, channels, tmp_path)
    with pytest.raises(BadInput, match="hyperparameter num_classes is ''; it must be a whole"):
        made.arguments()
    made = Container(tmp_path, tmp_path, {"num_classes": 21}, channels, tmp_path)
    words = made.arguments()
    assert "--data.source=regrow.data.sagemaker.SageMakerMasks" in words
    assert "--data.source.num_classes=21" in words


def test_a_job_without_images_is_refused(tmp_path: Path) -> None:
    made = Container(tmp_path, tmp_path, {"num_layers": 18}, {}, tmp_path)
    with pytest.raises(BadInput, match="image-classification: the job has no channel of images"):
        made.arguments()


@pytest.mark.parametrize("name", ["epochs", "builtin"])
def test_their_names_beside_a_config_are_refused(job: Job, name: str) -> None:
    with pytest.raises(BadInput, match=f"hyperparameter {name}: beside config"):
        job(config="classification", **{name: 3}).arguments()


@pytest.mark.parametrize("file", ["train.rec", "train/train.rec"])
def test_records_are_refused_with_the_way_out(tmp_path: Path, file: str) -> None:
    channel(tmp_path, "x", file)
    with pytest.raises(BadInput, match="train.rec is RecordIO, which regrow does not read; unpack"):
        find_source(tmp_path / "x")


@pytest.mark.parametrize(
    ("name", "file", "source"),
    [
        ("train_lst", "a.lst", "SageMakerList"),
        ("train_annotation", "a.json", "SageMakerBoxes"),
        ("train_annotation", "a/a.png", "SageMakerMasks"),
        ("train", "output.manifest", "ManifestFile"),
    ],
)
def test_channels_tell_the_format(tmp_path: Path, name: str, file: str, source: str) -> None:
    channel(tmp_path, name, file)
    assert find_source(tmp_path).rpartition(".")[2] == source
