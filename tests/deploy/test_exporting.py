"""An ONNX file gets its name only where it agrees with its network."""

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from torch import Tensor

from regrow.deploy import exporting
from regrow.deploy.exporting import ExportApart, export, export_verified
from regrow.deploy.runtime import OnnxModel
from regrow.errors import BadInput
from regrow.models.checkpoint import save
from regrow.models.classification import Classification

Loader = list[tuple[Tensor, Tensor]]
Break = Callable[[Path, str, Callable[[np.ndarray], np.ndarray]], Path]


@pytest.fixture
def broken(graph: Path, break_: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the exporter get one weight wrong."""

    def by_one(weight: np.ndarray) -> np.ndarray:
        weight[0, 0] += 1
        return weight

    def wrong(task: Classification, path: Path, **options: Any) -> Path:
        return break_(Path(shutil.copyfile(graph, path)), "head.weight", by_one)

    monkeypatch.setattr(exporting, "export_graph", wrong)


def test_a_folder_gets_the_file_and_a_file_its_name(task: Classification, tmp_path: Path) -> None:
    task.net.stem.train()
    modes = [module.training for module in task.modules()]
    assert export(task, tmp_path / "new") == tmp_path / "new" / "model.onnx"
    assert [module.training for module in task.modules()] == modes
    assert export(task, tmp_path / "mine.onnx", opset=20) == tmp_path / "mine.onnx"
    for name, opset in (("new/model.onnx", 18), ("mine.onnx", 20)):
        model = onnx.load(tmp_path / name)
        onnx.checker.check_model(model, full_check=True)
        assert [entry.version for entry in model.opset_import if entry.domain == ""] == [opset]
        assert OnnxModel(tmp_path / name).classes == ["a", "b"]


def test_what_agrees_gets_its_name(task: Classification, tmp_path: Path, loader: Loader) -> None:
    parity = export_verified(task.train(), tmp_path, loader, max_images=5)
    assert parity.is_equal
    assert parity.num_images == 5
    assert parity.path == tmp_path / "model.onnx"
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert task.training


@pytest.mark.usefixtures("broken")
def test_what_does_not_agree_gets_no_name(
    task: Classification, tmp_path: Path, loader: Loader
) -> None:
    parity = export_verified(task, tmp_path, loader)
    assert not parity.is_equal
    assert "probabilities differs by" in parity.reason
    assert parity.path == tmp_path / "model.unverified.onnx"
    assert list(tmp_path.iterdir()) == [parity.path]


@pytest.mark.usefixtures("broken")
def test_the_limits_decide(task: Classification, tmp_path: Path, loader: Loader) -> None:
    parity = export_verified(task, tmp_path, loader, tolerance=1.0, max_score_change=1.0)
    assert parity.is_equal
    assert parity.path.name == "model.onnx"


@pytest.mark.usefixtures("broken")
def test_without_images_nothing_gets_a_name(task: Classification, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no held-out images"):
        export_verified(task, tmp_path, [])
    assert not (tmp_path / "model.onnx").exists()


def test_a_checkpoint_is_exported_in_a_process_of_its_own(
    task: Classification, tmp_path: Path
) -> None:
    save(tmp_path / "a.ckpt", task)
    apart = ExportApart()
    file = apart.export(tmp_path / "a.ckpt", tmp_path / "model.onnx")
    export(task, tmp_path / "here.onnx")
    assert file.read_bytes() == (tmp_path / "here.onnx").read_bytes()
    (tmp_path / "b.ckpt").write_bytes(b"nothing")
    with pytest.raises(BadInput, match=r"b\.ckpt"):
        apart.export(tmp_path / "b.ckpt", tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()


def test_an_export_apart_can_be_stopped(task: Classification, tmp_path: Path) -> None:
    save(tmp_path / "a.ckpt", task)
    apart = ExportApart()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(apart.export, tmp_path / "a.ckpt", tmp_path / "model.onnx")
        while not asked.done():
            apart.stop()
            time.sleep(0.01)
        with pytest.raises(BadInput, match=r"a\.ckpt: its export was stopped"):
            asked.result()
    assert not (tmp_path / "model.onnx").exists()
