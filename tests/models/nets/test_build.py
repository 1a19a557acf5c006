"""Networks by name: their heads, and what a file may not name."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from regrow.data.targets.labels import Kind
from regrow.errors import BadInput
from regrow.models.nets.build import (
    OWN,
    build_net,
    find_class_layers,
    find_class_rows,
    list_nets,
)
from regrow.models.segmentation import Segmentation

SIZE = (32, 32)


class Headless(nn.Module):
    """A net whose outputs no single layer makes."""

    def __init__(self, num_classes: int, width: int = 4) -> None:
        super().__init__()
        self.trunk = nn.Linear(3 * 32 * 32, width)
        self.rows = nn.Parameter(torch.zeros(num_classes, width))

    def forward(self, images: Tensor) -> Tensor:
        return self.trunk(images.flatten(1)) @ self.rows.T


class TwoScales(nn.Module):
    """Score maps of two scales put together, as in ESPNet: two entries a class between them."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 32, 3, 2, 1)
        self.one = nn.Conv2d(16, num_classes, 1)
        self.two = nn.ConvTranspose2d(32, num_classes, 2, 2)
        self.norm = nn.BatchNorm2d(2 * num_classes)
        self.mix = nn.ConvTranspose2d(2 * num_classes, num_classes, 2, 2)

    def forward(self, images: Tensor) -> Tensor:
        fine = self.a(images).relu()
        coarse = self.two(self.b(fine).relu())
        return self.mix(self.norm(torch.cat([self.one(fine), coarse], 1)).relu())


@pytest.fixture
def outsiders(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of an importable module with nets of another's."""
    import sys
    import types

    module: Any = types.ModuleType("foreign_nets")
    module.Headless = Headless
    module.Plain = lambda num_classes, width=4: nn.Sequential(
        nn.Flatten(), nn.Linear(3 * 32 * 32, width), nn.Linear(width, num_classes)
    )
    module.TwoScales = TwoScales
    module.lazy = lambda num_classes: nn.Sequential(
        nn.LazyConv2d(8, 3), nn.Flatten(), nn.LazyLinear(num_classes)
    )
    monkeypatch.setitem(sys.modules, "foreign_nets", module)
    return "foreign_nets"


# ---- names


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in OWN for n in OWN[k] if k != "boxes"])
def test_own_nets_build_and_give_one_score_a_class(kind: Kind, name: str) -> None:
    torch.manual_seed(0)
    net = build_net(kind, name, 7, SIZE).eval()
    with torch.no_grad():
        scores = net(torch.randn(2, 3, *SIZE))
    assert scores.shape == ((2, 7) if kind == "labels" else (2, 7, *SIZE))
    assert scores[0].ne(scores[1]).any()


@pytest.mark.parametrize("name", list(OWN["boxes"]))
def test_own_detectors_build(name: str) -> None:
    net = build_net("boxes", name, 7, SIZE).eval()
    with torch.no_grad():
        outputs = net(torch.randn(2, 3, *SIZE))
    assert all(len(value) == 2 for value in outputs.values())
    wider = dict(build_net("boxes", name, 8, SIZE).named_parameters())
    assert any(value.shape != wider[key].shape for key, value in net.named_parameters())


@pytest.mark.parametrize("name", ["torchvision/mobilenet_v3_small", "timm/mobilenetv3_small_050"])
def test_library_classifiers_get_the_right_head(name: str) -> None:
    net = build_net("labels", name, 7, SIZE).eval()
    with torch.no_grad():
        assert net(torch.randn(2, 3, *SIZE)).shape == (2, 7)


@pytest.mark.parametrize(
    "name", ["torchvision/lraspp_mobilenet_v3_large", "torchvision/fcn_resnet50"]
)
def test_library_segmenters_get_the_right_head_without_fetching(name: str) -> None:
    with torch.device("meta"):
        net = build_net("masks", name, 7, (64, 64))
        outputs = net.eval()(torch.zeros(2, 3, 64, 64))
    assert outputs["out"].shape == (2, 7, 64, 64)
    assert "aux" not in outputs


def test_arguments_reach_the_net() -> None:
    net = build_net("labels", "small", 3, SIZE, {"width": 8})
    assert net.get_parameter("head.weight").shape == (3, 32)


@pytest.mark.parametrize("name", ["torchvision/googlenet", "torchvision/inception_v3"])
def test_nets_with_auxiliary_heads_build_without_them(name: str) -> None:
    with torch.device("meta"), warnings.catch_warnings():
        net = build_net("labels", name, 3, (299, 299))
        assert net(torch.zeros(2, 3, 299, 299)).shape == (2, 3)


