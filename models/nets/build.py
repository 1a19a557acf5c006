"""Building networks by name, with pretrained weights.

Names: `small`, `cifar_resnet20` (32, 44, 56, 110), `fcos`, `lraspp`, `torchvision/<name>`,
`timm/<name>`, `hf/<folder of a config>`, or the import path of any `nn.Module`, which is called
with `num_classes` and the further arguments.
"""

import difflib
import json
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import nn
from torch.nn.parameter import is_lazy

from regrow.data.targets.labels import Kind
from regrow.errors import BadInput
from regrow.models.class_rows import ClassRows
from regrow.models.nets.cifar import CifarResNet
from regrow.models.nets.fcos import build_fcos
from regrow.models.nets.hugging_face import HUGGING_FACE, build_hugging_face
from regrow.models.nets.lraspp import build_lraspp
from regrow.models.nets.pretrained import load_weights_, with_trunk_of
from regrow.models.nets.small import SmallClassifier, SmallSegmenter
from regrow.models.nets.torchvision_detectors import build_detector

TORCHVISION, TIMM = "torchvision/", "timm/"
OTHER_TASKS = ("raft", "maskrcnn", "keypointrcnn")  # of torchvision: flow, instances, keypoints
INCEPTIONS = ("googlenet", "inception_v3")
BARE = " (a parameter)"  # marks a parameter outside of a known layer that changes with the classes
Build = Callable[[int, tuple[int, int], dict[str, Any]], nn.Module]
OWN: dict[Kind, dict[str, Build]] = {
    "labels": {
        "small": lambda count, size, args: SmallClassifier(count, **args),
        "cifar_resnet20": lambda count, size, args: CifarResNet(20, count, **args),
        "cifar_resnet32": lambda count, size, args: CifarResNet(32, count, **args),
        "cifar_resnet44": lambda count, size, args: CifarResNet(44, count, **args),
        "cifar_resnet56": lambda count, size, args: CifarResNet(56, count, **args),
        "cifar_resnet110": lambda count, size, args: CifarResNet(110, count, **args),
    },
    "boxes": {
        "small": lambda count, size, args: build_fcos(count, size, **args),
        "fcos": lambda count, size, args: build_fcos(count, size, **args),
    },
    "masks": {
        "small": lambda count, size, args: SmallSegmenter(count, **args),
        "lraspp": lambda count, size, args: build_lraspp(count, **args),
    },
}


def list_nets(kind: Kind) -> list[str]:
    """List the names of the networks for a kind of task: `labels`, `boxes` or `masks`."""
    names = list(OWN[kind])
    if kind == "boxes":
        module: Any = torchvision.models.detection
    elif kind == "masks":
        module = torchvision.models.segmentation
    else:
        module = torchvision.models
        names += [TIMM + name for name in timm.list_models()]
    found = torchvision.models.list_models(module=module)
    return names + [TORCHVISION + name for name in found if not name.startswith(OTHER_TASKS)]


def build_net(
    kind: Kind,
    name: str,
    num_classes: int,
    size: tuple[int, int],
    args: Mapping[str, Any] | None = None,
    weights: str | None = None,
) -> nn.Module:
    """Build a dense network with a head for `num_classes` classes.

    Args:
        kind: The kind of task: `labels`, `boxes` or `masks`.
        name: The network's name, or an import path.
        num_classes: Number of classes, without background.
        size: Height and width of the images, in pixels.
        args: Further arguments of the network.
        weights: `DEFAULT` for the library's pretrained weights, which are downloaded; a local file
            with a state dict, of the whole network or of its backbone; or None.

    Raises:
        BadInput: If there is no such network, or the weights do not fit.

    Examples:
        >>> from regrow.models import build_net, count_params
        >>> count_params(build_net("labels", "cifar_resnet20", 10, (32, 32)))
        269722
    """
    args = dict(args or {})
    net = _build_or_refuse(kind, name, num_classes, size, args, weights == "DEFAULT")
    for layer, module in net.named_modules():
        if any(map(is_lazy, module._parameters.values())):
            raise BadInput(
                f"net {name!r}: {layer or 'it'} is a {type(module).__name__} that has no shape "
                "yet; give the layer its sizes"
            )
    if any(not parameter.numel() for parameter in net.parameters()):
        raise BadInput(f"net {name!r} with net_args {args}: has layers without any weights")
    if weights is not None and weights != "DEFAULT":
        load_weights_(net, Path(weights))
    return net


