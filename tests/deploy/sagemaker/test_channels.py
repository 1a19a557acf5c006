"""The format of the images in a job's channels."""

import json
from pathlib import Path

import pytest
from PIL import Image

from regrow.deploy.sagemaker.channels import find_source, source_options
from regrow.errors import BadInput


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("files", "source"),
    [
        (["a.csv", "Annotations/a.xml"], "formats.ManifestFile"),
        (["train/a.jsonl"], "formats.ManifestFile"),
        (["annotations/a.json", "classes.json"], "formats.Coco"),
        (["Annotations/a.xml", "classes.json"], "formats.Voc"),
        (["classes.json"], "formats.Masks"),
        (["train/ant/a.txt"], "formats.ImageFolder"),
        ([], "formats.ImageFolder"),
        (["train_lst/a/a.lst", "train_annotation/a.png"], "sagemaker.SageMakerList"),
        (["train_annotation/a.png", "train_annotation/a.json"], "sagemaker.SageMakerMasks"),
        (["train_annotation/a/a.json", "a.csv"], "sagemaker.SageMakerBoxes"),
    ],
)
def test_the_first_of_the_known_formats_is_taken(
    tmp_path: Path, files: list[str], source: str
) -> None:
    for file in files:
        write(tmp_path / file)
    assert find_source(tmp_path) == f"regrow.data.{source}"
    assert source_options(tmp_path)["data.source"] == f"regrow.data.{source}"


def test_where_images_lie_is_told_too(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "train" / "a.png")
    content = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [], "categories": []}
    write(tmp_path / "train" / "_annotations.coco.json", json.dumps(content))
    assert source_options(tmp_path) == {
        "data.source": "regrow.data.formats.Coco",
        "data.source.images": "{split}",
        "data.source.annotations": "{split}/_annotations.coco.json",
    }


def test_records_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "train" / "a.rec")
    with pytest.raises(BadInput, match=r"channel train: a\.rec is RecordIO, which regrow does not"):
        source_options(tmp_path)
