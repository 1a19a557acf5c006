"""A task of each kind, and its graph."""

import onnx
import pytest
import torch

from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.onnx.graph import build_graph
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task

TASKS = {
    "labels": lambda: Classification(["ant", "bee"], (32, 32)),
    "boxes": lambda: Detection(["ant", "bee"], (64, 64), net="fcos", score_threshold=0.0),
    "masks": lambda: Segmentation(["ant", "bee"], (32, 32)),
}


@pytest.fixture(scope="module", params=list(TASKS))
def task(request: pytest.FixtureRequest) -> Task:
    torch.manual_seed(0)
    return TASKS[request.param]().eval()


@pytest.fixture(scope="module")
def model(task: Task) -> onnx.ModelProto:
    return build_graph(task)
