"""Safe reader of files written by `torch.save`: plain data and dense tensors only.

Such a file is an archive of one pickle and the bytes of each tensor. An untrusted one may hold
code, or be small and expand to all memory: compressed or overlapping records, tensors that share
the same bytes many times, nested lists that are one list. So the directory of the archive is
checked before it is read, the names in the pickle before it is run, and every value before it is
returned. The memory used is in proportion to the size of the file.
"""

import io
import pickletools
import re
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.files import is_there, open_regular

MAX_RECORDS = 100_000
MAX_PICKLE = 32 * 2**20  # bytes
MAX_VALUES = 2_000_000  # plain values and tensors, counted at every occurrence
MAX_DEPTH = 64
MAX_INT = 2**64
# How often the tensors may cover all bytes of a file together: layers can share weights.
MAX_SHARING = 16
# The names in a pickle of plain data and dense tensors; all others are refused.
KNOWN = re.compile(
    r"collections OrderedDict"
    r"|torch\._utils _rebuild_(tensor_v2|tensor_v3|parameter)"
    r"|torch \w+Storage|torch\.storage UntypedStorage|torch (Size|device)"
    r"|torch (bool|u?int\d+|float\d\w*|bfloat16|complex\d+)"
    r"|_codecs encode|(__builtin__|builtins) (set|complex)"
)
PLAIN = (type(None), bool, float, str, bytes, complex, torch.dtype, torch.device)
CONFIGS = (".yaml", ".yml", ".json")
CODE = "it holds pickled code or is no checkpoint"


def read_torch(path: Path) -> Any:
    """Read a file that `torch.save` wrote, on the CPU, if it is plain data and dense tensors.

    Args:
        path: The file.

    Returns:
        Numbers, texts, tensors, and dicts, lists, tuples and sets of these.

    Raises:
        BadInput: If it is no such file, or would need memory out of proportion to its size.
    """
    if not is_there(path):  # a folder, a pipe or a device neither
        raise BadInput(f"{path}: no such file")
    try:
        with open_regular(path) as file:
            begin = file.read(4)
            if begin[:1] == b"\x80":
                raise BadInput(
                    f"{path}: refused, {CODE}; a file in torch's format of before 1.6 can be used "
                    "once it is saved anew"
                )
            content, size = _content(file, path), path.stat().st_size
        values = torch.load(content, weights_only=True, map_location="cpu")
    except BadInput:
        raise
    # An arbitrary file makes the readers raise arbitrary errors.
    except Exception as error:
        if path.suffix in CONFIGS:
            raise BadInput(
                f"{path}: a config where a checkpoint belongs; give the .ckpt file"
            ) from error
        raise BadInput(f"{path}: truncated or damaged, or none that torch.save wrote") from error
    _Check(path, size).values(values)
    return values


def _content(file: Any, path: Path) -> io.BytesIO:
    """Check an archive, and copy its records to a new one, so that torch reads what was checked."""
    content = io.BytesIO()
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        _refuse_records(infos, path)
        with zipfile.ZipFile(content, "w") as made:
            for info in infos:
                record = archive.read(info)
                if info.filename.endswith("/data.pkl"):
                    _refuse_names(record, path)
                made.writestr(zipfile.ZipInfo(info.filename), record)
    content.seek(0)
    return content


def _refuse_records(infos: list[zipfile.ZipInfo], path: Path) -> None:
    """Refuse an archive whose directory is not like one that torch writes."""
    if len(infos) > MAX_RECORDS:
        raise BadInput(f"{path}: refused, it has {len(infos):,} records, above {MAX_RECORDS:,}")
    names = [info.filename for info in infos]
    if len({*names}) < len(names):
        raise BadInput(f"{path}: refused, two of its records have one name")
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise BadInput(f"{path}: refused, a TorchScript archive holds code; save its state_dict()")
    for info in infos:
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise BadInput(f"{path}: refused, its records are compressed, which torch never does")
        if info.filename.endswith(".pkl") and info.file_size > MAX_PICKLE:
            raise BadInput(f"{path}: refused, {info.file_size:,} bytes of it are a pickle")
    if sum(info.file_size for info in infos) > path.stat().st_size:
        raise BadInput(f"{path}: refused, its records lie over each other")


def _refuse_names(pickled: bytes, path: Path) -> None:
    """Refuse a pickle with names other than those of plain data and dense tensors."""
    for operation, argument, _ in pickletools.genops(pickled):
        if operation.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"):
            raise BadInput(f"{path}: refused, {CODE}")
        if operation.name == "GLOBAL" and not KNOWN.fullmatch(str(argument)):
            name = str(argument).replace(" ", ".")
            is_tensor = name.startswith("torch._utils._rebuild_")
            reason = "one of its tensors is not a dense one" if is_tensor else CODE
            raise BadInput(f"{path}: refused, {reason} ({name})")


class _Check:
    """Checks every value of a file, and counts values and bytes against the limits.

    Args:
        path: The file.
        size: The size of the file, in bytes.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.num_values, self.left = path, 0, MAX_SHARING * size

    def values(self, value: Any, depth: int = 0) -> None:
        """Check a value and all values inside it."""
        self.num_values += 1
        if self.num_values > MAX_VALUES or depth > MAX_DEPTH:
            raise BadInput(
                f"{self.path}: refused, it has more than {MAX_VALUES:,} values, or more than "
                f"{MAX_DEPTH} in one another"
            )
        if isinstance(value, Tensor):
            self._tensor(value)
        elif type(value) in (dict, OrderedDict):
            for name, entry in value.items():
                self.values(name, depth + 1)
                self.values(entry, depth + 1)
        elif type(value) in (list, tuple, set, torch.Size):
            for entry in value:
                self.values(entry, depth + 1)
        elif type(value) is int:
            if abs(value) > MAX_INT:
                raise BadInput(f"{self.path}: refused, it holds a number of more than 64 bits")
        elif type(value) not in PLAIN:
            raise BadInput(f"{self.path}: refused, it holds a {type(value).__name__}")

    def _tensor(self, tensor: Tensor) -> None:
        is_dense = (
            type(tensor) in (Tensor, nn.Parameter)
            and tensor.layout == torch.strided
            and tensor.device.type == "cpu"
            and not (tensor.is_quantized or tensor.is_nested)
        )
        if not is_dense:
            raise BadInput(f"{self.path}: refused, one of its tensors is not a dense one")
        taken = tensor.numel() * tensor.element_size()
        if taken > tensor.untyped_storage().nbytes():
            raise BadInput(
                f"{self.path}: refused, a tensor of {taken:,} bytes is made of "
                f"{tensor.untyped_storage().nbytes():,}"
            )
        self.left -= taken
        if self.left < 0:
            raise BadInput(f"{self.path}: refused, its tensors show the same bytes again and again")


def is_state_dict(values: Any) -> bool:
    """Whether values are a state dict: a mapping from names to tensors."""
    return isinstance(values, Mapping) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in values.items()
    )


def is_plain(values: Any) -> bool:
    """Whether values are plain data as in JSON: numbers, texts, None, lists and dicts of these."""
    if isinstance(values, dict):
        return all(isinstance(name, str) and is_plain(value) for name, value in values.items())
    if isinstance(values, list | tuple):
        return all(map(is_plain, values))
    return values is None or isinstance(values, bool | int | float | str)
