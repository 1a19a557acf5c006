"""What a task must define, and what it may leave to the interface."""

import pytest
import torch

from regrow.errors import BadInput
from regrow.models.classification import Classification
from regrow.models.distillation_losses import Shared
from regrow.models.interface import Interface
from regrow.models.segmentation import Segmentation


@pytest.mark.parametrize("part", ["outputs", "losses", "predict", "make_metric", "output_layers"])
def test_a_task_that_lacks_a_part_cannot_be_made(part: str) -> None:
    unfinished = type("Unfinished", (Classification,), {part: getattr(Interface, part)})
    with pytest.raises(TypeError, match=f"abstract.* method.*{part}"):
        unfinished(["a", "b"], (32, 32))


def test_a_task_without_a_distillation_loss_says_which_to_write() -> None:
    task = Classification(["a", "b"], (32, 32))
    with pytest.raises(BadInput, match="Classification has no method `distillation_loss`; write"):
        Interface.distillation_loss(task, {}, {}, Shared(), 1.0)


def test_a_task_that_hides_nothing_refuses_labels_of_some_classes() -> None:
    task = Classification(["a", "b"], (32, 32))
    with pytest.raises(BadInput, match="Classification cannot train on labels that know some"):
        task.hide({"logits": torch.zeros(1, 2)}, torch.tensor([[True, False]]))


def test_classes_weigh_alike_in_the_even_score() -> None:
    assert Classification(["a", "b"], (32, 32)).even_score == "macro_accuracy"
    assert Segmentation(["a", "b"], (32, 32)).even_score == "miou"
