"""Small networks, a few images, and a way to break a graph."""

import io
import shutil
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor

from regrow.models.classification import Classification
from regrow.models.onnx.graph import export_graph

Break = Callable[[Path, str, Callable[[np.ndarray], np.ndarray]], Path]


def classifier() -> Classification:
    """Return a classifier of two classes, whose outputs differ from image to image."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        task = Classification(["a", "b"], (32, 32), net_args={"width": 4})
        with torch.no_grad():
            task.net.head.weight.mul_(20)
        return task.eval()


@pytest.fixture
def task() -> Classification:
    return classifier()


@pytest.fixture(scope="session")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the classifier's ONNX file, of which a test takes a copy."""
    return export_graph(classifier(), tmp_path_factory.mktemp("graph") / "model.onnx")


@pytest.fixture(scope="session")
def loader() -> list[tuple[Tensor, Tensor]]:
    """Return nine images in batches of four, with labels."""
    made = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (9, 3, 32, 32), generator=made, dtype=torch.uint8)
    images = images // torch.arange(1, 10)[:, None, None, None]
    labels = torch.arange(9) % 2
    return list(zip(images.to(torch.uint8).split(4), labels.split(4), strict=True))


@pytest.fixture(scope="session")
def break_() -> Break:
    """Return a function that changes one weight of an ONNX file, in place."""

    def change(path: Path, name: str, by: Callable[[np.ndarray], np.ndarray]) -> Path:
        model = onnx.load(path)
        (weight,) = [w for w in model.graph.initializer if w.name.endswith(name)]
        changed = by(numpy_helper.to_array(weight).copy())
        weight.CopyFrom(numpy_helper.from_array(changed, weight.name))
        onnx.save(model, path)
        return path

    return change


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty `/opt/ml`, which the environment names."""
    folder = tmp_path / "ml"
    (folder / "input" / "config").mkdir(parents=True)
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(folder))
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    return folder


@pytest.fixture
def path(graph: Path, tmp_path: Path) -> Path:
    """Return a copy of the classifier's ONNX file."""
    return Path(shutil.copyfile(graph, tmp_path / "model.onnx"))


@pytest.fixture(scope="session")
def pack() -> Callable[..., Path]:
    """Return a writer of archives: contents or ready members by name."""

    def write(path: Path, members: Mapping[str, bytes | tarfile.TarInfo]) -> Path:
        with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as packed:
            for member, content in members.items():
                if isinstance(content, tarfile.TarInfo):
                    packed.addfile(content)
                    continue
                entry = tarfile.TarInfo(member)
                entry.size = len(content)
                packed.addfile(entry, io.BytesIO(content))
        return path

    return write
