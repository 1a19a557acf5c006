"""A model is found, loaded and warmed up before it is served."""

import asyncio
import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regrow.deploy.exporting import ExportApart
from regrow.deploy.serving import memory
from regrow.deploy.serving.opener import Opener
from regrow.deploy.serving.served_model import ServedModel
from regrow.deploy.session import Outputs
from regrow.errors import BadInput


def never(file: Path) -> Path:
    raise AssertionError(file)


def test_the_grey_range_that_is_asked_for_wins(graph: Path) -> None:
    model, _ = Opener(never, num_threads=1, grey_range=(5, 900)).open(graph)
    assert model.decoding.grey_range == (5, 900)


def test_without_data_beside_a_model_no_grey_range_is_made_up(graph: Path, tmp_path: Path) -> None:
    shutil.copy(graph, tmp_path / "model.onnx")
    opener = Opener(never, num_threads=1)
    assert opener.beside(tmp_path).decoding.grey_range is None


def test_a_promoted_model_is_opened_and_where_it_is_named_is_told(
    graph: Path, tmp_path: Path
) -> None:
    (tmp_path / "promoted.json").write_text("{}")
    asked: list[Path] = []

    def promoted(file: Path) -> Path:
        asked.append(file)
        return graph

    model, found = Opener(promoted, num_threads=1).open(tmp_path)
    assert asked == [tmp_path / "promoted.json"]
    assert (found.file, found.promoted) == (graph, tmp_path / "promoted.json")
    assert model.sha256 == hashlib.sha256(graph.read_bytes()).hexdigest()
    assert model.kind == "labels"


def test_an_archive_is_served_after_what_was_unpacked_is_gone(
    graph: Path, tmp_path: Path, pack: Callable[..., Path]
) -> None:
    content = graph.read_bytes()
    packed = pack(tmp_path / "model.tar.gz", {"run/model.onnx": content})
    model, found = Opener(never, num_threads=1).open(packed)
    assert not found.file.exists()
    assert model.sha256 == hashlib.sha256(content).hexdigest()
    (row,) = model.run(np.zeros((1, 3, *model.size), np.uint8))["probabilities"]
    assert row.sum() == pytest.approx(1, abs=1e-5)


def test_every_size_of_a_batch_is_run_once(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = ServedModel.run

    def run(self: ServedModel, images: np.ndarray, *names: Any) -> Outputs:
        sizes.append(len(images))
        return real(self, images, *names)

    monkeypatch.setattr(ServedModel, "run", run)
    Opener(never, max_batch=3, num_threads=1).beside(graph)
    assert sizes == [1, 2, 3]


def test_a_checkpoint_is_exported_apart_with_the_packages_that_are_allowed(
    graph: Path, tmp_path: Path
) -> None:
    calls: list[Any] = []

    class Apart(ExportApart):
        def export(self, checkpoint: Path, path: Path, *, allow: Sequence[str] = ()) -> Path:
            calls.append((checkpoint, allow))
            return Path(shutil.copy(graph, path))

    (tmp_path / "best.ckpt").write_bytes(b"a checkpoint")
    model = Opener(never, num_threads=1, allow=["timm"], apart=Apart()).beside(tmp_path)
    assert calls == [(tmp_path / "best.ckpt", ["timm"])]
    assert model.classes == ["a", "b"]
    assert model.sha256 == hashlib.sha256(b"a checkpoint").hexdigest()


def test_a_copy_of_the_graph_that_is_served_is_kept_where_one_is_asked_for(
    graph: Path, tmp_path: Path, pack: Callable[..., Path]
) -> None:
    content = graph.read_bytes()
    packed = pack(tmp_path / "model.tar.gz", {"run/model.onnx": content})
    Opener(never, num_threads=1).open(packed, keep=tmp_path / "kept.onnx")
    assert (tmp_path / "kept.onnx").read_bytes() == content

    class Apart(ExportApart):
        def export(self, checkpoint: Path, path: Path, *, allow: Sequence[str] = ()) -> Path:
            return Path(shutil.copy(graph, path))

    (tmp_path / "best.ckpt").write_bytes(b"a checkpoint")
    opener = Opener(never, num_threads=1, apart=Apart())
    opener.open(tmp_path / "best.ckpt", keep=tmp_path / "exported.onnx")
    assert (tmp_path / "exported.onnx").read_bytes() == content


def test_exports_are_stopped_when_the_server_ends() -> None:
    stopped: list[bool] = []

    class Apart(ExportApart):
        def stop(self) -> None:
            stopped.append(True)

    async def check() -> None:
        running = asyncio.create_task(Opener(never, apart=Apart()).run())
        await asyncio.sleep(0)
        assert not stopped
        assert not running.done()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(check())
    assert stopped == [True]


def test_a_model_beside_others_must_fit_into_the_free_memory(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(graph, tmp_path / "model.onnx")
    monkeypatch.setattr(memory, "available", lambda root: 1000)
    opener = Opener(never, num_threads=1)
    with pytest.raises(MemoryError, match=r"model.onnx takes about .* MiB, and 0 MiB are free"):
        opener.beside(tmp_path)
    assert opener.open(tmp_path)[0].kind == "labels"  # the only one is tried


def test_a_path_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no model in it, it holds nothing; give a run folder"):
        Opener(never).open(tmp_path)
