"""Torchvision's FCOS loss, timm's own features, and figures worked by hand are the oracles."""

import math
import os
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch_pruning
from torch import Tensor, nn
from torchvision.models.detection import FCOS

from regrow.errors import BadInput
from regrow.models.nets.backbone import build_backbone
from regrow.models.nets.fcos import Fcos, build_fcos

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("REGROW_DATA", ROOT.parent / "shared" / "data"))
LITE0 = DATA / "weights" / "tf_efficientnet_lite0_imagenet_fp16.pth"
SIZE = (64, 96)
NUM_CLASSES = 3
BACKBONE = "timm/tf_efficientnet_lite0"
KNOBS: dict[str, Any] = {"score_threshold": 0.05, "iou_threshold": 0.5, "max_detections": 20}


@pytest.fixture
def net() -> Fcos:
    torch.manual_seed(0)
    net = build_fcos(NUM_CLASSES, SIZE, levels=(4, 8), channels=16, num_convs=1)
    for name in net.output_layers():
        layer = net.get_submodule(name)
        nn.init.normal_(layer.weight, std=0.3)
        nn.init.zeros_(layer.bias)
    return net


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, *SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def targets() -> list[dict[str, Tensor]]:
    return [
        {
            # The second lies within the first; the third is wide enough for the second level.
            "boxes": torch.tensor([[2.0, 3, 40, 35], [10, 8, 30, 26], [1, 30, 95, 63]]),
            "labels": torch.tensor([0, 2, 1]),
        },
        nothing(),
        {"boxes": torch.tensor([[50.0, 10, 70, 33]]), "labels": torch.tensor([1])},
    ]


def nothing() -> dict[str, Tensor]:
    return {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def plain(num_points: int) -> dict[str, Tensor]:
    shapes = {"cls_logits": NUM_CLASSES, "bbox_regression": 4, "bbox_ctrness": 1}
    return {name: torch.zeros(1, num_points, width) for name, width in shapes.items()}


def test_losses_are_torchvisions(net, images, targets) -> None:
    raw = net.train()(images)
    backbone: Any = nn.Identity()
    backbone.out_channels = 32
    oracle = FCOS(backbone, NUM_CLASSES)
    half = net.strides[:, None] / 2
    anchors = torch.cat([net.points - half, net.points + half], 1)
    counts = [16 * 24, 8 * 12]
    assert len(anchors) == sum(counts)
    expected = oracle.compute_loss(
        targets,
        {**raw, "bbox_regression": raw["bbox_regression"].exp()},
        [anchors] * 3,
        counts,
    )
    losses = net.losses(raw, targets)
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, msg=name)


def test_points_are_the_centres_of_their_cells(net) -> None:
    # 64 x 96 pixels: 16 x 24 cells of 4 pixels, then 8 x 12 of 8.
    assert net.points[:2].tolist() == [[2, 2], [6, 2]]
    assert net.points[24].tolist() == [2, 6]
    assert net.points[384:386].tolist() == [[4, 4], [12, 4]]
    assert net.points[-1].tolist() == [92, 60]


def test_assign_gives_the_smallest_object_near_its_centre() -> None:
    net = build_fcos(NUM_CLASSES, SIZE, levels=(8,))
    wide, small = [0.0, 0, 40, 8], [16.0, 0, 24, 8]
    target = {"boxes": torch.tensor([wide, small]), "labels": torch.tensor([1, 2])}
    boxes, labels = net.assign([target, nothing()])
    # Both centres are (20, 4), the points of the row 4, 12, 20, 28, 36: those within 12 pixels of
    # the centre are 12, 20 and 28; the small one holds 20 alone.
    assert labels[0, :5].tolist() == [-1, 1, 2, 1, -1]
    assert boxes[0, 1:4].tolist() == [wide, small, wide]
    assert labels[0, 5:].unique().tolist() == [-1]
    assert labels[1].unique().tolist() == [-1]


