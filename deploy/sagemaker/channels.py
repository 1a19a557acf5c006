"""The format of the images in the folders of a job's channels."""

from pathlib import Path
from typing import Any

from regrow.data.detect import arguments_of, first_format
from regrow.errors import BadInput

RECORDS = ("*.rec", "*/*.rec")


def find_source(root: Path) -> str:
    """Return the class path of the source that reads a folder.

    Raises:
        BadInput: If the images are in RecordIO.
    """
    records = next((file for pattern in RECORDS for file in root.glob(pattern)), None)
    if records is not None:
        raise BadInput(
            f"channel {records.parent.name}: {records.name} is RecordIO, which regrow does not "
            "read; unpack it with mxnet.recordio.MXRecordIO and unpack_img into images, with "
            "train_lst, train_annotation or a manifest beside them; docs/data.md lists the formats"
        )
    return first_format(root).class_path


def source_options(root: Path) -> dict[str, Any]:
    """Return the options that name the source which reads a folder, and its arguments.

    Raises:
        BadInput: If the images are in RecordIO.
    """
    arguments = arguments_of(first_format(root))
    own = {f"data.source.{name}": value for name, value in arguments.items()}
    return {"data.source": find_source(root), **own}
