"""Every network that a task can name grows, and the grown one is what its name builds."""

from pathlib import Path

import pytest
import torch
from torch import nn

from regrow.incremental.expand import expand_
from regrow.models.checkpoint import load, save
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task

slow = pytest.mark.slow
NETS = [
    (Classification, "small", 32),
    (Classification, "cifar_resnet20", 32),
    (Classification, "timm/mobilenetv3_small_050", 64),
    pytest.param(Classification, "torchvision/resnet18", 64, marks=slow),
    pytest.param(Classification, "timm/vit_tiny_patch16_224", 224, marks=slow),
    pytest.param(Classification, "torchvision/densenet121", 64, marks=slow),
    (Detection, "small", 64),
    (Detection, "fcos", 64),
    pytest.param(Detection, "torchvision/ssdlite320_mobilenet_v3_large", 128, marks=slow),
    pytest.param(Detection, "torchvision/retinanet_resnet50_fpn", 64, marks=slow),
    pytest.param(Detection, "torchvision/fcos_resnet50_fpn", 64, marks=slow),
    pytest.param(Detection, "torchvision/fasterrcnn_mobilenet_v3_large_fpn", 64, marks=slow),
    (Segmentation, "small", 32),
    (Segmentation, "lraspp", 64),
    pytest.param(Segmentation, "torchvision/lraspp_mobilenet_v3_large", 64, marks=slow),
    pytest.param(Segmentation, "torchvision/deeplabv3_mobilenet_v3_large", 64, marks=slow),
    pytest.param(Segmentation, "torchvision/fcn_resnet50", 64, marks=slow),
]


def _class_columns(name: str, output: torch.Tensor, task: Task) -> torch.Tensor:
    """The scores of one raw output with the classes last, behind the background if any."""
    if isinstance(task, Segmentation):
        return output.movedim(1, -1)
    return output


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("kind", "net", "side"), NETS)
def test_grown_network_keeps_old_scores_and_is_what_its_name_builds(
    kind: type[Task], net: str, side: int, dtype: torch.dtype, tolerance: float, tmp_path: Path
) -> None:
    task = kind(["a", "b", "c"], (side, side), net=net).to(dtype).eval()
    images = task.example_images(2)
    with torch.no_grad():
        before = task(images)
    background = max(rows.background for rows in task.class_rows())

    expand_(task, ["new", "c", "a", "b"])

    with torch.no_grad():
        after = task(images)
    assert before.keys() == after.keys()
    places = [*range(background), *(background + i for i in (2, 3, 1))]
    grown = 0
    for name, old in before.items():
        new = after[name]
        if new.shape != old.shape:
            grown += 1
            old, new = _class_columns(name, old, task), _class_columns(name, new, task)
            width = old.shape[-1] // (3 + background)  # 4 where a class has its own box
            new = new.unflatten(-1, (-1, width))[..., places, :].flatten(-2)
        assert new.dtype == dtype
        largest = float(old.abs().max())
        torch.testing.assert_close(new, old, rtol=0, atol=tolerance * largest)
    assert grown > 0

    fresh = task.fresh_net()
    assert {n: p.shape for n, p in task.net.state_dict().items()} == {
        n: p.shape for n, p in fresh.state_dict().items()
    }
    for (name, ours), (_, theirs) in zip(
        task.net.named_modules(), fresh.named_modules(), strict=True
    ):
        for attribute in ("num_classes", "num_columns", "out_features", "out_channels"):
            assert getattr(ours, attribute, None) == getattr(theirs, attribute, None), name

    task.float()
    save(tmp_path / "grown.ckpt", task)
    loaded = load(tmp_path / "grown.ckpt")
    assert loaded.classes == ["new", "c", "a", "b"]
    with torch.no_grad():
        for ours, theirs in zip(task(images).values(), loaded(images).values(), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("kind", "net", "side"), NETS)
def test_grown_network_learns(kind: type[Task], net: str, side: int) -> None:
    task = kind(["a", "b"], (side, side), net=net)
    expand_(task, ["a", "b", "c"])
    task.train()
    images = task.example_images(2)
    targets: object = torch.tensor([2, 0])
    if kind is Segmentation:
        targets = torch.full((2, side, side), 2, dtype=torch.uint8)
    if kind is Detection:
        box = torch.tensor([[2.0, 2, side / 2, side / 2]])
        targets = [{"boxes": box, "labels": torch.tensor([2])}] * 2
    losses = task.losses(task(images), targets)
    torch.stack(list(losses.values())).sum().backward()
    learned = 0.0
    for rows in task.class_rows():
        layer = task.net.get_submodule(rows.layer)
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        assert layer.weight.grad is not None
        learned += float(layer.weight.grad[rows.indices(2, 3)].abs().sum())
    assert learned > 0  # of an SSD's levels only those that the box fits
