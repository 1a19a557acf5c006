"""A task is an ordinary module to whoever looks at it: it can be traced and exported."""

import warnings

import pytest
import torch
from torch import Tensor

from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task

TASKS = {
    "classification": lambda: Classification(["a", "b"], (32, 32)),
    "detection": lambda: Detection(["a", "b"], (64, 64), net="fcos"),
    "segmentation": lambda: Segmentation(["a", "b"], (32, 32)),
}


@pytest.fixture(params=list(TASKS))
def task(request: pytest.FixtureRequest) -> Task:
    torch.manual_seed(0)
    return TASKS[request.param]().eval()


def other_images(task: Task) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randint(0, 256, (2, 3, *task.size), generator=generator, dtype=torch.uint8)


def test_a_task_can_be_traced(task: Task) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, which is deprecated
        traced = torch.jit.trace(task, task.example_images(2), strict=False)
    images = other_images(task)
    expected = task(images)
    found = traced(images)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)


def test_a_task_can_be_exported(task: Task) -> None:
    program = torch.export.export(task, (task.example_images(2),))
    images = other_images(task)
    for name, value in task(images).items():
        torch.testing.assert_close(program.module()(images)[name], value, msg=name)