def test_lists_hold_own_and_library_nets_of_the_kind() -> None:
    for kind in OWN:
        assert set(OWN[kind]) <= set(list_nets(kind))
        assert len(list_nets(kind)) == len(set(list_nets(kind)))
    assert {"torchvision/resnet18", "timm/resnet18"} <= set(list_nets("labels"))
    assert "torchvision/retinanet_resnet50_fpn" in list_nets("boxes")
    assert "torchvision/deeplabv3_resnet50" in list_nets("masks")
    assert "torchvision/resnet18" not in list_nets("masks") + list_nets("boxes")


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        (
            "labels",
            "torchvision/resnet19",
            "unknown for labels; did you mean .*torchvision/resnet1",
        ),
        ("labels", "timm/resnet1888", "unknown for labels; did you mean .*timm/resnet18"),
        ("labels", "smal", "unknown for labels; did you mean small"),
        ("labels", "0", r"unknown for labels; see regrow\.models\.nets\.build\.list_nets"),
        ("masks", "timm/resnet18", "unknown for masks; "),
        ("masks", "torchvision/resnet18", "unknown for masks; did you mean .*resnet"),
        ("labels", "no_such_package.Net", r"'no_such_package\.Net' cannot be imported"),
        ("labels", "torch.nn.NoSuchNet", r"'torch\.nn\.NoSuchNet' cannot be imported"),
    ],
)
def test_unknown_names_are_refused_with_near_ones(kind: Kind, name: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        build_net(kind, name, 2, SIZE)


def test_unknown_arguments_are_refused_by_name() -> None:
    with pytest.raises(BadInput, match=r"net 'small' with net_args \{'deep': 3\}: .*'deep'"):
        build_net("labels", "small", 2, SIZE, {"deep": 3})


def test_own_nets_have_no_pretrained_weights() -> None:
    with pytest.raises(BadInput, match="net 'small' has no pretrained weights; give a file"):
        build_net("labels", "small", 2, SIZE, weights="DEFAULT")


def test_nets_by_import_path_are_called_with_classes_and_arguments(outsiders: str) -> None:
    net = build_net("labels", f"{outsiders}.Plain", 3, SIZE, {"width": 5})
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
    assert net.get_parameter("1.weight").shape == (5, 3 * 32 * 32)


# ---- what a file may name


@pytest.mark.parametrize(
    ("kind", "name", "layers"),
    [
        ("labels", "small", ["head"]),
        ("labels", "cifar_resnet20", ["linear"]),
        ("labels", "torchvision/resnet18", ["fc"]),
        ("labels", "torchvision/mobilenet_v3_small", ["classifier.3"]),
        ("labels", "torchvision/vit_b_32", ["heads.head"]),
        ("labels", "torchvision/squeezenet1_1", ["classifier.1"]),
        ("labels", "timm/resnet18", ["fc"]),
        ("labels", "timm/mobilenetv3_small_050", ["classifier"]),
        ("labels", "timm/vit_tiny_patch16_224", ["head"]),
        ("labels", "timm/convnext_atto", ["head.fc"]),
        ("masks", "small", ["head"]),
        ("masks", "lraspp", ["head"]),
        ("masks", "torchvision/deeplabv3_resnet50", ["classifier.4"]),
        (
            "masks",
            "torchvision/lraspp_mobilenet_v3_large",
            ["classifier.low_classifier", "classifier.high_classifier"],
        ),
    ],
)
def test_class_rows_name_the_head(kind: Kind, name: str, layers: list[str]) -> None:
    size = (224, 224)
    rows = find_class_rows(kind, name, size)
    assert [row.layer for row in rows] == layers
    assert all((r.num_anchors, r.background, r.rows_per_class) == (1, 0, 1) for r in rows)
    with torch.device("meta"):
        net = build_net(kind, name, 11, size)
    for row in rows:
        assert net.get_parameter(f"{row.layer}.weight").shape[0] == row.num_rows(11)


def test_class_rows_depend_on_the_arguments() -> None:
    name = "torchvision/deeplabv3_resnet50"
    rows = find_class_rows("masks", name, (64, 64), {"aux_loss": True})
    assert [row.layer for row in rows] == ["classifier.4", "aux_classifier.4"]
    assert [row.layer for row in find_class_rows("masks", name, (64, 64))] == ["classifier.4"]


@pytest.mark.parametrize("name", ["Headless", "Plain"])
def test_class_rows_of_other_peoples_nets(outsiders: str, name: str) -> None:
    path = f"{outsiders}.{name}"
    if name == "Plain":
        assert [row.layer for row in find_class_rows("labels", path, SIZE)] == ["2"]
        return
    with pytest.raises(BadInput, match="cannot tell which of its rows belong to which class"):
        find_class_rows("labels", path, SIZE)
    with pytest.raises(BadInput, match=r"rows \(a parameter\) changes with the number of classes"):
        find_class_layers("labels", path, SIZE)


def test_layers_with_several_rows_a_class_are_named_though_growth_refuses_them(
    outsiders: str,
) -> None:
    path = f"{outsiders}.TwoScales"
    layers = ["one", "two", "norm", "mix"]
    assert find_class_layers("masks", path, SIZE) == layers
    with pytest.raises(BadInput, match="two, norm, mix change with the classes"):
        find_class_rows("masks", path, SIZE)
    task = Segmentation(["a", "b", "c"], SIZE, net=path)
    assert task.output_layers() == layers
    losses = task.losses(task(task.example_images(2)), torch.zeros(2, *SIZE, dtype=torch.uint8))
    assert losses["ce"].isfinite()


def test_a_net_with_layers_of_no_shape_is_bad_input(outsiders: str) -> None:
    with pytest.raises(BadInput, match=r"0 is a LazyConv2d that has no shape yet; give the layer"):
        build_net("labels", f"{outsiders}.lazy", 3, SIZE)
