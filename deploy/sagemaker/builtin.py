"""The hyperparameters of SageMaker's built-in image algorithms, and what becomes of each.

Source: the developer guide's tables for Image Classification (MXNet), Object Detection (MXNet) and
Semantic Segmentation, https://docs.aws.amazon.com/sagemaker/latest/dg/algos.html: names, defaults.
"""

import difflib
import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from regrow.errors import BadInput

IC, OD, SS = "image-classification", "object-detection", "semantic-segmentation"
ALGORITHMS = (IC, OD, SS)
CHOICE = "builtin"
# What a warm start takes from its checkpoint instead.
OF_NETWORK = ("`task.net`", "`task.weights`")
T = TypeVar("T")
# Which channels only one of the algorithms has, and what in the channel of annotations tells.
CHANNELS = {"train_lst": IC, "validation_lst": IC, "label_map": SS}
ANNOTATIONS = {"train_annotation": {"*.png": SS, "*.json": OD}}
# What stands beside the images of a channel.
BESIDE = (*CHANNELS, "train_annotation", "validation_annotation")


@dataclass(frozen=True, slots=True)
class Hyperparameter:
    """One name of the tables.

    Args:
        name: The name.
        defaults: The value that counts where a job gives none, by algorithm; None is no value.
        becomes: What becomes of it, as `docs/sagemaker.md` says it.
        only: The value that is accepted, where there is no choice.
        is_idle: Whether it has no effect.
    """

    name: str
    defaults: Mapping[str, Any]
    becomes: str
    only: str | None = None
    is_idle: bool = False


def _all(value: Any) -> dict[str, Any]:
    return dict.fromkeys(ALGORITHMS, value)


def _each(ic: Any, od: Any, ss: Any) -> dict[str, Any]:
    return {IC: ic, OD: od, SS: ss}


def _idle(name: str, defaults: Mapping[str, Any], why: str) -> Hyperparameter:
    return Hyperparameter(name, defaults, f"no effect: {why}", is_idle=True)


