"""Safe reading of `data.yaml`: known sources and transforms alone, with plain arguments.

The `data.yaml` beside a checkpoint is read by itself. It may come from a stranger, so its values
are built here by the signatures of known classes. Nothing is imported by a name that it gives.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from torchvision.transforms import v2

from regrow.class_path import class_path
from regrow.data import formats, sagemaker, sample, staged
from regrow.data.module import GrowingData
from regrow.data.source import Source
from regrow.errors import BadInput
from regrow.text import printable

SOURCES: tuple[type[Source], ...] = (
    staged.Staged,
    formats.ImageFolder,
    formats.ManifestFile,
    formats.Coco,
    formats.Voc,
    formats.Masks,
    formats.Torchvision,
    formats.Yolo,
    formats.LabelMe,
    formats.HuggingFace,
    formats.LabelStudio,
    formats.Several,
    sagemaker.SageMakerList,
    sagemaker.SageMakerBoxes,
    sagemaker.SageMakerMasks,
    sample.Digits,
    sample.DigitScenes,
)
# Those that take numbers and words, and give uint8 images of one size, or can be part of that.
TRANSFORMS: tuple[type[v2.Transform], ...] = (
    v2.AugMix, v2.AutoAugment, v2.CenterCrop, v2.ClampBoundingBoxes, v2.ColorJitter,
    v2.ElasticTransform, v2.GaussianBlur, v2.GaussianNoise, v2.Grayscale, v2.Identity, v2.JPEG,
    v2.Pad, v2.RGB, v2.RandAugment, v2.RandomAdjustSharpness, v2.RandomAffine,
    v2.RandomAutocontrast, v2.RandomChannelPermutation, v2.RandomCrop, v2.RandomEqualize,
    v2.RandomErasing, v2.RandomGrayscale, v2.RandomHorizontalFlip, v2.RandomInvert,
    v2.RandomIoUCrop, v2.RandomPerspective, v2.RandomPhotometricDistort, v2.RandomPosterize,
    v2.RandomResize, v2.RandomResizedCrop, v2.RandomRotation, v2.RandomShortestSize,
    v2.RandomSolarize, v2.RandomVerticalFlip, v2.RandomZoomOut, v2.Resize, v2.ScaleJitter,
    v2.TrivialAugmentWide,
)  # fmt: skip
# Those that take a list of others as `transforms`.
NESTING: tuple[type[v2.Transform], ...] = (
    v2.Compose,
    v2.RandomApply,
    v2.RandomChoice,
    v2.RandomOrder,
)
# Data sets of torchvision that hold no pickles, or compare their checksums before reading them.
DATASETS = frozenset(
    f"torchvision.datasets.{name}"
    for name in (
        "CIFAR10", "CIFAR100", "Country211", "DTD", "EuroSAT", "FGVCAircraft", "FashionMNIST",
        "Flowers102", "Food101", "GTSRB", "Imagenette", "KMNIST", "MNIST", "OxfordIIITPet",
        "STL10", "SUN397", "SVHN", "StanfordCars",
    )
)  # fmt: skip
NUM_TRANSFORMS = 16  # in all, those in others counted
LARGEST = 4096  # of a transform's numbers, such as pixels or degrees
# Numbers that multiply the size of an image, or the work for it.
LARGEST_OF = {v2.RandomZoomOut: 16, v2.ScaleJitter: 16, v2.AugMix: 16, v2.RandAugment: 64}
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,40}")
# A pattern without a group that is repeated, and with few repeats, ends soon on any name.
NUM_REPEATS, REPEATED_GROUP = 2, re.compile(r"\)\s*[*+?{]")
PATTERNS = frozenset({"late_names", "group"})
WAY_OUT = "name the data with --config or --data, if you trust it"


class ForeignName(BadInput):
    """A class that a file names which is read by itself, and that is none of the known ones."""


def build_data(described: Any) -> GrowingData:
    """Return the data that plain values describe, as `data.yaml` holds them.

    Args:
        described: The arguments of `GrowingData`, or a mapping of its `class_path` and `init_args`.

    Raises:
        ForeignName: If a class is named that is not known here.
        BadInput: If a value is none that its argument takes.
    """
    own, arguments = _named(described, (GrowingData,), "data", default=GrowingData)
    built: GrowingData = _built(own, arguments, "data")
    return built


def _named(
    value: Any, known: Sequence[type], place: str, default: type | None = None
) -> tuple[type, Mapping[str, Any]]:
    """Return the known class that a value names, and its arguments."""
    if isinstance(value, str):
        value = {"class_path": value}
    if not isinstance(value, Mapping):
        raise BadInput(f"{place} is {_shown(value)}; it must name a class")
    if default is not None and "class_path" not in value:
        return default, value
    name, arguments = value.get("class_path"), value.get("init_args") or {}
    others = value.keys() - {"class_path", "init_args"}
    found = {class_path(choice): choice for choice in known}
    found |= {f"{v2.__name__}.{c.__name__}": c for c in known if issubclass(c, v2.Transform)}
    if not isinstance(name, str) or name not in found:
        raise ForeignName(
            f"{place} names {_shown(name)}, which is not taken from a file that is read by itself; "
            f"{WAY_OUT}"
        )
    if others or not isinstance(arguments, Mapping):
        raise BadInput(f"{place}: beside class_path there can be init_args, a mapping, alone")
    return found[name], arguments


def _built(own: type, arguments: Mapping[str, Any], place: str) -> Any:
    """Make an object of plain arguments, by the types in its signature."""
    hints = get_type_hints(own.__init__)  # type: ignore[misc]
    values = {}
    for name, value in arguments.items():
        if not isinstance(name, str) or name not in hints or name == "return":
            raise BadInput(f"{place}: {own.__name__} has no argument {_shown(name)}")
        at = f"{place}.{name}"
        if name in PATTERNS and isinstance(value, str):
            _refuse_slow(value, at)
        if own is formats.Torchvision and name == "dataset" and value not in DATASETS:
            raise ForeignName(f"{at} names {_shown(value)}, which may hold pickles; {WAY_OUT}")
        values[name] = _converted(value, hints[name], at)
    try:
        return own(**values)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"{place}: {printable(str(error))}") from error


def _converted(value: Any, hint: Any, place: str) -> Any:
    """Return a plain value as the type of an argument, or refuse it."""
    kind, inner = get_origin(hint), get_args(hint)
    if kind in (Union, UnionType):
        return _first_of(value, inner, place)
    if hint is Source:
        return _built(*_named(value, SOURCES, place), place)
    if hint is formats.Part and isinstance(value, Mapping):
        return _built(formats.Part, value, place)
    if kind is list and inner == (v2.Transform,) and isinstance(value, list):
        return _transforms(value, place)
    if kind is Literal and value in inner and not isinstance(value, bool):
        return value
    if kind in (list, tuple) and isinstance(value, list):
        types = inner if kind is tuple else inner * len(value)
        if len(types) == len(value):
            return kind(_converted(*pair, place) for pair in zip(value, types, strict=True))
    if hint is Path and isinstance(value, str) and "\0" not in value:
        return Path(value)
    if hint is float and type(value) in (int, float):
        return float(value)
    if hint in (bool, int, str, NoneType) and type(value) is hint:
        return value
    raise BadInput(f"{place} is {_shown(value)}, which it cannot be")


def _first_of(value: Any, hints: Sequence[Any], place: str) -> Any:
    failed: BadInput | None = None
    for hint in hints:
        try:
            return _converted(value, hint, place)
        except BadInput as error:
            failed = failed if isinstance(failed, ForeignName) or hint is NoneType else error
    raise failed or BadInput(f"{place} is {_shown(value)}, which it cannot be")


def _transforms(values: list[Any], place: str) -> list[v2.Transform]:
    left = [NUM_TRANSFORMS]

    def make(entry: Any, at: str) -> v2.Transform:
        left[0] -= 1
        if left[0] < 0:
            raise BadInput(f"{place} has more than {NUM_TRANSFORMS} transforms; {WAY_OUT}")
        own, given = _named(entry, (*TRANSFORMS, *NESTING), at)
        arguments = dict(given)
        inner = arguments.pop("transforms", None) if own in NESTING else None
        for name, value in arguments.items():
            _refuse_odd(value, LARGEST_OF.get(own, LARGEST), f"{at}.{name}")
        if own in NESTING:
            if not isinstance(inner, list):
                raise BadInput(f"{at}.transforms is {_shown(inner)}; it must be a list")
            arguments["transforms"] = [make(one, f"{at}.transforms") for one in inner]
        if own is v2.AutoAugment and isinstance(arguments.get("policy"), str):
            arguments["policy"] = _policy(arguments["policy"], f"{at}.policy")
        try:
            return own(**arguments)
        except Exception as error:  # whatever a library's class says of odd arguments
            raise BadInput(f"{at}: {own.__name__}: {printable(str(error))}") from error

    return [make(entry, f"{place}[{number}]") for number, entry in enumerate(values)]


def _policy(name: str, place: str) -> v2.AutoAugmentPolicy:
    for policy in v2.AutoAugmentPolicy:
        if name in (policy.name, policy.value):
            return policy
    raise BadInput(f"{place} is {_shown(name)}, which it cannot be")


def _refuse_odd(value: Any, largest: float, place: str) -> None:
    """Refuse an argument of a transform that is neither a number, a word, nor a list of numbers."""
    if isinstance(value, list) and len(value) <= NUM_TRANSFORMS:
        for entry in value:
            if isinstance(entry, list | str):
                raise BadInput(f"{place} is {_shown(value)}; it must be a list of numbers")
            _refuse_odd(entry, largest, place)
    elif isinstance(value, str):
        if not WORD.fullmatch(value):
            raise BadInput(f"{place} is {_shown(value)}; it must be a word")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value) or abs(value) > largest:
            raise BadInput(f"{place} is {_shown(value)}; it may be {largest} at most; {WAY_OUT}")
    elif value is not None and not isinstance(value, bool):
        raise BadInput(f"{place} is {_shown(value)}; it must be a number, a word or a list")


def _refuse_slow(pattern: str, place: str) -> None:
    if sum(map(pattern.count, "*+?{")) > NUM_REPEATS or REPEATED_GROUP.search(pattern):
        raise BadInput(
            f"{place} is {_shown(pattern)}; a file that is read by itself may have a pattern of "
            f"{NUM_REPEATS} repeats at most, and of no group; {WAY_OUT}"
        )


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float | None) else type(value).__name__
    return printable(text, 100)
