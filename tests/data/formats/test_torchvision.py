"""Data sets of torchvision."""

import gzip
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layouts import picture, rows
from regrow.data.formats import Torchvision
from regrow.data.images.decoding import decode
from regrow.errors import BadInput


def idx(path: Path, values: np.ndarray) -> None:
    """Write the format of http://yann.lecun.com/exdb/mnist: 0, 0, type 8, dimensions, sizes."""
    head = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    with gzip.open(f"{path}.gz", "wb") as file:
        file.write(head + values.tobytes())
    with gzip.open(f"{path}.gz") as file, path.open("wb") as unpacked:
        shutil.copyfileobj(file, unpacked)


def test_torchvision_reads_fashion_mnist(tmp_path: Path) -> None:
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    labels = np.array([9, 0, 2, 0, 1], np.uint8)
    idx(raw / "train-images-idx3-ubyte", images[:3])
    idx(raw / "train-labels-idx1-ubyte", labels[:3])
    idx(raw / "t10k-images-idx3-ubyte", images[3:])
    idx(raw / "t10k-labels-idx1-ubyte", labels[3:])
    content = Torchvision("torchvision.datasets.FashionMNIST").read(tmp_path)
    assert len(content.classes) == 10
    assert rows(content) == [
        ("train/0", "Ankle boot", "train"),
        ("train/1", "T-shirt/top", "train"),
        ("train/2", "Pullover", "train"),
        ("test/0", "T-shirt/top", "test"),
        ("test/1", "Trouser", "test"),
    ]
    for item, expected in zip(content.items, images, strict=True):
        assert item.image.shape == (28, 28, 3)
        assert (item.image == expected[..., None]).all()


def test_torchvision_reads_a_set_without_splits(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    for number, name in enumerate(("Forest", "River", "River")):
        folder = tmp_path / "eurosat" / "2750" / name
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels + np.uint8(number)).save(folder / f"{number}.png")
    found = Torchvision("torchvision.datasets.EuroSAT").read(tmp_path)
    assert found.classes == ["Forest", "River"]
    assert rows(found) == [
        ("all/0", "Forest", None),
        ("all/1", "River", None),
        ("all/2", "River", None),
    ]
    for number, item in enumerate(found.items):
        assert np.array_equal(decode(item.image), pixels + np.uint8(number))
        assert np.array_equal(decode(pickle.loads(pickle.dumps(item)).image), decode(item.image))


def test_torchvision_reads_splits_by_their_names(tmp_path: Path) -> None:
    for name in ("train/AD", "train/AE", "valid/AD", "test/AE"):
        picture(tmp_path / "country211" / name / "a.png")
    found = Torchvision("torchvision.datasets.Country211").read(tmp_path)
    assert sorted(rows(found)) == [
        ("test/0", "AE", "test"),
        ("train/0", "AD", "train"),
        ("train/1", "AE", "train"),
        ("val/0", "AD", "val"),
    ]


@pytest.mark.slow
def test_torchvision_reads_cifar10(cifar10_root: Path) -> None:
    content = Torchvision("torchvision.datasets.CIFAR10").read(cifar10_root)
    assert [sum(item.split == split for item in content.items) for split in ("train", "test")] == [
        50_000,
        10_000,
    ]
    assert content.items[0].target == "frog"
    assert content.items[0].image.shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision.datasets.Nothing", "torchvision.datasets has no 'torchvision.datasets.Noth"),
        ("os.system", "torchvision.datasets has no 'os.system'"),
        ("FashionMNIST", "torchvision.datasets has no 'FashionMNIST'"),
        ("torchvision.datasets.FashionMNIST", "FashionMNIST cannot be read: Dataset not found"),
        ("torchvision.datasets.CIFAR10", "CIFAR10 cannot be read: Dataset not found"),
        ("torchvision.datasets.FakeData", "FakeData cannot be read: it reads no folder"),
        ("torchvision.datasets.utils", "utils cannot be read: .*is not a callable"),
    ],
)
def test_torchvision_names_what_cannot_be_read(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as found:
        Torchvision(name).read(tmp_path)
    assert "\n" not in str(found.value)
