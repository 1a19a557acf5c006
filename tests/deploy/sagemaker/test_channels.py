"""The files of a channel tell the format of its images."""

from collections.abc import Callable
from pathlib import Path

import pytest

from regrow.deploy.sagemaker.channels import find_source
from regrow.errors import BadInput

Channel = Callable[..., dict[str, Path]]


@pytest.mark.parametrize("file", ["train.rec", "train/train.rec"])
def test_records_are_refused_with_the_way_out(tmp_path: Path, channel: Channel, file: str) -> None:
    channel(tmp_path, "x", file)
    with pytest.raises(BadInput, match="train.rec is RecordIO, which regrow does not read; unpack"):
        find_source(tmp_path / "x")


@pytest.mark.parametrize(
    ("name", "file", "source"),
    [
        ("train_lst", "a.lst", "SageMakerList"),
        ("train_annotation", "a.json", "SageMakerBoxes"),
        ("train_annotation", "a/a.png", "SageMakerMasks"),
        ("train", "output.manifest", "ManifestFile"),
    ],
)
def test_channels_tell_the_format(
    tmp_path: Path, channel: Channel, name: str, file: str, source: str
) -> None:
    channel(tmp_path, name, file)
    assert find_source(tmp_path).rpartition(".")[2] == source