@pytest.mark.parametrize(
    ("reach", "side", "stride"),
    [(8, 50, 4), (8, 70, 8), (8, 110, 8), (8, 140, 16), (4, 24, 4), (4, 40, 8), (4, 70, 16)],
)
def test_an_object_belongs_to_the_level_that_reaches_its_sides(
    reach: float, side: float, stride: int
) -> None:
    net = build_fcos(1, (128, 128), backbone=BACKBONE, levels=(4, 8, 16), reach=reach)
    # The points next to its centre are half a side and half a stride from its far sides: less than
    # 32 pixels, 64 or more with a reach of 8, less than 16, 32 or more with 4.
    box = torch.tensor([64 - side / 2, 64 - side / 2, 64 + side / 2, 64 + side / 2])
    _, labels = net.assign([{"boxes": box[None], "labels": torch.tensor([0])}])
    centre = (net.points - 64).abs().amax(-1) <= net.strides / 2
    assert net.strides[(labels[0] == 0) & centre].unique().tolist() == [stride]


def test_decode_gives_boxes_worked_by_hand() -> None:
    net = build_fcos(NUM_CLASSES, SIZE, levels=(8,))
    raw = plain(8 * 12)
    raw["bbox_regression"][0, 13] = torch.tensor([1.0, 0.5, 2, 1]).log()
    raw["bbox_ctrness"][0, 13] = math.log(3)
    raw["cls_logits"][0, 13, 2] = math.log(9)
    decoded = net.decode(raw)
    # Point 13 is (12, 12), with a stride of 8; point 0 is (4, 4) and reaches out of the image.
    assert decoded["boxes"][0, 13].tolist() == [4, 8, 28, 20]
    assert decoded["boxes"][0, 0].tolist() == [0, 0, 12, 12]
    expected = torch.tensor([0.5 * 0.75, 0.5 * 0.75, 0.9 * 0.75]).sqrt()
    torch.testing.assert_close(decoded["scores"][0, :, 13], expected)
    assert decoded["scores"].shape == (1, NUM_CLASSES, 96)


def test_a_perfect_answer_has_no_loss() -> None:
    net = build_fcos(NUM_CLASSES, SIZE, levels=(8,))
    box = torch.tensor([16.0, 16, 24, 24])
    raw = plain(96)
    raw["cls_logits"] -= 30
    raw["cls_logits"][0, 26, 1] = 30
    raw["bbox_regression"][0, 26] = math.log(0.5)
    raw["bbox_ctrness"] += 30
    target = {"boxes": box[None], "labels": torch.tensor([1])}
    losses = net.losses(raw, [target])
    assert max(losses.values()) < 1e-5
    (found,) = net.predict(raw, **KNOBS)
    torch.testing.assert_close(found["boxes"], box[None])
    assert found["labels"].tolist() == [1]


def test_batched_is_one_by_one(net, images, targets) -> None:
    net.eval()
    together = net.predict(net(images), **KNOBS)
    for image, expected in zip(images, together, strict=True):
        (alone,) = net.predict(net(image[None]), **KNOBS)
        assert len(alone["boxes"]) > 5
        for name, value in expected.items():
            torch.testing.assert_close(alone[name], value, atol=1e-4, rtol=1e-4)
    assert all(len(found["boxes"]) <= 20 for found in together)


def test_images_without_objects_give_finite_losses_and_gradients(net, images) -> None:
    losses = net.train().losses(net(images), [nothing()] * 3)
    torch.stack(list(losses.values())).sum().backward()
    assert losses["bbox_regression"] == losses["bbox_ctrness"] == 0
    assert losses["classification"] > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_rows_of_a_class_move_that_class_alone(net, images) -> None:
    net.eval()
    (rows,) = net.class_rows()
    before = net.decode(net(images))
    layer = net.get_submodule(rows.layer)
    assert rows.num_rows(NUM_CLASSES) == len(layer.weight)
    with torch.no_grad():
        layer.weight[rows.indices(1, NUM_CLASSES)] *= 2
    after = net.decode(net(images))
    is_moved = (after["scores"] != before["scores"]).flatten(2).any(2).any(0)
    assert is_moved.tolist() == [False, True, False]
    assert torch.equal(after["boxes"], before["boxes"])


