"""A task without a trainer is an object like any other; one with a trainer has it."""

import pytest
from pytorch_lightning import Trainer

from regrow.models.attachment import Attachable, NotAttached
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
    return TASKS[request.param]()


def test_a_task_without_a_trainer_says_so_in_both_ways(task: Task) -> None:
    assert not hasattr(task, "trainer")
    for kind in (AttributeError, RuntimeError):
        with pytest.raises(kind, match="not attached to a `Trainer`"):
            _ = task.trainer
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        _ = task.nothing_of_this_name


def test_a_trainer_that_is_set_is_found_and_may_be_taken_away() -> None:
    module, trainer = Attachable(), Trainer(logger=False, enable_checkpointing=False)
    module.trainer = trainer
    assert module.trainer is trainer
    module.trainer = None
    with pytest.raises(NotAttached, match="Attachable is not attached to a `Trainer`"):
        _ = module.trainer