def _build_or_refuse(
    kind: Kind,
    name: str,
    num_classes: int,
    size: tuple[int, int],
    args: dict[str, Any],
    pretrained: bool,
) -> nn.Module:
    """Build a network; errors of the libraries become a BadInput of one line."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")  # refused below
            return _build(kind, name, num_classes, size, args, pretrained)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise BadInput(f"net {name!r} with net_args {args}: {error}") from error
    except (OSError, RuntimeError) as error:
        if not pretrained:
            if "/" not in name and "." in name:  # your own network's traceback is of use to you
                raise
            raise BadInput(f"net {name!r} with net_args {args}: {error}") from error
        raise BadInput(
            f"net {name!r}: its pretrained weights cannot be had ({error}); give a local file, or "
            "none"
        ) from error


def _build(
    kind: Kind,
    name: str,
    num_classes: int,
    size: tuple[int, int],
    args: dict[str, Any],
    pretrained: bool,
) -> nn.Module:
    if name in OWN[kind]:
        if pretrained and not str(args.get("backbone")).startswith(TIMM):
            raise BadInput(f"net {name!r} has no pretrained weights; give a file, or none")
        own_args = {**args, "pretrained": True} if pretrained else args
        return OWN[kind][name](num_classes, size, own_args)
    if name.startswith(TORCHVISION):
        return _torchvision(kind, name, num_classes, size, args, pretrained)
    if name.startswith(TIMM):
        return _timm(kind, name, num_classes, args, pretrained)
    if name.startswith(HUGGING_FACE):
        return build_hugging_face(kind, name, num_classes, args, pretrained)
    if "." in name and "/" not in name:
        return _imported(name)(num_classes=num_classes, **args)
    raise _unknown(kind, name)


def _unknown(kind: Kind, name: str) -> BadInput:
    near = difflib.get_close_matches(name, list_nets(kind), 3, 0.5)
    hint = f"did you mean {', '.join(near)}?" if near else "see regrow.models.nets.build.list_nets"
    return BadInput(f"net {name!r} is unknown for {kind}; {hint}")


def _torchvision(
    kind: Kind,
    name: str,
    num_classes: int,
    size: tuple[int, int],
    args: dict[str, Any],
    pretrained: bool,
) -> nn.Module:
    if name not in list_nets(kind):
        raise _unknown(kind, name)
    short = name.removeprefix(TORCHVISION)
    if kind == "boxes":
        return build_detector(short, num_classes, size, args, "DEFAULT" if pretrained else None)
    if kind == "masks":
        options = {"weights_backbone": "DEFAULT" if pretrained else None, "aux_loss": False} | args
        if short.startswith("lraspp"):
            options.pop("aux_loss")
        return _fresh(short, num_classes, options)
    options = {"init_weights": True, "aux_logits": False} if short in INCEPTIONS else {}
    if not pretrained:
        options |= args
        return _fresh(short, num_classes, options)
    net = torchvision.models.get_model(short, weights="DEFAULT", **args)
    if short in INCEPTIONS:  # their weights are for images that the net normalises once more
        options["transform_input"] = net.transform_input
    options |= args
    return with_trunk_of(_fresh(short, num_classes, options), net.state_dict())


def _fresh(name: str, num_classes: int, options: dict[str, Any]) -> nn.Module:
    net: nn.Module = torchvision.models.get_model(
        name, weights=None, num_classes=num_classes, **options
    )
    return net


def _timm(
    kind: Kind, name: str, num_classes: int, args: dict[str, Any], pretrained: bool
) -> nn.Module:
    short = name.removeprefix(TIMM)
    if kind != "labels" or short not in timm.list_models():
        raise _unknown(kind, name)
    return timm.create_model(short, pretrained=pretrained, num_classes=num_classes, **args)


def _imported(path: str) -> Callable[..., nn.Module]:
    module, _, name = path.rpartition(".")
    try:
        found: Callable[..., nn.Module] = getattr(import_module(module), name)
        return found
    except (ImportError, AttributeError) as error:
        raise BadInput(f"net {path!r} cannot be imported: {error}") from error


def find_class_rows(
    kind: Kind, name: str, size: tuple[int, int], args: Mapping[str, Any] | None = None
) -> list[ClassRows]:
    """Find the layers with one row per class: those that grow by one row with one more class.

    Source: OpenVINO Training Extensions finds the rows of a head in the same way.

    Args:
        kind: The kind of task; detection networks name their rows themselves.
        name: The network's name.
        size: Height and width of the images, in pixels.
        args: Further arguments of the network.

    Raises:
        BadInput: If rows cannot be assigned to classes, as where a layer has several rows per
            class.
    """
    rows, unclear = _class_rows(kind, name, tuple(size), _frozen(args))
    if unclear or not rows:
        layers = f": {', '.join(unclear)} change with the classes" if unclear else ""
        raise BadInput(f"net {name!r}: cannot tell which of its rows belong to which class{layers}")
    return list(rows)


def find_class_layers(
    kind: Kind, name: str, size: tuple[int, int], args: Mapping[str, Any] | None = None
) -> list[str]:
    """Find the layers whose width changes with the number of classes, whatever their rows mean.

    Args:
        kind: The kind of task.
        name: The network's name.
        size: Height and width of the images, in pixels.
        args: Further arguments of the network.

    Raises:
        BadInput: If no layer changes, or a parameter outside of a known layer does.
    """
    rows, unclear = _class_rows(kind, name, tuple(size), _frozen(args))
    bare = [entry for entry in unclear if entry.endswith(BARE)]
    if bare or not (rows or unclear):
        raise BadInput(
            f"net {name!r}: cannot tell which layers give its outputs, since "
            + (f"{bare[0]} changes" if bare else "none changes")
            + " with the number of classes; make the scores by a layer, such as nn.Linear"
        )
    return [*(entry.layer for entry in rows), *unclear]


def _frozen(args: Mapping[str, Any] | None) -> str:
    return json.dumps(dict(args or {}), sort_keys=True)


@lru_cache(maxsize=64)
def _class_rows(
    kind: Kind, name: str, size: tuple[int, int], args: str
) -> tuple[tuple[ClassRows, ...], tuple[str, ...]]:
    """Find the layers with one row per class, and those that change in another way."""
    with torch.device("meta"):
        few, more = (build_net(kind, name, count, size, json.loads(args)) for count in (5, 6))
    shapes = {key: value.shape for key, value in more.named_parameters()}
    layers = [
        key.removesuffix(".weight")
        for key, value in few.named_parameters()
        if key.endswith(".weight") and value.shape[0] + 1 == shapes[key][0]
    ]
    changed = [key for key, value in few.named_parameters() if value.shape != shapes[key]]
    owners = [key.rpartition(".") for key in changed]
    bare = [owner + dot + key + BARE for owner, dot, key in owners if key not in ("weight", "bias")]
    unclear = dict.fromkeys([*(owner for owner, _, _ in owners), *bare])
    unclear = {layer: None for layer in unclear if layer and layer not in layers}
    return tuple(ClassRows(layer) for layer in layers), tuple(unclear)
