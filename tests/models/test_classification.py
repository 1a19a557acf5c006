"""The classification task against torch's own operations and numbers worked by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from regrow.metrics.evidence import CorrectEvidence
from regrow.metrics.scores import Accuracy
from regrow.models.classification import Classification

CLASSES = ["ant", "bee", "cat"]


@pytest.fixture
def task() -> Classification:
    torch.manual_seed(0)
    return Classification(CLASSES, (16, 16), net_args={"width": 4}).eval()


def _images(count: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8)


def test_loss_worked_by_hand(task: Classification) -> None:
    # Softmax of (ln 2, 0, 0) is (1/2, 1/4, 1/4).
    logits = torch.tensor([[math.log(2), 0, 0], [0, 0, 0]])
    losses = task.losses({"logits": logits}, torch.tensor([0, 2]))
    assert list(losses) == ["ce"]
    assert float(losses["ce"]) == pytest.approx((math.log(2) + math.log(3)) / 2)


def test_smoothed_loss_spreads_a_share_over_all_classes() -> None:
    task = Classification(CLASSES, (16, 16), label_smoothing=0.3)
    logits = torch.tensor([[math.log(2), 0, 0]])
    # The target is (.8, .1, .1): .7 for the true class, .1 for each.
    expected = 0.8 * math.log(2) + 0.2 * math.log(4)
    loss = task.losses({"logits": logits}, torch.tensor([0]))["ce"]
    assert float(loss) == pytest.approx(expected)


def test_class_weights_multiply_the_loss_of_the_images_of_their_class() -> None:
    task = Classification(CLASSES, (16, 16), class_weights="balanced")
    logits = torch.tensor([[math.log(2), 0, 0], [0, 0, 0]])
    task.loss_weights = torch.tensor([3.0, 0.0, 0.5])
    loss = task.losses({"logits": logits}, torch.tensor([0, 2]))["ce"]
    # By the number of images, not by the sum of their weights.
    assert float(loss) == pytest.approx((3 * math.log(2) + 0.5 * math.log(3)) / 2)


def test_loss_is_that_of_torch_and_in_single_precision(task: Classification) -> None:
    logits = torch.randn(6, 3, dtype=torch.bfloat16)
    labels = torch.tensor([0, 1, 2, 2, 1, 0])
    loss = task.losses({"logits": logits}, labels)["ce"]
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.cross_entropy(logits.float(), labels))


def test_outputs_are_the_nets_for_normalised_images(task: Classification) -> None:
    images = _images()
    means, deviations = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    channels = [
        (images[:, place].float() / 255 - mean) / deviation
        for place, (mean, deviation) in enumerate(zip(means, deviations, strict=True))
    ]
    outputs = task(images)
    assert list(outputs) == ["logits"]
    torch.testing.assert_close(outputs["logits"], task.net(torch.stack(channels, 1)))


def test_predictions_are_probabilities_here_and_from_a_decoded_graph(task: Classification) -> None:
    outputs = task(_images())
    predictions = task.predict(outputs)
    raised = outputs["logits"].detach().exp()
    torch.testing.assert_close(predictions.detach(), raised / raised.sum(1, keepdim=True))
    decoded = task.decode(outputs)
    assert list(decoded) == ["probabilities"]
    assert torch.equal(task.from_decoded(decoded), predictions)


def test_predictions_of_a_batch_are_those_of_its_images(task: Classification) -> None:
    images = _images()
    together = task.predict(task(images))
    alone = torch.cat([task.predict(task(image[None])) for image in images])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize(
    ("net", "layer"), [("small", "head"), ("cifar_resnet20", "linear"), ("timm/resnet10t", "fc")]
)
def test_class_rows_and_output_layers_name_the_head(net: str, layer: str) -> None:
    task = Classification(CLASSES, (32, 32), net=net)
    assert [rows.layer for rows in task.class_rows()] == [layer]
    assert task.output_layers() == [layer]
    assert task.net.get_parameter(f"{layer}.weight").shape[0] == 3


def test_one_row_of_the_head_makes_the_score_of_one_class(task: Classification) -> None:
    images = _images()
    before = task(images)["logits"].detach()
    (rows,) = task.class_rows()
    with torch.no_grad():
        task.net.get_parameter(f"{rows.layer}.bias")[rows.indices(1, 3)] += 5
    moved = task(images)["logits"].detach() - before
    torch.testing.assert_close(moved, torch.tensor([[0.0, 5, 0]]).expand(4, 3))


def test_metric_and_evidence_are_those_of_the_task(task: Classification) -> None:
    assert isinstance(task.make_metric(), Accuracy)
    assert isinstance(task.make_evidence(), CorrectEvidence)
    task.metric.update(torch.eye(3), torch.tensor([0, 1, 1]))
    values = task.metric.compute()
    assert float(values[task.score]) == pytest.approx(2 / 3)
    assert len(values["per_class"]) == len(CLASSES)