TABLE = (
    Hyperparameter("num_classes", _all(None), "refused if the data has more classes"),
    Hyperparameter("num_training_samples", _all(None), "a line if the data has another number"),
    Hyperparameter("epochs", _each(30, 30, 10), "`fit.epochs`"),
    Hyperparameter("learning_rate", _each(0.1, 0.001, 0.001), "`task.optimization.lr`"),
    Hyperparameter(
        "mini_batch_size", _each(32, 32, 16), "`data.batch_size`, divided by the number of GPUs"
    ),
    Hyperparameter(
        "optimizer",
        _all("sgd"),
        "`task.optimization.optimizer`; adam is adamw, nag is sgd with nesterov; "
        "adadelta and adagrad are refused",
    ),
    Hyperparameter("momentum", _all(0.9), "`task.optimization.momentum` of sgd and nag"),
    Hyperparameter(
        "weight_decay",
        _each(0.0001, 0.0005, 0.0001),
        "`task.optimization.weight_decay` of sgd and nag, in detection of sgd and rmsprop",
    ),
    Hyperparameter("beta_1", {IC: 0.9}, "`task.optimization.beta1` of adam"),
    Hyperparameter("beta_2", {IC: 0.999}, "`task.optimization.beta2` of adam"),
    Hyperparameter("eps", {IC: 1e-8}, "`task.optimization.eps` of adam and rmsprop"),
    Hyperparameter("gamma", {IC: 0.9}, "`task.optimization.alpha` of rmsprop"),
    Hyperparameter("gamma1", {SS: 0.9}, "`task.optimization.alpha` of rmsprop"),
    Hyperparameter("gamma2", {SS: 0.9}, "`task.optimization.momentum` of rmsprop"),
    Hyperparameter(
        "lr_scheduler",
        {SS: "poly"},
        "`task.optimization.schedule`: poly, cosine, step is steps",
    ),
    Hyperparameter(
        "lr_scheduler_step",
        _all(None),
        "`task.optimization.milestones`, with schedule steps; without it the rate is constant",
    ),
    Hyperparameter("lr_scheduler_factor", _all(0.1), "`task.optimization.factor`"),
    Hyperparameter("early_stopping", _all(False), "whether there is `fit.patience`"),
    Hyperparameter("early_stopping_patience", _each(5, 5, 4), "`fit.patience`"),
    Hyperparameter("early_stopping_min_epochs", _each(10, 10, 5), "`fit.trainer`, min_epochs"),
    Hyperparameter(
        "early_stopping_tolerance",
        _all(0.0),
        "0 only: any better score is better",
        only="0",
    ),
    Hyperparameter(
        "use_pretrained_model", _each(0, 1, True), "`task.weights`, DEFAULT; they are downloaded"
    ),
    Hyperparameter(
        "num_layers", {IC: 152}, "`task.net`: a ResNet of torchvision, timm or for 32x32 images"
    ),
    Hyperparameter(
        "base_network",
        {OD: "vgg-16"},
        "`task.net`: vgg-16 is torchvision/ssd300_vgg16, resnet-50 "
        "torchvision/retinanet_resnet50_fpn",
    ),
    Hyperparameter(
        "algorithm",
        {SS: "fcn"},
        "`task.net`: fcn, and deeplab is deeplabv3, of torchvision; psp is refused",
    ),
    Hyperparameter("backbone", {SS: "resnet-50"}, "`task.net`: resnet-50 or resnet-101"),
    Hyperparameter("image_shape", {IC: "3,224,224", OD: 300}, "`data.size`"),
    Hyperparameter("crop_size", {SS: 240}, "`data.size`, a multiple of 8"),
    _idle("base_size", {SS: 520}, "whole images are resized to crop_size"),
    _idle("resize", {IC: None}, "whole images are resized to image_shape"),
    Hyperparameter("augmentation_type", {IC: None}, "`data.augment`"),
    Hyperparameter(
        "precision_dtype",
        {IC: None},
        "`fit.precision`: float32 is 32-true, float16 16-mixed; none leaves it to regrow",
    ),
    Hyperparameter("nms_threshold", {OD: 0.45}, "`task.iou_threshold`"),
    Hyperparameter("overlap_threshold", {OD: 0.5}, "0.5 only: the score is map50", only="0.5"),
    Hyperparameter("syncbn", {SS: False}, "`fit.trainer`, sync_batchnorm"),
    Hyperparameter("multi_label", {IC: 0}, "0 only: an image has one class", only="0"),
    Hyperparameter(
        "freeze_layer_pattern", {OD: None}, "empty only: every layer is trained", only=""
    ),
    _idle("use_weighted_loss", {IC: 0}, "it is for several labels an image"),
    _idle("top_k", {IC: None}, "the score is that of the first class"),
    _idle("checkpoint_frequency", {IC: None}, "the best and the last epoch are kept"),
    _idle("kv_store", {IC: None, OD: None}, "a job has one machine"),
    _idle("label_width", {OD: 350}, "an image may have any number of boxes"),
    _idle("validation_mini_batch_size", {SS: 16}, "scores do not depend on it"),
)
NAMES = {entry.name: entry for entry in TABLE}


def recognise(given: Iterable[str], channels: Mapping[str, Path], choice: Any) -> str | None:
    """Return the built-in algorithm that a job is for.

    It is the one that the hyperparameter `builtin` names, else the only one that has all of those
    names and channels which belong to one algorithm alone.

    Args:
        given: The names of the job's hyperparameters.
        channels: The folder of each channel by name.
        choice: The value of the hyperparameter `builtin`, or None.

    Returns:
        The algorithm, or None if neither names nor channels are of a built-in one.

    Raises:
        BadInput: If it cannot be told, with what speaks for which.
    """
    ways = f"set hyperparameter {CHOICE} to one of {', '.join(ALGORITHMS)}"
    if choice is not None:
        if choice not in ALGORITHMS:
            raise BadInput(f"hyperparameter {CHOICE} is {choice!r}; {ways}")
        return str(choice)
    names = [name for name in given if name in NAMES]
    signs = {n: next(iter(NAMES[n].defaults)) for n in names if len(NAMES[n].defaults) == 1}
    signs |= {f"channel {name}": CHANNELS[name] for name in channels if name in CHANNELS}
    for name in channels.keys() & ANNOTATIONS.keys():
        for pattern, algorithm in ANNOTATIONS[name].items():
            if any(channels[name].rglob(pattern)):
                signs[f"channel {name}"] = algorithm
                break
    if len(set(signs.values())) == 1:
        return next(iter(signs.values()))
    if not signs and not names:
        return None
    found = "; ".join(f"{sign} is of {algorithm}" for sign, algorithm in sorted(signs.items()))
    raise BadInput(
        "hyperparameters: cannot tell which of SageMaker's built-in algorithms they are for "
        f"({found or f'all have {chr(44).join(names)}'}); {ways}, or config to a config of regrow"
    )


