"""The segmentation task against torch's own operations and numbers worked by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from regrow.errors import BadInput
from regrow.metrics.evidence import ConfusionEvidence
from regrow.metrics.scores import MeanIoU
from regrow.models.segmentation import Segmentation, soft_dice

CLASSES = ["sky", "sea", "sand"]


@pytest.fixture
def task() -> Segmentation:
    torch.manual_seed(0)
    return Segmentation(CLASSES, (16, 24), net_args={"width": 4}, dice=0.5).eval()


def _images(count: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, 16, 24), generator=generator, dtype=torch.uint8)


def _logits(probabilities: list[list[float]]) -> Tensor:
    """Return logits (1, c, 1, w) whose softmax is the given share of each class, a row a pixel."""
    return torch.tensor(probabilities).log().T[None, :, None]


def _mask(labels: list[int]) -> Tensor:
    return torch.tensor(labels, dtype=torch.uint8)[None, None]


def test_cross_entropy_worked_by_hand_leaves_void_out() -> None:
    task = Segmentation(CLASSES, (16, 16))
    logits = _logits([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [0.98, 0.01, 0.01]])
    losses = task.losses({"logits": logits}, _mask([0, 2, 255]))
    assert list(losses) == ["ce"]
    assert float(losses["ce"]) == pytest.approx(-(math.log(0.5) + math.log(0.8)) / 2)


def test_cross_entropy_is_that_of_torch_and_in_single_precision() -> None:
    task = Segmentation(CLASSES, (16, 16))
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, 4, generator=generator).bfloat16()
    truth = torch.randint(0, 3, (2, 5, 4), generator=generator)
    truth[0, :3] = 255
    loss = task.losses({"logits": logits}, truth.to(torch.uint8))["ce"]
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, F.cross_entropy(logits.float(), truth, ignore_index=255))


def test_class_weights_multiply_the_loss_of_the_pixels_of_their_class() -> None:
    task = Segmentation(CLASSES, (16, 16), class_weights="balanced", dice=1.0)
    logits = _logits([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [0.98, 0.01, 0.01]])
    plain = task.losses({"logits": logits}, _mask([0, 2, 255]))
    task.loss_weights = torch.tensor([2.0, 0.0, 0.5])
    losses = task.losses({"logits": logits}, _mask([0, 2, 255]))
    assert float(losses["ce"]) == pytest.approx(-(2 * math.log(0.5) + 0.5 * math.log(0.8)) / 2)
    assert torch.equal(losses["dice"], plain["dice"])


def test_soft_dice_worked_by_hand() -> None:
    logits = _logits([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [0.98, 0.01, 0.01], [0.6, 0.2, 0.2]])
    truth = _mask([0, 2, 255, 0]).long()
    # Class 0: 2 * (.5 + .6) / ((.5 + .1 + .6) + 2). Class 2: 2 * .8 / ((.25 + .8 + .2) + 1).
    # Class 1 is not in the truth and left out; the void pixel counts nowhere.
    expected = 1 - (2.2 / 3.2 + 1.6 / 2.25) / 2
    assert float(soft_dice(logits, truth)) == pytest.approx(expected)


def test_soft_dice_of_a_sure_and_right_net_is_zero_and_of_a_wrong_one_one() -> None:
    truth = torch.tensor([[[0, 1], [2, 255]]])
    right = 50.0 * F.one_hot(truth.clamp(max=2), 3).movedim(-1, 1)
    assert float(soft_dice(right, truth)) == pytest.approx(0, abs=1e-6)
    assert float(soft_dice(right.roll(1, 1), truth)) == pytest.approx(1, abs=1e-6)


def test_dice_is_weighted_and_beside_the_cross_entropy(task: Segmentation) -> None:
    logits = _logits([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])
    losses = task.losses({"logits": logits}, _mask([0, 2]))
    assert list(losses) == ["ce", "dice"]
    dice = 1 - (1.0 / 1.6 + 1.6 / 2.05) / 2
    assert float(losses["dice"]) == pytest.approx(0.5 * dice)
    assert float(losses["ce"]) == pytest.approx(-(math.log(0.5) + math.log(0.8)) / 2)


def test_a_batch_that_is_void_all_over_costs_nothing_and_has_finite_gradients(
    task: Segmentation,
) -> None:
    task.train()
    losses = task.losses(task(_images(2)), torch.full((2, 16, 24), 255, dtype=torch.uint8))
    assert {name: float(value.detach()) for name, value in losses.items()} == {"ce": 0, "dice": 0}
    torch.stack(list(losses.values())).sum().backward()
    grads = [parameter.grad for parameter in task.net.parameters()]
    assert all(grad is not None and not grad.any() for grad in grads)


def test_gradient_of_void_pixels_is_zero(task: Segmentation) -> None:
    logits = torch.randn(1, 3, 2, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    truth = torch.tensor([[[0, 255, 1], [255, 2, 2]]], dtype=torch.uint8)
    torch.stack(list(task.losses({"logits": logits}, truth).values())).sum().backward()
    assert logits.grad is not None
    assert (logits.grad.abs().sum(1) > 0).tolist() == (truth != 255).tolist()


def test_predictions_are_masks_here_and_from_a_decoded_graph(task: Segmentation) -> None:
    outputs = task(_images())
    assert list(outputs) == ["logits"]
    assert outputs["logits"].shape == (4, 3, 16, 24)
    mask = task.predict(outputs)
    assert mask.dtype == torch.uint8
    best = outputs["logits"].max(1).values
    assert torch.equal(outputs["logits"].gather(1, mask.long()[:, None])[:, 0], best)
    decoded = task.decode(outputs)
    assert list(decoded) == ["logits", "mask"]
    assert torch.equal(decoded["logits"], outputs["logits"])
    assert torch.equal(task.from_decoded(decoded), mask)


def test_predictions_of_a_batch_are_those_of_its_images(task: Segmentation) -> None:
    images = _images()
    together = task(images)["logits"]
    alone = torch.cat([task(image[None])["logits"] for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("net", "layers"),
    [
        ("small", ["head"]),
        ("lraspp", ["head"]),
        (
            "torchvision/lraspp_mobilenet_v3_large",
            ["classifier.low_classifier", "classifier.high_classifier"],
        ),
    ],
)
def test_class_rows_and_output_layers_name_the_head(net: str, layers: list[str]) -> None:
    task = Segmentation(CLASSES, (32, 32), net=net)
    assert [rows.layer for rows in task.class_rows()] == layers
    assert task.output_layers() == layers


def test_an_auxiliary_head_is_left_out_of_outputs_and_losses() -> None:
    name, images = "torchvision/fcn_resnet50", torch.zeros(2, 3, 32, 32)
    task = Segmentation(CLASSES, (32, 32), net=name, net_args={"aux_loss": True})
    # The head's convolutions alone decide: a stub of the trunk keeps this fast.
    task.net.forward = lambda features: {  # type: ignore[method-assign]
        "out": features.new_zeros(2, 3, 32, 32),
        "aux": features.new_ones(2, 3, 32, 32),
    }
    outputs = task.train()(images)
    assert list(outputs) == ["logits"]
    assert not outputs["logits"].any()
    assert list(task.losses(outputs, torch.zeros(2, 32, 32, dtype=torch.uint8))) == ["ce"]
    assert "aux_classifier.4" in task.output_layers()


def test_metric_and_evidence_are_those_of_the_task(task: Segmentation) -> None:
    metric, evidence = task.make_metric(), task.make_evidence()
    assert isinstance(metric, MeanIoU)
    assert isinstance(evidence, ConfusionEvidence)
    predicted, truth = _mask([0, 0, 1, 2]), _mask([0, 1, 1, 255])
    metric.update(predicted, truth)
    evidence.update(predicted, truth)
    # Classes 0 and 1 have 1 of 2 each, class 2 occurs on void alone.
    assert float(metric.compute()[task.score]) == pytest.approx(0.5)
    assert evidence.score() == pytest.approx(0.5)


def test_classes_that_stand_there_twice_are_refused() -> None:
    with pytest.raises(BadInput, match="class names must differ: sea stand there twice"):
        Segmentation(["sea", "sky", "sea"], (16, 16))


@pytest.mark.parametrize("classes", [[], ["sea"]])
def test_fewer_than_two_classes_are_refused(classes: list[str]) -> None:
    with pytest.raises(BadInput, match="Segmentation needs 2 classes or more, the data has"):
        Segmentation(classes, (16, 16))
