"""Torchvision's own `forward` is the oracle: same weights, same images, no resizing."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import detection, get_model_weights
from torchvision.models.detection import backbone_utils
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from regrow.errors import BadInput
from regrow.models.distillation_losses import Shared
from regrow.models.nets.detector import Detector
from regrow.models.nets.faster_rcnn import FasterRcnn
from regrow.models.nets.one_stage import RetinaNet, Ssd, TorchvisionFcos
from regrow.models.nets.torchvision_detectors import build_detector

SIZE = (96, 96)
NUM_CLASSES = 3
KNOBS: dict[str, Any] = {"score_threshold": 0.05, "iou_threshold": 0.5, "max_detections": 40}


class Identity(nn.Module):
    """Stands in for torchvision's resizing and normalising."""

    def forward(self, images: list[Tensor], targets: Any = None) -> tuple[ImageList, Any]:
        return ImageList(torch.stack(images), [tuple(i.shape[-2:]) for i in images]), targets

    def postprocess(self, result: Any, shapes: Any, originals: Any) -> Any:
        return result


def small_backbone() -> nn.Module:
    return backbone_utils.mobilenet_backbone(
        backbone_name="mobilenet_v3_small",
        weights=None,
        norm_layer=nn.BatchNorm2d,
        fpn=True,
        trainable_layers=6,
    )


def ssd() -> Ssd:
    net = build_detector("ssdlite320_mobilenet_v3_large", NUM_CLASSES, SIZE)
    assert isinstance(net, Ssd)
    return net


def retinanet() -> RetinaNet:
    sizes = ((16, 24), (32, 48), (64, 80))
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 3)
    net = detection.RetinaNet(small_backbone(), NUM_CLASSES, anchor_generator=anchors)
    return RetinaNet(net, SIZE)


def fcos() -> TorchvisionFcos:
    anchors = AnchorGenerator(((16,), (32,), (64,)), ((1.0,),) * 3)
    net = detection.FCOS(small_backbone(), NUM_CLASSES, anchor_generator=anchors)
    return TorchvisionFcos(net, SIZE)


def faster_rcnn() -> FasterRcnn:
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    net = build_detector(name, NUM_CLASSES, SIZE, {"rpn_score_thresh": 0.0})
    assert isinstance(net, FasterRcnn)
    return net


FAMILIES = {"ssd": ssd, "retinanet": retinanet, "fcos": fcos, "faster_rcnn": faster_rcnn}


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> Detector:
    torch.manual_seed(0)
    net = FAMILIES[request.param]()
    # Heads that start near zero give every box the same score.
    for module in getattr(net.detector, "head", net).modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    # Statistics as after training: with the initial ones most maps vanish in evaluation.
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.5
    net.train()
    with torch.no_grad():
        for _ in range(6):
            net(torch.randn(8, 3, *SIZE))
    return net


@pytest.fixture
def net(family: Detector) -> Detector:
    return copy.deepcopy(family)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def targets() -> list[dict[str, Tensor]]:
    return [
        {
            "boxes": torch.tensor([[5.0, 8, 40, 50], [50, 40, 90, 88], [60, 5, 85, 30]]),
            "labels": torch.tensor([0, 2, 1]),
        },
        {"boxes": torch.tensor([[20.0, 10, 80, 90]]), "labels": torch.tensor([1])},
    ]


def nothing() -> dict[str, Tensor]:
    return {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def torchvision_of(net: Any) -> Any:
    oracle = copy.deepcopy(net.detector)
    oracle.transform = Identity()
    return oracle


def background(net: Detector) -> int:
    return net.class_rows()[0].background


def test_losses_are_torchvisions(net, images, targets) -> None:
    targets = [*targets, nothing()]
    images = torch.cat([images, images[:1]])
    shifted = [{"boxes": t["boxes"], "labels": t["labels"] + background(net)} for t in targets]
    oracle = torchvision_of(net).train()
    torch.manual_seed(3)
    expected = oracle(list(images), shifted)
    net.train()
    torch.manual_seed(3)
    losses = net.losses(net(images), targets)
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, msg=name)


def test_detections_are_torchvisions(net, images) -> None:
    oracle = torchvision_of(net).eval()
    part = getattr(oracle, "roi_heads", oracle)
    part.score_thresh, part.nms_thresh, part.detections_per_img = 0.05, 0.5, 40
    oracle.topk_candidates = 1000
    net.eval()
    with torch.no_grad():
        expected = oracle(list(images))
        detections = net.predict(net(images), **KNOBS)
    assert min(len(e["boxes"]) for e in expected) > 5
    for found, right in zip(detections, expected, strict=True):
        torch.testing.assert_close(found["scores"], right["scores"])
        torch.testing.assert_close(found["boxes"], right["boxes"])
        assert torch.equal(found["labels"], right["labels"] - background(net))
        assert set(found["labels"].tolist()) <= set(range(NUM_CLASSES))