def _whole(text: str) -> int | None:
    """Read a whole number from 1 on, of nine digits at most; 1.0 is one. None for anything else."""
    match = re.fullmatch(r"\+?(\d{1,9})(\.0*)?", text, re.ASCII)
    return int(match[1]) or None if match else None


def _agrees(text: str, only: str) -> bool:
    try:
        return float(text) == float(only)
    except ValueError:
        return text == only


@dataclass(slots=True)
class Values:
    """The values of a job's hyperparameters, read as what they are meant to be.

    Args:
        algorithm: The built-in algorithm.
        given: What the job gives, by name, less regrow's own options.
        options: The names of these.
        read: The hyperparameters that were asked for so far.

    Raises:
        BadInput: If a name is none of the algorithm's, or its value is not accepted.
    """

    algorithm: str
    given: Mapping[str, Any]
    options: Collection[str] = ()
    read: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Refuse what is unknown, or cannot be had."""
        known = [entry.name for entry in TABLE if self.algorithm in entry.defaults]
        for name in self.given:
            if name not in known:
                near = difflib.get_close_matches(name, [*known, *self.options], 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise BadInput(
                    f"hyperparameter {name}: {self.algorithm} has none of this name{hint} "
                    "(docs/sagemaker.md lists them; regrow's own options, such as fit.clip and "
                    "replay, may stand beside them)"
                )
            only = NAMES[name].only
            if only is not None and not _agrees(self.text(name), only):
                raise BadInput(
                    f"hyperparameter {name} is {self.text(name)}; {NAMES[name].becomes}; leave it "
                    "out"
                )

    def lines(self, *, is_warm_start: bool = False) -> list[str]:
        """Return a line for each given hyperparameter without effect.

        Args:
            is_warm_start: Whether the network is that of an earlier job.
        """
        lines = []
        for name in self.given:
            becomes = NAMES[name].becomes
            if NAMES[name].is_idle:
                lines.append(f"hyperparameter {name}: {becomes}")
            elif name not in self.read:
                lines.append(f"hyperparameter {name}: no effect beside the others of the job")
            elif is_warm_start and becomes.startswith(OF_NETWORK):
                lines.append(
                    f"hyperparameter {name}: no effect, the network is the model channel's"
                )
        return lines

    def has(self, name: str) -> bool:
        """Whether there is a value."""
        return self.text(name) != ""

    def text(self, name: str) -> str:
        """Return a value as text; none is empty."""
        self.read.add(name)
        value = self.given.get(name, NAMES[name].defaults[self.algorithm])
        if isinstance(value, list | tuple):
            return ",".join(str(part).strip() for part in value)
        return "" if value is None else str(value).strip()

    def number(self, name: str) -> float:
        """Return a finite number."""
        try:
            value = float(self.text(name))
        except ValueError as error:
            raise self.wrong(name, "a number") from error
        if not math.isfinite(value):
            raise self.wrong(name, "a finite number")
        return value

    def whole(self, name: str) -> int:
        """Return a whole number, at least 1."""
        number = _whole(self.text(name))
        if number is None:
            raise self.wrong(name, "a whole number, at least 1")
        return number

    def wholes(self, name: str) -> list[int]:
        """Return whole numbers, at least 1, that commas separate."""
        numbers = [_whole(part.strip()) for part in self.text(name).split(",")]
        found = [number for number in numbers if number is not None]
        if len(found) < len(numbers):
            raise self.wrong(name, "whole numbers, at least 1, separated by commas")
        return found

    def flag(self, name: str) -> bool:
        """Whether a value is true: True, true and 1 are, False, false and 0 are not."""
        text = self.text(name).lower()
        if text not in ("true", "1", "false", "0"):
            raise self.wrong(name, "True or False")
        return text in ("true", "1")

    def choice(self, name: str, meanings: Mapping[str, T]) -> T:
        """Return the meaning of a word."""
        if self.text(name) not in meanings:
            raise self.wrong(name, f"one of {', '.join(meanings)}")
        return meanings[self.text(name)]

    def wrong(self, name: str, wanted: str) -> BadInput:
        """Return the error that a value is not of the wanted kind."""
        text = self.text(name)
        shown = text if len(text) <= 80 else f"{text[:80]}..."
        return BadInput(f"hyperparameter {name} is {shown!r}; it must be {wanted}")
