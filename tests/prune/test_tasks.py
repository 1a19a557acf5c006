"""Pruning the networks of all three tasks, through the real tasks."""

import random
from typing import Any

import pytest
import torch
from torch import Tensor

from regrow.metrics.budget import Budget
from regrow.models.checkpoint import load, save
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task
from regrow.prune.channels.exactness import check_exact
from regrow.prune.channels.groups import find_groups
from regrow.prune.channels.surgery import clone, cut_, mask_
from regrow.prune.criteria import Taylor
from regrow.prune.engine import prune
from regrow.prune.removal import Channels
from regrow.prune.selection import Selection
from regrow.prune.target import Target

CLASSES = ["a", "b", "c"]
CONVNEXT = {"depths": [1, 1, 1, 1], "dims": [8, 12, 16, 24]}
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2}
TASKS = [
    pytest.param(Classification, "timm/vit_tiny_patch16_224", VIT, 32, id="vit"),
    pytest.param(Classification, "small", {}, 32, id="classification"),
    pytest.param(Classification, "cifar_resnet20", {}, 32, id="cifar"),
    pytest.param(Detection, "small", {}, 64, id="detection"),
    pytest.param(Segmentation, "small", {}, 32, id="segmentation"),
    pytest.param(Segmentation, "lraspp", {}, 32, id="lraspp"),
    pytest.param(Detection, "fcos", {"backbone": "timm/mobilenetv3_small_050"}, 64, id="fcos-timm"),
    *(
        pytest.param(Detection, f"torchvision/{net}", {}, size, id=net, marks=pytest.mark.slow)
        for net, size in [
            ("ssdlite320_mobilenet_v3_large", 320),
            ("fcos_resnet50_fpn", 128),
            ("retinanet_resnet50_fpn", 128),
            ("fasterrcnn_mobilenet_v3_large_320_fpn", 128),
        ]
    ),
]


def make(task_class: type[Task], net: str, args: dict[str, Any], size: int) -> Task:
    torch.manual_seed(0)
    return task_class(CLASSES, (size, size), net=net, net_args=args)


def batch(task: Task, size: int, count: int = 4) -> tuple[Tensor, Any]:
    images = task.example_images(count)
    if task.kind == "labels":
        return images, torch.arange(count) % 3
    if task.kind == "masks":
        return images, (torch.arange(size) % 3).to(torch.uint8).expand(count, size, size)
    boxes = torch.tensor([[2.0, 3.0, 30.0, 28.0], [size - 30.0, 5.0, size - 4.0, 40.0]])
    return images, [{"boxes": boxes, "labels": torch.tensor([i % 3, 1])} for i in range(count)]


@pytest.mark.parametrize(("task_class", "net", "args", "size"), TASKS)
def test_cutting_is_the_same_as_masking_and_the_rest_still_trains(task_class, net, args, size):
    task = make(task_class, net, args, size)
    found = find_groups(task)
    rows = {entry.layer for entry in task.class_rows()}
    assert rows | set(task.output_layers()) <= set(found.left_whole)
    generator = random.Random(3)
    plan = [
        (group, sorted(generator.sample(range(group.num_units), group.num_units // 2)))
        for group in found.groups
    ]
    masked, cut = clone(task), clone(task)
    mask_(masked, plan)
    cut_(cut, plan)
    assert check_exact(task, masked) > 1e-9
    assert check_exact(masked, cut) <= 1e-9
    cut.net.train()
    images, targets = batch(task, size)
    loss = torch.stack(list(cut.losses(cut(images), targets).values())).sum()
    loss.backward()
    for group in found.groups:
        owner = cut.net.get_submodule(group.members[0].layer)
        assert owner.weight.grad is not None
        assert owner.weight.grad.shape == owner.weight.shape


def test_the_stream_of_a_cifar_resnet_is_left_whole_and_its_blocks_are_pruned():
    found = find_groups(make(Classification, "cifar_resnet20", {}, 32))
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in range(3)]
    assert [group.layer for group in found.groups] == [f"{block}.conv1" for block in blocks]
    assert {f"{block}.conv2" for block in blocks} | {"conv1"} < set(found.left_whole)
    assert "option A" in found.left_whole["layer2.0.conv2"]


@pytest.mark.parametrize(("task_class", "net", "args", "size"), [p for p in TASKS if not p.marks])
def test_the_engine_prunes_every_task_and_the_file_gives_it_back(
    task_class, net, args, size, tmp_path
):
    task = make(task_class, net, args, size)
    loader = [batch(task, size)]
    result = prune(
        task,
        Channels(task, Target(macs=0.7), criterion=Taylor(1)),
        train_loader=loader,
        val_loader=loader,
        test_loader=loader,
        num_steps=2,
        budget=Budget(max_drop=1.0),
    )
    assert result.stopped == "target"
    assert result.cost_after.macs <= 0.7 * result.cost_before.macs
    assert result.after.name == task.score
    assert result.verdict.num_images == 4
    save(tmp_path / "pruned.ckpt", result.task)
    again = load(tmp_path / "pruned.ckpt", kind=task.kind)
    images = task.example_images(2)
    with torch.no_grad():
        expected, got = result.task.eval()(images), again(images)
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        assert torch.equal(value, got[name])


@pytest.mark.parametrize(
    ("net", "args", "size"),
    [
        ("timm/vit_tiny_patch16_224", VIT, 32),
        ("timm/convnext_atto", CONVNEXT, 32),
    ],
)
def test_the_engine_takes_widths_that_norms_span(net, args, size, tmp_path):
    task = make(Classification, net, args, size)
    loader = [batch(task, size)]
    result = prune(
        task,
        Channels(task, Target(macs=0.3), Selection(inexact=True)),  # an option of before
        train_loader=loader,
        val_loader=loader,
        test_loader=loader,
        num_steps=2,
        budget=Budget(max_drop=1.0),
    )
    assert result.stopped == "target"
    assert all(step.error <= 1e-9 for step in result.steps)
    streams = {group.layer for group in find_groups(task).groups if group.is_normed}
    assert any(result.layers[name].before > result.layers[name].after for name in streams)
    save(tmp_path / "pruned.ckpt", result.task)
    again = load(tmp_path / "pruned.ckpt")
    images = task.example_images(2)
    with torch.no_grad():
        assert torch.equal(result.task.eval()(images)["logits"], again(images)["logits"])