def test_raw_outputs_are_the_same_tensors_in_training_and_evaluation(net, images) -> None:
    evaluated = net.eval()(images)
    trained = net.train()(images)
    assert list(evaluated) == list(trained)
    assert {k: v.shape for k, v in evaluated.items()} == {k: v.shape for k, v in trained.items()}
    assert all(v.requires_grad for v in [*evaluated.values(), *trained.values()])


def test_batched_is_one_by_one(net, images) -> None:
    net.eval()
    with torch.no_grad():
        together = net.predict(net(images), **KNOBS)
        for image, expected in zip(images, together, strict=True):
            (alone,) = net.predict(net(image[None]), **KNOBS)
            torch.testing.assert_close(alone["boxes"], expected["boxes"], atol=1e-3, rtol=1e-4)
            torch.testing.assert_close(alone["scores"], expected["scores"], atol=1e-5, rtol=1e-4)
            assert torch.equal(alone["labels"], expected["labels"])


def test_images_without_objects_give_finite_losses_and_gradients(net, images) -> None:
    net.train()
    losses = net.losses(net(images), [nothing(), nothing()])
    torch.stack(list(losses.values())).sum().backward()
    assert all(value.isfinite() for value in losses.values())
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


def test_rows_of_a_class_move_that_class_alone(net, images) -> None:
    net.eval()
    with torch.no_grad():
        before = net(images)
        for rows in net.class_rows():
            layer = net.get_submodule(rows.layer)
            assert rows.num_rows(NUM_CLASSES) == len(layer.weight)
            layer.bias[rows.indices(1, NUM_CLASSES)] += 1
        after = net(images)
    expected = before["cls_logits"].clone()
    expected[..., background(net) + 1] += 1
    torch.testing.assert_close(after["cls_logits"], expected)
    expected = before["bbox_regression"].clone()
    if isinstance(net, FasterRcnn):  # a box a class
        expected.unflatten(-1, (1 + NUM_CLASSES, 4))[..., 2, :] += 1
    torch.testing.assert_close(after["bbox_regression"], expected)


def teacher_of(net: Detector) -> Detector:
    """Return a network that finds something else, and as much."""
    teacher = copy.deepcopy(net)
    with torch.no_grad():
        for name in net.output_layers():
            bias = teacher.get_submodule(name).bias
            bias += 0.5 * torch.randn(bias.shape, generator=torch.Generator().manual_seed(2))
    return teacher


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_nothing_draws_a_network_away_from_its_equal(net, images, precision) -> None:
    net.eval()
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        with torch.no_grad():
            wanted = net(images)
        raw = net(images)
        distance = net.distillation_loss(raw, wanted, Shared())
    grads = torch.autograd.grad(distance, list(net.parameters()), allow_unused=True)
    assert distance.item() == pytest.approx(0, abs=1e-9)
    assert max(float(grad.abs().max()) for grad in grads if grad is not None) < 1e-5


def test_distillation_loss_of_a_batch_is_the_mean_of_its_images(net, images) -> None:
    teacher = teacher_of(net).eval()
    net.eval()
    with torch.no_grad():
        together = net.distillation_loss(net(images), teacher(images), Shared())
        alone = [net.distillation_loss(net(i[None]), teacher(i[None]), Shared()) for i in images]
    assert together > 0
    torch.testing.assert_close(together, torch.stack(alone).mean(), rtol=1e-3, atol=1e-6)


def test_every_output_layer_is_drawn_to_the_teacher(net, images) -> None:
    teacher = teacher_of(net).eval()
    net.eval()
    with torch.no_grad():
        wanted = teacher(images)
    net.distillation_loss(net(images), wanted, Shared()).backward()
    for name in net.output_layers():
        assert net.get_submodule(name).weight.grad.abs().max() > 0, name


def test_distillation_loss_finds_classes_in_another_order(net, images) -> None:
    other, order = copy.deepcopy(net).eval(), [2, 0, 1]
    with torch.no_grad():
        for rows in net.class_rows():
            source, target = net.get_submodule(rows.layer), other.get_submodule(rows.layer)
            for place, old in enumerate(order):
                new = rows.indices(place, NUM_CLASSES)
                target.weight[new] = source.weight[rows.indices(old, NUM_CLASSES)]
                target.bias[new] = source.bias[rows.indices(old, NUM_CLASSES)]
        net.eval()
        raw, wanted = net(images), other(images)
        assert net.distillation_loss(raw, wanted, Shared()) > 1e-4
        matched = net.distillation_loss(raw, wanted, Shared(own=order, theirs=[0, 1, 2]))
        assert matched == pytest.approx(0, abs=1e-7)


