"""A model is served only if it can be run as its metadata promise; its name is its hash."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from regrow.deploy.serving.opener import Opener
from regrow.deploy.serving.served_model import ServedModel
from regrow.errors import BadInput
from regrow.models.checkpoint import save
from regrow.models.onnx.graph import export_graph
from regrow.models.onnx.quantization import quantized
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task


def never(file: Path) -> Path:
    raise AssertionError(file)


def changed(file: Path, folder: Path, **entries: Any) -> Path:
    """Return a copy of an ONNX file with other metadata; None removes an entry."""
    model = onnx.load(file)
    texts = {entry.key: entry.value for entry in model.metadata_props}
    texts |= {f"regrow.{name}": json.dumps(value) for name, value in entries.items()}
    kept = {name: text for name, text in texts.items() if text != "null"}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, kept)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


@pytest.mark.parametrize("kind", ["labels", "boxes", "masks"])
def test_a_checkpoint_is_served_as_its_network(
    tasks: dict[str, Task], tmp_path: Path, kind: str
) -> None:
    task = tasks[kind]
    save(tmp_path / "best.ckpt", task)
    model = ServedModel(tmp_path / "best.ckpt", num_threads=1)
    model.warm_up(3)
    assert model.sha256 == hashlib.sha256(model.file.read_bytes()).hexdigest()
    assert (model.kind, model.classes, model.size) == (kind, task.classes, task.size)
    images = task.example_images(2)
    with torch.no_grad():
        wanted = task.decode(task(images))
    outputs = model.run(images.numpy())
    for name, value in wanted.items():
        if name in outputs and value.is_floating_point():
            np.testing.assert_allclose(outputs[name], value, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", ["labels", "boxes", "masks"])
def test_a_model_in_int8_is_served_as_onnx_runtime_runs_it(
    files: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 64, 96), dtype=np.uint8)
    made = quantized(onnx.load(files[kind]), [images]).model
    onnx.save(made, tmp_path / "model.onnx")
    model, _ = Opener(never).open(tmp_path)
    model.warm_up(3)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    names = [output.name for output in session.get_outputs()]
    wanted = dict(zip(names, session.run(None, {"images": images[:2]}), strict=True))
    for name, value in model.run(images[:2]).items():
        np.testing.assert_allclose(value, wanted[name], rtol=1e-5)
    assert model.kind == kind


def test_only_the_outputs_that_are_wanted_are_computed(models: dict[str, ServedModel]) -> None:
    images = np.zeros((1, 3, 64, 96), np.uint8)
    assert list(models["masks"].run(images, ["mask"])) == ["mask"]
    assert {*models["masks"].run(images)} == {"mask", "logits"}


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"classes": ["a", "b"]}, "has 2 classes and outputs of .*; export it again"),
        ({"classes": None}, "has no class names, so regrow did not write it"),
        ({"kind": None}, "its metadata are not what regrow writes"),
        ({"kind": "boxes"}, "gives probabilities for 'boxes', which cannot be served"),
        ({"kind": "dreams"}, "gives probabilities for 'dreams', which cannot be served"),
        ({"size": [64]}, "its metadata are not what regrow writes"),
        ({"size": [32, 32]}, "cannot be run"),
        ({"input": []}, "its metadata are not what regrow writes"),
        ({"classes": ["a", "a", "b"]}, "classes are no names that differ"),
        ({"classes": [1, 2, 3]}, "classes are no names that differ"),
        ({"kind": ["labels"]}, "cannot be served"),
        ({"size": [10**6, 64]}, r"size is \[1000000, 64\]"),
        ({"suppression": {"max_detections": "1"}}, "suppression has no number of detections"),
    ],
)
def test_metadata_that_do_not_fit_the_graph(
    files: dict[str, Path], tmp_path: Path, entries: dict[str, Any], said: str
) -> None:
    file = changed(files["labels"], tmp_path, **entries)
    with pytest.raises(BadInput, match=said) as caught:
        Opener(never, num_threads=1).open(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [255, 256])
def test_a_class_that_masks_have_for_unknown_pixels_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    task = Segmentation([f"class {number}" for number in range(count)], (32, 32), net="small")
    file = export_graph(task.eval(), tmp_path / "model.onnx")
    with caplog.at_level(logging.WARNING):
        model = ServedModel(file, num_threads=1)
    assert ("has 256 classes" in caplog.text) == (count == 256)
    assert ("its class 255, 'class 255', cannot be told" in caplog.text) == (count == 256)
    # It is answered all the same.
    assert model.run(np.zeros((1, 3, 32, 32), np.uint8), ["mask"])["mask"].shape == (1, 32, 32)


@pytest.mark.parametrize("content", [b"", b"no model", None])
def test_files_that_are_no_model(files: dict[str, Path], tmp_path: Path, content: Any) -> None:
    half = files["labels"].read_bytes()
    for name in ("model.onnx", "best.ckpt"):
        (tmp_path / name).write_bytes(half[: len(half) // 2] if content is None else content)
        with pytest.raises(BadInput, match=name):
            ServedModel(tmp_path / name, num_threads=1)
    with pytest.raises(BadInput, match="gone.onnx: no such file"):
        ServedModel(tmp_path / "gone.onnx")


def test_a_file_that_changes_while_it_is_read_is_refused(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.onnx"
    shutil.copy(files["labels"], file)
    opened: Callable[..., Any] = ServedModel._opened

    def opened_then_changed(self: ServedModel, *args: Any) -> Any:
        made = opened(self, *args)
        shutil.copy(files["masks"], file)
        return made

    monkeypatch.setattr(ServedModel, "_opened", opened_then_changed)
    with pytest.raises(BadInput, match="was changed while it was read; try again"):
        ServedModel(file, num_threads=1)
