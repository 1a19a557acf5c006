"""What all tasks share: arguments, images, labels, losses and the record in a checkpoint."""

import pytest
import torch
from torch import Tensor

from regrow.errors import BadInput
from regrow.models.classification import Classification
from regrow.models.segmentation import Segmentation
from regrow.models.task import Penalty, Task, loss_of, seed_step


class Size(Penalty):
    """A term that is the sum of all logits."""

    name = "size"

    def forward(self, task: Task, images: Tensor, outputs: dict[str, Tensor]) -> Tensor:
        return outputs["logits"].sum()


def test_classes_that_stand_there_twice_are_refused() -> None:
    with pytest.raises(BadInput, match="class names must differ: ant, bee stand there twice"):
        Classification(["bee", "ant", "cat", "ant", "bee"], (16, 16))


@pytest.mark.parametrize("classes", [[], ["ant"]])
def test_fewer_than_two_classes_are_refused(classes: list[str]) -> None:
    with pytest.raises(BadInput, match="Classification needs 2 classes or more, the data has"):
        Classification(classes, (16, 16))


def test_the_scale_of_images_is_rounded_once_however_a_task_is_cast() -> None:
    task = Classification(["a", "b"], (16, 16), net="small", mean=(0.1, 0.2, 0.3))
    assert task.to(torch.bfloat16).mean.dtype == torch.bfloat16
    task.to(torch.float32)
    assert torch.equal(task.mean.flatten(), torch.tensor([0.1, 0.2, 0.3]))


@pytest.mark.parametrize("std", [(0.1, 0.0, 0.1), (-1.0, 1.0, 1.0), (1.0, float("nan"), 1.0)])
def test_images_are_divided_by_no_zero(std: tuple[float, float, float]) -> None:
    with pytest.raises(
        BadInput, match=r"task\.std is .*images are divided by it, so it must be > 0"
    ):
        Classification(["a", "b"], (16, 16), std=std)


def test_images_are_normalised_by_channel_from_bytes_and_from_floats() -> None:
    task = Classification(["a", "b"], (1, 1), mean=(0.2, 0.4, 0.0), std=(0.1, 0.2, 1.0))
    images = torch.tensor([51, 102, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    # 51 and 102 of 255 are 0.2 and 0.4.
    assert task.prepare(images).flatten().tolist() == pytest.approx([0, 0, 1], abs=1e-6)
    assert torch.equal(task.prepare(images / 255), task.prepare(images))


def test_images_lie_channels_last_if_asked() -> None:
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    for channels_last in (False, True):
        task = Classification(["a", "b"], (8, 8), channels_last=channels_last)
        is_last = task.prepare(images).is_contiguous(memory_format=torch.channels_last)
        assert is_last is channels_last


def test_example_images_are_the_same_at_every_call_and_draw_nothing() -> None:
    task = Segmentation(["a", "b"], (8, 16))
    state = torch.random.get_rng_state()
    first = task.example_images(2)
    assert first.shape == (2, 3, 8, 16)
    assert first.dtype == torch.uint8
    assert torch.equal(first, task.example_images(2))
    assert torch.equal(state, torch.random.get_rng_state())


@torch.no_grad()
def test_the_loss_of_a_step_is_the_sum_of_its_terms() -> None:
    task = Segmentation(["a", "b"], (8, 8), dice=0.5, penalties=[Size()]).eval()
    images, targets = task.example_images(2), torch.randint(0, 2, (2, 8, 8)).to(torch.uint8)
    outputs = task(images)
    terms = task.losses(outputs, targets)
    assert terms.keys() == {"ce", "dice"}
    total = terms["ce"] + terms["dice"]
    torch.testing.assert_close(loss_of(task, images, targets), total)
    task._is_logging = lambda: False  # type: ignore[method-assign] # there is no trainer
    step = task.training_step((images, targets), 0)
    torch.testing.assert_close(step, total + outputs["logits"].sum())


def test_the_arguments_rebuild_the_task_but_for_its_weights() -> None:
    task = Classification(["a", "b"], (16, 16), net_args={"width": 4}, label_smoothing=0.1)
    arguments = task.arguments()
    assert arguments["label_smoothing"] == 0.1
    assert arguments["optimization"]["lr"] == task.optimization.lr
    assert not {"weights", "penalties"} & arguments.keys()
    again = Classification(**{**arguments, "optimization": task.optimization})
    again.load_state_dict(task.state_dict())
    images = task.example_images(2)
    assert torch.equal(again.eval()(images)["logits"], task.eval()(images)["logits"])


def test_a_record_draws_nothing_and_names_the_task() -> None:
    task = Classification(["a", "b"], (16, 16), net_args={"width": 4})
    state = torch.random.get_rng_state()
    record = task.record()
    assert torch.equal(state, torch.random.get_rng_state())
    assert record["task"] == "regrow.models.classification.Classification"
    assert record["masks"] == record["buffers"] == {}


def test_names_of_the_task_and_of_the_package_of_its_net() -> None:
    assert Classification(["a", "b"], (16, 16)).name == "classification"
    assert (
        Classification(["a", "b"], (16, 16), net="timm/resnet10t").net_package == "timm/resnet10t"
    )


def test_a_step_draws_what_its_seed_says() -> None:
    drawn = []
    for seed in (3, 4, 3):
        seed_step(seed, torch.device("cpu"))
        drawn.append(torch.rand(2))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
    torch.manual_seed(3)
    assert torch.equal(torch.rand(2), drawn[0])
