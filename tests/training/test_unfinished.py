"""A run that stops within a step of the optimizer goes on with the gradients so far."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from regrow.errors import BadInput
from regrow.training.unfinished import KEY, Unfinished

pytestmark = [
    # Lightning 2.6 with torch 2.15.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning"),
    # The loaders of these tests have no workers.
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


class Saving(Callback):
    """Asks after each batch what a checkpoint would hold."""

    def __init__(self) -> None:
        self.saved: list[dict[str, Any]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        checkpoint: dict[str, Any] = {}
        Unfinished().on_save_checkpoint(trainer, pl_module, checkpoint)
        gradients = {n: v.tolist() for n, v in checkpoint[KEY]["gradients"].items()}
        self.saved.append({**checkpoint[KEY], "gradients": gradients})


def test_gradients_between_two_steps_are_saved(fit_line: Callable[..., Trainer]) -> None:
    saving = Saving()
    fit_line(saving, accumulate_grad_batches=4)
    # The batches are 1 to 6, a fourth of each counts; the last step of an epoch is shorter.
    expected = [0.25, 0.75, 1.5, None, 1.25, None]
    assert saving.saved == [
        {"is_to_end": False, "gradients": {} if sum_ is None else {"weight": [[sum_]]}}
        for sum_ in expected
    ]


def test_the_end_is_saved(fit_line: Callable[..., Trainer]) -> None:
    class Ending(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            trainer.should_stop = trainer.global_step == 3

    saving = Saving()
    fit_line(Ending(), saving)
    assert [state["is_to_end"] for state in saving.saved] == [False, False, True]


@pytest.fixture
def trainer() -> Trainer:
    return Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")


def test_what_was_saved_is_restored_once(trainer: Trainer, line: LightningModule) -> None:
    unfinished = Unfinished()
    state = {"is_to_end": True, "gradients": {"weight": torch.tensor([[0.75]])}}
    unfinished.on_load_checkpoint(trainer, line, {KEY: state})
    unfinished.on_train_start(trainer, line)
    weight = line.get_parameter("weight")
    assert weight.grad is not None
    assert weight.grad.tolist() == [0.75]
    assert trainer.should_stop
    weight.grad, trainer.should_stop = None, False
    unfinished.on_train_start(trainer, line)  # of a training after that one
    assert weight.grad is None
    assert not trainer.should_stop


def test_a_run_of_an_older_version_begins_its_step_anew(
    trainer: Trainer, line: LightningModule
) -> None:
    unfinished = Unfinished()
    unfinished.on_load_checkpoint(trainer, line, {})
    unfinished.on_train_start(trainer, line)
    assert line.get_parameter("weight").grad is None
    assert not trainer.should_stop


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"is_to_end": False, "gradients": {"weight": torch.zeros(1)}}, "of other shapes"),
        ({"is_to_end": False, "gradients": {"weight": torch.zeros(2, 1)}}, "of other shapes"),
        ({"is_to_end": False, "gradients": {"bias": torch.zeros(1, 1)}}, "'bias'"),
        ({"gradients": {}}, "'is_to_end'"),
        ({"is_to_end": False}, "'gradients'"),
        ({"is_to_end": False, "gradients": {"weight": 1}}, "'int' object has no attribute 'shape'"),
        ({"is_to_end": False, "gradients": 1}, "'int' object is not iterable"),
        (
            {"is_to_end": torch.zeros(2), "gradients": {}},
            "Boolean value of Tensor with more than one value is ambiguous",
        ),
    ],
)
def test_gradients_of_another_network_are_refused(
    state: Any, said: str, trainer: Trainer, line: LightningModule
) -> None:
    with pytest.raises(BadInput) as told:
        Unfinished().on_load_checkpoint(trainer, line, {KEY: state})
    assert str(told.value) == (
        f"the checkpoint's gradients are not of this network ({said}); go on from another "
        "checkpoint of the run, or begin a new one"
    )