def test_output_layers_are_the_last_ones(net) -> None:
    layers = [net.get_submodule(name) for name in net.output_layers()]
    assert all(isinstance(layer, nn.Conv2d | nn.Linear) for layer in layers)
    assert {rows.layer for rows in net.class_rows()} <= set(net.output_layers())


def test_networks_rebuild_from_their_state_bit_for_bit(net, images) -> None:
    other = copy.deepcopy(net)
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    other.load_state_dict(net.state_dict())
    assert not [name for name in net.state_dict() if "anchors" in name]
    first, second = net.eval()(images), other.eval()(images)
    assert all(torch.equal(first[name], second[name]) for name in first)


def pretend_download(monkeypatch: pytest.MonkeyPatch, name: str) -> dict[str, Tensor]:
    """Let torchvision find random COCO weights, statistics and all."""
    torch.manual_seed(0)
    builder: Callable[..., nn.Module] = getattr(detection, name)
    donor = builder(weights=None, weights_backbone=None)
    for layer in donor.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias)
            nn.init.normal_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    state = donor.state_dict()
    weights = type(get_model_weights(name).DEFAULT)
    monkeypatch.setattr(weights, "get_state_dict", lambda *args, **kwargs: dict(state))
    return state


@pytest.mark.parametrize(
    "name",
    ["fasterrcnn_mobilenet_v3_large_320_fpn", "retinanet_resnet50_fpn"],
)
def test_pretrained_backbones_are_torchvisions_with_plain_batch_norms(
    monkeypatch: pytest.MonkeyPatch, images: Tensor, name: str
) -> None:
    pretend_download(monkeypatch, name)
    oracle = getattr(detection, name)(weights="DEFAULT").eval()
    assert "FrozenBatchNorm2d" in {type(m).__name__ for m in oracle.modules()}
    net: Any = build_detector(name, NUM_CLASSES, SIZE, weights="DEFAULT").eval()
    assert "FrozenBatchNorm2d" not in {type(m).__name__ for m in net.modules()}
    assert all(p.requires_grad for p in net.parameters())
    with torch.no_grad():
        # In float64: what single precision rounds off grows from layer to layer. It has rounded the
        # variances already.
        expected = oracle.double().backbone(images.double())
        found = net.double().detector.backbone(images.double())
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=1e-3, rtol=1e-3)


def test_pretrained_weights_get_new_class_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "ssdlite320_mobilenet_v3_large"
    state = pretend_download(monkeypatch, name)
    net: Any = build_detector(name, NUM_CLASSES, SIZE, weights="DEFAULT")
    new = {rows.layer.removeprefix("detector.") for rows in net.class_rows()}
    for key, value in net.detector.state_dict().items():
        if key.rpartition(".")[0] in new:
            assert len(value) == 6 * (1 + NUM_CLASSES)
        else:
            assert torch.equal(value, state[key]), key


def test_pretrained_weights_of_another_network_are_refused(monkeypatch) -> None:
    name = "ssdlite320_mobilenet_v3_large"
    state = pretend_download(monkeypatch, name)
    state["head.more"] = torch.zeros(1)
    with pytest.raises(BadInput, match=r"does not fit.*head\.more"):
        build_detector(name, NUM_CLASSES, SIZE, weights="DEFAULT")


@pytest.mark.parametrize(
    ("name", "size", "args", "weights", "message"),
    [
        ("retinanet", SIZE, {}, None, "no detector 'retinanet'.*retinanet_resnet50_fpn"),
        ("maskrcnn_resnet50_fpn", SIZE, {}, None, "no detector 'maskrcnn_resnet50_fpn'"),
        ("retinanet_resnet50_fpn", SIZE, {"depth": 3}, None, r"no argument depth.*bg_iou_thresh"),
        ("ssdlite320_mobilenet_v3_large", SIZE, {"min_size": 3}, None, "no argument min_size"),
        ("ssdlite320_mobilenet_v3_large", SIZE, {"iou_thresh": "x"}, None, "iou_thresh.*number"),
        ("retinanet_resnet50_fpn", SIZE, {"fg_iou_thresh": 0.1}, None, "net_args: .*low_threshold"),
        ("ssdlite320_mobilenet_v3_large", SIZE, {}, "IMAGENET1K_V1", "weights: 'IMAGENET1K_V1'"),
        ("ssd300_vgg16", (96, 96), {}, None, "cannot take images of 96 x 96"),
    ],
)
def test_what_cannot_be_built_is_refused(name, size, args, weights, message) -> None:
    with pytest.raises(BadInput, match=message):
        build_detector(name, NUM_CLASSES, size, args, weights)
