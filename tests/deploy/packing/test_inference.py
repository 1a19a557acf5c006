"""The packed code answers as regrow does, with nothing of regrow's."""

import ast
import base64
import hashlib
import importlib.util
import io
import json
import sys
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from regrow.data.images.decoding import decode
from regrow.data.images.transforms import resize, resize_mask
from regrow.deploy.packing import inference
from regrow.deploy.packing.archive import write_archive
from regrow.deploy.packing.packages import package
from regrow.deploy.runtime import OnnxModel, predictions
from regrow.models.onnx.graph import export_graph

Exported = dict[str, tuple[Any, Path]]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """Return a photo that lies on its side, as a camera writes it."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (7, 10, 3), np.uint8).repeat(11, 0).repeat(11, 1)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    return tmp_path / "photo.jpg"


def _pixels(picture: Path) -> torch.Tensor:
    """Return a photo as data loading decodes it, uint8 (1, 3, h, w)."""
    return torch.from_numpy(decode(picture).copy()).permute(2, 0, 1)[None]


def _unpacked(model: Path, folder: Path) -> tuple[Path, ModuleType]:
    """Unpack as the platform does, and import the code as the container does."""
    members = package("sagemaker", model, "0" * 64)["sagemaker/model.tar.gz"]
    assert isinstance(members, dict)
    file = io.BytesIO()
    write_archive(file, members)
    file.seek(0)
    with tarfile.open(fileobj=file) as archive:
        archive.extractall(folder, filter="data")
    spec = importlib.util.spec_from_file_location("packed", folder / "code" / "inference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return folder, module


def _answer(module: ModuleType, folder: Path, body: bytes, kind: str | None) -> dict[str, Any]:
    model = module.model_fn(str(folder))
    text, given = module.output_fn(module.predict_fn(module.input_fn(body, kind), model), "*/*")
    assert given == "application/json"
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_code_needs_only_what_the_container_has() -> None:
    tree = ast.parse(Path(inference.__file__).read_text())
    names = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert names - sys.stdlib_module_names == {"numpy", "onnxruntime", "torch", "PIL"}


def test_labels_are_those_of_the_network(exported: Exported, picture: Path, tmp_path: Path) -> None:
    task, path = exported["labels"]
    folder, module = _unpacked(path, tmp_path / "m")
    found = _answer(module, folder, picture.read_bytes(), "image/jpeg")
    assert found["model"] == hashlib.sha256(path.read_bytes()).hexdigest()
    (answer,) = found["predictions"]
    pixels = _pixels(picture)
    assert pixels.shape[-2:] == (110, 77)
    given = OnnxModel(path)(resize(pixels, task.size))["probabilities"][0]
    assert list(answer["scores"].values()) == given.tolist()  # to the bit
    assert answer["label"] == task.classes[int(given.argmax())]
    assert answer["score"] == max(answer["scores"].values())


def test_boxes_are_in_pixels_of_the_photo(
    exported: Exported, picture: Path, tmp_path: Path
) -> None:
    task, path = exported["boxes"]
    folder, module = _unpacked(path, tmp_path / "m")
    (answer,) = _answer(module, folder, picture.read_bytes(), None)["predictions"]
    small = resize(_pixels(picture), task.size)
    (known,) = predictions(task, OnnxModel(path)(small), max_detections=7)
    assert 0 < len(answer["objects"]) == len(known["scores"]) == 7
    assert [o["score"] for o in answer["objects"]] == known["scores"].tolist()
    labels = [task.classes[label] for label in known["labels"]]
    assert [o["label"] for o in answer["objects"]] == labels
    boxes = known["boxes"].numpy() * np.array([77, 110, 77, 110]) / 64
    np.testing.assert_allclose([o["box"] for o in answer["objects"]], boxes, rtol=1e-6, atol=1e-4)


def test_masks_have_the_size_of_the_photo(
    exported: Exported, picture: Path, tmp_path: Path
) -> None:
    task, path = exported["masks"]
    folder, module = _unpacked(path, tmp_path / "m")
    (answer,) = _answer(module, folder, picture.read_bytes(), "image/jpeg; q=1")["predictions"]
    with Image.open(io.BytesIO(base64.b64decode(answer["mask"]))) as opened:
        mask = np.asarray(opened)
    small = resize(_pixels(picture), task.size)
    whole = resize_mask(torch.from_numpy(OnnxModel(path)(small)["mask"]), (110, 77))[0].numpy()
    assert np.array_equal(mask, whole)
    assert len(np.unique(whole)) > 1
    assert answer["classes"] == task.classes
    assert answer["shares"] == {
        name: (whole == number).mean() for number, name in enumerate(task.classes)
    }


def test_arrays_are_answered_picture_by_picture(exported: Exported, tmp_path: Path) -> None:
    _, path = exported["labels"]
    folder, module = _unpacked(path, tmp_path / "m")
    batch = np.random.default_rng(1).integers(0, 256, (3, 40, 50, 3), np.uint8)
    answers = []
    for values in (batch, *batch):
        file = io.BytesIO()
        np.save(file, values)
        found = _answer(module, folder, file.getvalue(), "application/x-npy")
        answers.append([list(one["scores"].values()) for one in found["predictions"]])
    np.testing.assert_allclose(answers[0], [row for (row,) in answers[1:]], atol=1e-6)
    assert len({tuple(row) for row in answers[0]}) == 3


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "I;16"])
def test_pictures_of_all_modes_have_the_pixels_of_training(mode: str, tmp_path: Path) -> None:
    values = np.random.default_rng(2).integers(0, 256, (20, 30, 3), np.uint8)
    if mode == "I;16":
        made = Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    else:
        made = Image.fromarray(values).convert(mode)
    file = tmp_path / ("a.tiff" if mode in ("CMYK", "I;16") else "a.png")
    made.save(file)
    (given,) = inference.input_fn(file.read_bytes(), "image/any")
    assert np.array_equal(given, decode(file))


def _npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b"{}", "application/json", "no body of type 'application/json' is read"),
        (b"no picture", "image/jpeg", "cannot identify"),
        (_npy(np.zeros((2, 2, 3))), "application/x-npy", "float64 of shape"),
        (_npy(np.zeros((2, 2), np.uint8)), "application/x-npy", "uint8 of shape"),
        (_npy(np.zeros((0, 2, 2, 3), np.uint8)), "application/x-npy", "holds no picture"),
    ],
)
def test_what_cannot_be_read_is_refused(body: bytes, kind: str, said: str) -> None:
    with pytest.raises((ValueError, OSError), match=said):
        inference.input_fn(body, kind)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bombs_and_numbers_that_are_no_colours_are_refused(tmp_path: Path) -> None:
    Image.new("1", (10_000, 9_000)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="10000 x 9000 pixels; send 89478485 at most"):
        inference.input_fn((tmp_path / "a.png").read_bytes(), "image/png")
    Image.new("F", (2, 2)).save(tmp_path / "a.tiff")
    with pytest.raises(ValueError, match="not colours"):
        inference.input_fn((tmp_path / "a.tiff").read_bytes(), "image/tiff")


def test_floats_are_fed_where_the_graph_takes_them(tmp_path: Path, exported: Exported) -> None:
    task, path = exported["labels"]
    export_graph(task, tmp_path / "model.onnx", input_type="float32")
    values = np.random.default_rng(3).integers(0, 256, (24, 32, 3), np.uint8)
    answers = [
        inference.predict_fn([values], inference.model_fn(str(folder)))["predictions"][0]["scores"]
        for folder in (path.parent, tmp_path)
    ]
    np.testing.assert_allclose(list(answers[0].values()), list(answers[1].values()), atol=1e-6)
