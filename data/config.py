"""The data of a run as its folder keeps it: written beside its checkpoints, and read again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from regrow.cli import Choices
from regrow.data.described import SOURCES, ForeignName, build_data
from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.files import read_yaml, write_atomic

DATA_FILE = "data.yaml"


DATA_CHOICES: Choices = {
    "data": [GrowingData],
    "data.source": list(SOURCES),
}


def data_beside(checkpoint: Path) -> GrowingData:
    """Return the data that a run was made with, from the `data.yaml` beside its checkpoint.

    The file is read without being named, so it may be a stranger's: it names nothing but regrow's
    own sources and known transforms with plain arguments. Its folder of images may be anywhere.

    Raises:
        ForeignName: If it names other classes.
        BadInput: If there is no such file, or no checkpoint.
    """
    if not checkpoint.is_file():
        raise BadInput(f"{checkpoint}: no such checkpoint; give the path of a .ckpt file")
    file = checkpoint.parent / DATA_FILE
    if not file.is_file():
        raise BadInput(f"{file}: not there, so name the data with --config or --data")

    content = read_yaml(file)
    if not isinstance(content, dict) or content.keys() != {"data"}:
        raise BadInput(f"{file}: holds something else than data; name the data with --config")
    try:
        return build_data(content["data"])
    except ForeignName as error:
        raise ForeignName(f"{file}: {error}") from error
    except BadInput as error:
        raise BadInput(f"{file}: {error}") from error


def write_data_file(run: Path, settings: Mapping[str, Any]) -> None:
    """Leave the settings of the data in a run's folder, for the commands that come after."""
    text = yaml.safe_dump({"data": settings["data"]}, sort_keys=False)
    write_atomic(run / DATA_FILE, lambda file: file.write(text.encode()))
