"""The settings of a run in its folder: written beside its checkpoints, and read again."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

import yaml

from regrow.data.described import SOURCES, ForeignName, build_data
from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.files import read_yaml, write_atomic
from regrow.parser import Choices

DATA_FILE, CONFIG_FILE = "data.yaml", "config.yaml"


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
    if checkpoint.is_dir():
        raise BadInput(f"{checkpoint}: a folder; give a checkpoint in it, such as best.ckpt")
    if not checkpoint.is_file():
        raise BadInput(f"{checkpoint}: no such checkpoint; give the path of a .ckpt file")
    if checkpoint.suffix in (".yaml", ".yml"):
        raise BadInput(
            f"{checkpoint}: a config where a checkpoint belongs; give the .ckpt file, and the "
            "config with --config"
        )
    file = checkpoint.parent / DATA_FILE
    if not file.is_file():
        raise BadInput(
            f"{file}: not there, so name the data with --config or --data; the data.yaml of the "
            "training can be given to --config"
        )

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
    """Write the settings of a run into its folder, for later commands and for `--config`.

    `data.yaml` has those of the data alone, `config.yaml` all of them, defaults too.

    Args:
        run: The run's folder.
        settings: The settings, as plain data.
    """
    own = {name: value for name, value in settings.items() if name != "resume"}
    for name, part in ((DATA_FILE, {"data": settings["data"]}), (CONFIG_FILE, own)):
        text = yaml.safe_dump(part, sort_keys=False).encode()
        write_atomic(run / name, partial(_put, text=text))


def _put(file: IO[bytes], text: bytes) -> None:
    file.write(text)
