"""Labels that know some classes only: what they do not know has no loss, no gradient and no say."""

import pytest
import torch
import torch.nn.functional as F

from regrow.data.targets.partial_labels import hidden, known_classes, plain_targets
from regrow.errors import BadInput
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task, loss_of

CLASSES = ["a", "b", "new"]
OLD = torch.tensor([True, True, False])
ALL = torch.tensor([True, True, True])


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def boxes(known: torch.Tensor) -> dict[str, torch.Tensor]:
    corners = torch.tensor([[4.0, 4.0, 30.0, 30.0], [30.0, 30.0, 60.0, 50.0]])
    return {"boxes": corners, "labels": torch.tensor([0, 1]), "known": known}


def class_grads(task: Task, targets: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    """Return the size of the gradient of each class's rows, (c,)."""
    task.net.zero_grad()
    loss_of(task, task.example_images(len(targets)), targets).backward()
    (rows, *_) = task.class_rows()
    grad = task.net.get_submodule(rows.layer).weight.grad
    count = len(task.classes)
    return torch.stack([grad[rows.indices(i, count)].abs().sum() for i in range(count)])


def test_plain_targets_lose_only_what_they_know() -> None:
    masks = [{"mask": torch.full((2, 2), i), "known": OLD} for i in range(3)]
    assert torch.equal(plain_targets(masks), torch.arange(3)[:, None, None].expand(3, 2, 2))
    assert torch.equal(known_classes(masks), OLD.expand(3, 3))
    (target,) = plain_targets([boxes(OLD)])
    assert set(target) == {"boxes", "labels"}
    labels = torch.tensor([1, 2])
    assert plain_targets(labels) is labels
    assert known_classes(labels) is None


def test_a_background_comes_before_the_classes() -> None:
    logits = torch.zeros(2, 5, 4)
    known = torch.stack([OLD, ALL])
    (out,) = hidden({"cls": logits}, "cls", known, -1).values()
    assert out[0, 0].tolist() == [0, 0, 0, -1e4]
    assert (out[1] == 0).all()


@pytest.mark.parametrize(
    "net", ["fcos", "torchvision/fcos_resnet50_fpn", "torchvision/ssdlite320_mobilenet_v3_large"]
)
def test_an_unknown_class_of_a_detector_has_no_gradient(net: str) -> None:
    arguments = {"channels": 16} if net == "fcos" else {}
    task = Detection(CLASSES, (64, 64), net=net, net_args=arguments).eval()
    partly = class_grads(task, [boxes(OLD), boxes(OLD)])
    assert partly[2] == 0
    assert (partly[:2] > 0).all()
    assert (class_grads(task, [boxes(OLD), boxes(ALL)]) > 0).all()


def test_what_all_know_is_the_loss_as_it_was() -> None:
    task = Detection(CLASSES, (64, 64), net_args={"channels": 16}).eval()
    images, targets = task.example_images(2), [boxes(ALL), boxes(ALL)]
    assert torch.equal(
        loss_of(task, images, targets), loss_of(task, images, plain_targets(targets))
    )


def test_an_unknown_class_of_a_segmenter_is_no_rival() -> None:
    task = Segmentation(CLASSES, (32, 32)).eval()
    images = task.example_images(2)
    truth = torch.randint(0, 2, (2, 32, 32)).byte()
    targets = [{"mask": truth[0], "known": OLD}, {"mask": truth[1], "known": ALL}]
    logits = task(images)["logits"]
    # The first image among two classes, the second among three.
    one = F.cross_entropy(logits[:1, :2], truth[:1].long(), reduction="sum")
    other = F.cross_entropy(logits[1:], truth[1:].long(), reduction="sum")
    loss = loss_of(task, images, targets)
    expected = (one + other).detach() / truth.numel()
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-5)
    outputs, plain = task.as_labelled(task(images), targets)
    assert torch.equal(plain, truth)
    assert (task.predict(outputs)[0] < 2).all()


def test_networks_that_cannot_are_refused_by_name() -> None:
    net = "torchvision/fasterrcnn_mobilenet_v3_large_320_fpn"
    task = Detection(CLASSES, (64, 64), net=net)
    with pytest.raises(BadInput, match="fasterrcnn.* cannot train on labels that know some"):
        task.hide({"objectness": torch.zeros(1)}, OLD[None])
    with pytest.raises(BadInput, match="Classification cannot train on labels that know some"):
        Classification(CLASSES, (8, 8)).hide({}, OLD[None])
