"""What the folders of a job's channels hold: the format of the images, told by their files."""

from pathlib import Path

from regrow.errors import BadInput

# What a folder of data is known by, in the order in which it is tried.
SOURCES = (
    ("train_lst/**/*.lst", "regrow.data.sagemaker.SageMakerList"),
    ("train_annotation/**/*.png", "regrow.data.sagemaker.SageMakerMasks"),
    ("train_annotation/**/*.json", "regrow.data.sagemaker.SageMakerBoxes"),
    ("*.csv", "regrow.data.formats.ManifestFile"),
    ("*.jsonl", "regrow.data.formats.ManifestFile"),
    ("*.manifest", "regrow.data.formats.ManifestFile"),
    ("*/*.csv", "regrow.data.formats.ManifestFile"),
    ("*/*.jsonl", "regrow.data.formats.ManifestFile"),
    ("*/*.manifest", "regrow.data.formats.ManifestFile"),
    ("annotations/*.json", "regrow.data.formats.Coco"),
    ("Annotations/*.xml", "regrow.data.formats.Voc"),
    ("classes.json", "regrow.data.formats.Masks"),
    ("*", "regrow.data.formats.ImageFolder"),
)
RECORDS = ("*.rec", "*/*.rec")


def find_source(root: Path) -> str:
    """Give the class path of the source that reads a folder.

    Raises:
        BadInput: If the images are in RecordIO.
    """
    records = next((file for pattern in RECORDS for file in root.glob(pattern)), None)
    if records is not None:
        raise BadInput(
            f"channel {records.parent.name}: {records.name} is RecordIO, which regrow does not "
            "read; unpack it with mxnet.recordio.MXRecordIO and unpack_img into images, with "
            "train_lst, train_annotation or a manifest beside them, as the README lists formats"
        )
    return next(name for pattern, name in SOURCES if pattern == "*" or any(root.glob(pattern)))
