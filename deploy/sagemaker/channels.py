"""The format of the images in the folders of a job's channels."""

from pathlib import Path

from regrow.data.detect import first_format
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
