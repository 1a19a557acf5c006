"""The networks and arguments that a checkpoint, as untrusted input, may name."""

from collections.abc import Mapping, Sequence
from typing import Any

from regrow.data.targets.labels import Kind
from regrow.errors import BadInput
from regrow.models.nets.build import list_nets
from regrow.models.nets.hugging_face import HUGGING_FACE

# Arguments by which a library would download or read a file.
REFUSED_ARGS = {
    "weights",
    "weights_backbone",
    "pretrained",
    "pretrained_backbone",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "pretrained_strict",
    "checkpoint_path",
    "cache_dir",
    "url",
    "file",
    "hf_hub_id",
}
# Limits of the arguments in a checkpoint: of a number, of their count, of the length of a text.
MAX_NUMBER, MAX_VALUES, MAX_LENGTH = 10**5, 1000, 1000


def check_name(kind: Kind, name: Any, args: Mapping[str, Any], allow: Sequence[str] = ()) -> None:
    """Refuse a network name or arguments that a checkpoint, as untrusted input, may not use.

    Args:
        kind: The kind of task.
        name: The name in the file.
        args: The arguments in the file.
        allow: Other top-level packages that the user has allowed.

    Raises:
        BadInput: If the name is in none of the lists, or an argument is not plain data, out of
            bounds, or would load something.
    """
    if not isinstance(name, str):
        raise BadInput(f"its network's name is a {type(name).__name__}")
    if name not in list_nets(kind):
        package = package_of(name)
        is_imported = name.startswith(HUGGING_FACE) or ("/" not in name and "." in name)
        if not is_imported or package not in allow:
            raise BadInput(
                f"names the network {name!r}, which is none of regrow's, torchvision's or timm's; "
                f"if you trust the file, allow its package: --allow '[{package}]'"
            )
    _refuse_args(args)


def package_of(name: str) -> str:
    """Return the package that a network named by an import path, or by `hf/`, is imported from."""
    return "transformers" if name.startswith(HUGGING_FACE) else name.split(".")[0]


def _refuse_args(value: Any, key: str = "net_args", depth: int = 0) -> int:
    """Refuse arguments that load something or are out of bounds; returns the number of values."""
    if depth > 8:
        raise BadInput(f"its network's argument {key!r} is nested too deeply")
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str) or name in REFUSED_ARGS:
                raise BadInput(f"its network has the argument {name!r}, which a file may not give")
        entries = list(value.items())
    elif isinstance(value, list | tuple):
        entries = [(key, entry) for entry in value]
    else:
        _refuse_argument(value, key)
        return 1
    count = 1
    for name, entry in entries:
        count += _refuse_args(entry, name, depth + 1)
        if count > MAX_VALUES:
            raise BadInput(f"its network has more than {MAX_VALUES} arguments")
    return count


def _refuse_argument(value: Any, key: str) -> None:
    if not (value is None or isinstance(value, bool | int | float | str)):
        raise BadInput(f"its network's argument {key!r} is a {type(value).__name__}")
    if isinstance(value, int) and abs(value) > MAX_NUMBER:
        raise BadInput(f"its network's argument {key!r} is {value}, above {MAX_NUMBER:,}")
    if isinstance(value, str) and len(value) > MAX_LENGTH:
        raise BadInput(f"its network's argument {key!r} has {len(value):,} letters")
    if isinstance(value, str) and ("://" in value or "hub:" in value or "hub/" in value):
        raise BadInput(f"its network's argument {key!r} is an address, {value!r}")
