"""Networks of Hugging Face's `transformers` from a local config: an extra, `regrow[hf]`.

A name is `hf/` and a folder with a `config.json`, or that file. Nothing is downloaded, and no code
of a folder is run.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from regrow.data.targets.labels import Kind
from regrow.errors import BadInput
from regrow.files import read_json

HUGGING_FACE = "hf/"
AUTO_CLASSES: dict[Kind, str] = {
    "labels": "AutoModelForImageClassification",
    "masks": "AutoModelForSemanticSegmentation",
}
MAX_CONFIG = 1_000_000  # bytes
# What says where a config is from, names its classes, or would load code or weights.
LEFT_OUT = {
    "_name_or_path",
    "architectures",
    "attn_implementation",
    "_attn_implementation",
    "auto_map",
    "dtype",
    "id2label",
    "label2id",
    "num_labels",
    "quantization_config",
    "torch_dtype",
    "transformers_version",
    "use_pretrained_backbone",
}


class PlainOutputs(nn.Module):
    """A network of `transformers` that gives its logits alone, those of pixels in the images' size.

    Args:
        model: The network, which takes `pixel_values` and gives a `ModelOutput`.
        kind: The kind of task: `labels` or `masks`.
    """

    def __init__(self, model: nn.Module, kind: Kind) -> None:
        super().__init__()
        self.model = model
        self.is_dense = kind == "masks"

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits, (b, c) or (b, c, h, w)."""
        logits: Tensor = self.model(pixel_values=images, return_dict=True).logits
        if not self.is_dense:
            return logits
        return functional.interpolate(
            logits, size=images.shape[2:], mode="bilinear", align_corners=False
        )


def with_config(name: str, args: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the arguments of a network, with the config that its name points to.

    So a checkpoint holds the config, and needs no folder.

    Args:
        name: The network's name; without `hf/` its arguments stay as they are.
        args: The arguments; those beside `config` take the place of entries of the config.

    Raises:
        BadInput: If there is no config, or it names no type of model.
    """
    args = dict(args or {})
    if not name.startswith(HUGGING_FACE) or "config" in args:
        return args
    path = Path(name.removeprefix(HUGGING_FACE))
    path = path / "config.json" if path.is_dir() else path
    config = read_json(path, MAX_CONFIG)
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise BadInput(f"{path}: no config of transformers; it must have a `model_type`")
    return {"config": _plain(config) | args}


def build_hugging_face(
    kind: Kind, name: str, num_classes: int, args: Mapping[str, Any], pretrained: bool
) -> nn.Module:
    """Build a network of `transformers` from a config.

    Args:
        kind: The kind of task: `labels` or `masks`.
        name: `hf/` and the folder of the config.
        num_classes: Number of classes.
        args: `config`, as `with_config` returns it.
        pretrained: Whether to load the weights in the folder, in its `model.safetensors`; a head
            with another number of classes stays fresh.

    Raises:
        BadInput: If `transformers` is not installed, or has no such network.
    """
    if kind not in AUTO_CLASSES:
        raise BadInput(f"net {name!r}: `hf/` has networks for {', '.join(AUTO_CLASSES)} alone")
    try:
        library: Any = import_module("transformers")
    except ImportError as error:
        raise BadInput(
            f"net {name!r} needs transformers, which is not installed; pip install 'regrow[hf]'"
        ) from error
    given = with_config(name, args)["config"]
    auto = getattr(library, AUTO_CLASSES[kind])
    config = library.AutoConfig.for_model(**_plain(given), num_labels=num_classes)
    if not pretrained:
        return PlainOutputs(auto.from_config(config, trust_remote_code=False).float(), kind)
    folder = Path(name.removeprefix(HUGGING_FACE))
    model = auto.from_pretrained(
        folder if folder.is_dir() else folder.parent,
        config=config,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    )
    return PlainOutputs(model.train(), kind)


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without what is left out, in the configs in it too."""
    return {
        key: _plain(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key not in LEFT_OUT
    }