def test_a_pruned_network_trains_and_predicts(net, images, targets) -> None:
    net.eval()
    shapes = {name: value.shape for name, value in net(images).items()}
    before = sum(p.numel() for p in net.parameters())
    torch_pruning.pruner.MagnitudePruner(
        net,
        images,
        importance=torch_pruning.importance.MagnitudeImportance(),
        pruning_ratio=0.5,
        ignored_layers=[net.get_submodule(name) for name in net.output_layers()],
        forward_fn=lambda model, inputs: list(model(inputs).values()),
    ).step()
    assert sum(p.numel() for p in net.parameters()) < 0.4 * before
    assert {name: value.shape for name, value in net(images).items()} == shapes
    losses = net.train().losses(net(images), targets)
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    assert len(net.eval().predict(net(images), **KNOBS)) == 3


def test_timm_backbones_load_a_classifiers_weights_and_give_timms_features() -> None:
    torch.manual_seed(0)
    classifier = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    net = build_fcos(NUM_CLASSES, SIZE, backbone=BACKBONE, levels=(8, 16))
    missing, unexpected = net.backbone.load_state_dict(classifier.state_dict(), strict=False)
    assert not missing
    # The last stages are not built, since no level needs them.
    parts = ("blocks.5", "blocks.6", "conv_head", "bn2", "classifier")
    assert {part for part in parts if any(n.startswith(part) for n in unexpected)} == set(parts)
    assert all(name.startswith(parts) for name in unexpected)
    image = torch.randn(1, 3, *SIZE)
    found = net.backbone.eval()(image)
    expected = classifier.forward_intermediates(image, indices=[2, 3], intermediates_only=True)
    assert [m.shape[-2:] for m in expected] == [(8, 12), (4, 6)]
    for index, value in zip(net.taken, expected, strict=True):
        assert torch.equal(found[index], value)
    assert net.eval()(image)["cls_logits"].shape == (1, 8 * 12 + 4 * 6, NUM_CLASSES)


@pytest.mark.parametrize(
    "name",
    ["tf_efficientnet_lite0", "mobilenetv3_small_050", "resnet18", "convnext_atto", "regnety_002"],
)
def test_no_stage_is_run_past_the_last_level(name: str) -> None:
    maps, channels = build_backbone(f"timm/{name}", (4, 8))
    found = maps(torch.randn(2, 3, 64, 96))
    assert [tuple(m.shape[1:]) for m in found] == [(channels[0], 16, 24), (channels[1], 8, 12)]
    torch.stack([m.sum() for m in found]).sum().backward()
    assert [n for n, p in maps.named_parameters() if p.grad is None] == []


@pytest.mark.skipif(not LITE0.exists(), reason="needs shared/data/weights (REGROW_DATA)")
def test_timm_backbones_load_the_weights_at_hand() -> None:
    net = build_fcos(NUM_CLASSES, SIZE, backbone="timm/tf_efficientnet_lite0")
    state = torch.load(LITE0, weights_only=True)
    missing, _ = net.backbone.load_state_dict(state, strict=False)
    assert not missing
    assert torch.equal(net.backbone.conv_stem.weight, state["conv_stem.weight"].float())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"backbone": "resnet18"}, "backbone: got 'resnet18'; give `small` or `timm/<name>`"),
        ({"backbone": "timm/resnet1"}, "timm has no network 'resnet1'"),
        ({"levels": (2, 8)}, r"levels: got \[2, 8\]; the backbone has strides \[4, 8\]"),
        ({"channels": 0}, "at least one class and channel.* 0 channels"),
    ],
)
def test_what_cannot_be_built_is_refused(args: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        build_fcos(NUM_CLASSES, SIZE, **args)
