"""Small models of the three tasks as ONNX files, and a server of each in this process."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

from regrow.deploy.serving.app import make_app
from regrow.deploy.serving.served_model import ServedModel
from regrow.deploy.serving.service import Limits, Service
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.onnx.graph import export_graph
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task

SIZE = (64, 96)
CLASSES = ["a", "b", "<i>c</i>"]
TASKS = {"labels": Classification, "boxes": Detection, "masks": Segmentation}


def made_task(kind: str, seed: int = 0) -> Task:
    """Return an untrained network whose outputs differ from image to image."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        task = TASKS[kind](CLASSES, SIZE, net="fcos" if kind == "boxes" else "small").eval()
        if kind == "boxes":
            torch.nn.init.normal_(task.net.cls_logits.weight, std=0.5)
            torch.nn.init.zeros_(task.net.cls_logits.bias)
        elif kind == "labels":
            with torch.no_grad():
                task.net.head.weight.mul_(20)
    return task


@pytest.fixture(scope="session")
def tasks() -> dict[str, Task]:
    return {kind: made_task(kind) for kind in TASKS}


@pytest.fixture(scope="session")
def files(tasks: dict[str, Task], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the ONNX file of each kind, and `labels float32`."""
    folder = tmp_path_factory.mktemp("served")
    made = {k: export_graph(task, folder / k / "model.onnx") for k, task in tasks.items()}
    floats = folder / "float32" / "model.onnx"
    made["labels float32"] = export_graph(tasks["labels"], floats, input_type="float32")
    return made


@pytest.fixture(scope="session")
def models(files: dict[str, Path]) -> dict[str, ServedModel]:
    return {kind: ServedModel(file, num_threads=1) for kind, file in files.items()}


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def smooth(seed: int = 0, size: tuple[int, int] = (80, 120)) -> np.ndarray:
    """Return a picture that is smooth enough to be resized, uint8 (h, w, 3)."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC))


@pytest.fixture
def picture() -> Callable[..., np.ndarray]:
    return smooth


@pytest.fixture
def encode() -> Callable[..., bytes]:
    return encoded


Serve = Callable[..., TestClient]


@pytest.fixture
def serve(models: dict[str, ServedModel]) -> Iterator[Serve]:
    """Return a maker of clients: `serve(kind, limits, observer)`, whose `service` it is."""
    opened: list[TestClient] = []

    def make(
        kind: str = "labels", limits: Limits | None = None, observer: Any = None, **options: Any
    ) -> TestClient:
        service = Service(limits or Limits(max_batch=4), observer)
        service.host.put("regrow", models[kind])
        client = TestClient(
            make_app(service, version="1", **options), raise_server_exceptions=False
        )
        client.__enter__()
        client.service = service  # type: ignore[attr-defined]
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)
