"""Exported models of the three tasks, whose answers differ from picture to picture."""

from pathlib import Path

import pytest
import torch

from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.onnx.graph import export_graph
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task

TASKS = {
    "labels": lambda: Classification(["ant", "bee"], (24, 32), net_args={"width": 4}),
    "boxes": lambda: Detection(["ant", "bee"], (64, 64), score_threshold=0.0, max_detections=7),
    "masks": lambda: Segmentation(["ant", "bee", "cow"], (32, 48)),
}


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Task, Path]]:
    """Return a task of each kind, and its ONNX file."""
    found = {}
    for kind, make in TASKS.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            task = make().eval()
        file = tmp_path_factory.mktemp(kind) / "model.onnx"
        found[kind] = (task, export_graph(task, file))
    return found
