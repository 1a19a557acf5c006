"""What all tests share: where real data is, data made in a moment, a cache, and one thread."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from regrow.data.formats import Content, Source
from regrow.data.module import GrowingData
from regrow.data.snapshot import Item
from regrow.models.checkpoint import net_state, read

ROOT = Path(__file__).parents[1]


def real_data() -> Path:
    """Give the folder with the real sets, whether it exists or not."""
    return Path(os.environ.get("REGROW_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture
def data_root() -> Path:
    """Give the folder with the real sets, or skip."""
    folder = real_data()
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set REGROW_DATA")
    return folder


@pytest.fixture(scope="session")
def cifar10_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder that torchvision reads CIFAR-10 from, unpacked if need be, or skip."""
    folder = real_data() / "cifar10"
    if (folder / "cifar-10-batches-py").is_dir():
        return folder
    if not (folder / "unpack.py").is_file():
        pytest.skip(f"no CIFAR-10 at {folder}; set REGROW_DATA")
    root = tmp_path_factory.mktemp("cifar10")
    subprocess.run([sys.executable, str(folder / "unpack.py"), str(root)], check=True)
    return root


class Noise(Source):
    """Images of noise, whose labels nothing can generalise."""

    def read(self, root: Path | None) -> Content:
        random = np.random.default_rng(0)
        items = []
        for split, count in (("train", 24), ("val", 8), ("test", 8)):
            for number in range(count):
                pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                items.append(Item(f"{split}{number}", pixels, "ab"[number % 2], split))
        return Content("labels", ["a", "b"], items)


@pytest.fixture
def data() -> GrowingData:
    data = GrowingData(Noise(), size=(16, 16), batch_size=8)
    data.order_classes(data.classes)
    return data


@pytest.fixture
def assert_equal_weights() -> Callable[[Path, Path], None]:
    """Give what compares the weights of two checkpoints, bit for bit."""

    def compare(one: Path, other: Path) -> None:
        first, second = net_state(read(one)), net_state(read(other))
        assert first.keys() == second.keys()
        assert all(torch.equal(value, second[name]) for name, value in first.items())

    return compare


@pytest.fixture(scope="session")
def _fingerprints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fingerprints")


@pytest.fixture(autouse=True)
def _no_cache_of_the_user(monkeypatch: pytest.MonkeyPatch, _fingerprints: Path) -> None:
    monkeypatch.setenv("REGROW_CACHE", str(_fingerprints))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # small nets: several would wait for each other


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip GPU tests where there is no GPU."""
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
