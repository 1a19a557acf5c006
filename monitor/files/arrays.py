"""Arrays in a file of NumPy's, which is read only where its hash is the one that was noted."""

import io
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np

from regrow.errors import BadInput
from regrow.files import LARGE, read_bytes, write_atomic
from regrow.plain import MISSHAPEN

AGAIN = "make the baseline again"  # the way out of any file of a baseline that cannot be read


def write_arrays(file: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Write arrays, and return the hash of the file.

    Args:
        file: The file.
        arrays: The arrays by name.
    """
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    write_atomic(file, lambda opened: opened.write(content.getvalue()))
    return sha256(content.getvalue()).hexdigest()


def read_arrays(file: Path, wanted: str) -> dict[str, np.ndarray]:
    """Read the arrays of a baseline by name.

    Args:
        file: The file.
        wanted: The hash that it was written with.

    Raises:
        BadInput: If it is not there, damaged, too large, or another file.
    """
    try:
        content = read_bytes(file, LARGE)
    except BadInput as error:
        raise BadInput(f"{error}; {AGAIN}") from error
    if sha256(content).hexdigest() != wanted:
        raise BadInput(f"{file}: is not that of this baseline; {AGAIN}")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > LARGE:
                raise ValueError("too large")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, zipfile.BadZipFile, *MISSHAPEN) as error:
        raise BadInput(f"{file}: damaged; {AGAIN}") from error
