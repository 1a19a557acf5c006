"""Networks by name: their heads, their weights, and what a file may not name."""

import math
import pickle
import urllib.error
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from regrow.data.errors import BadInput
from regrow.data.formats import Torchvision
from regrow.data.module import GrowingData
from regrow.data.snapshot import Kind
from regrow.models.cifar import CifarResNet, PadShortcut
from regrow.models.classification import Classification
from regrow.models.cost import count_macs
from regrow.models.evaluation import evaluate
from regrow.models.lraspp import Lraspp, build_lraspp
from regrow.models.nets import (
    OWN,
    build_net,
    check_name,
    find_class_rows,
    list_nets,
    load_weights_,
)
from regrow.models.small import SmallBackbone, SmallClassifier

SIZE = (32, 32)


class Headless(nn.Module):
    """A net whose outputs no single layer makes."""

    def __init__(self, num_classes: int, width: int = 4) -> None:
        super().__init__()
        self.trunk = nn.Linear(3 * 32 * 32, width)
        self.rows = nn.Parameter(torch.zeros(num_classes, width))

    def forward(self, images: Tensor) -> Tensor:
        return self.trunk(images.flatten(1)) @ self.rows.T


class Wrapped(nn.Module):
    """A net with a backbone of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = SmallBackbone(4)
        self.head = nn.Conv2d(16, 2, 1)


@pytest.fixture
def outsiders(monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the name of an importable module with nets of another's."""
    import sys
    import types

    module: Any = types.ModuleType("foreign_nets")
    module.Headless = Headless
    module.Plain = lambda num_classes, width=4: nn.Sequential(
        nn.Flatten(), nn.Linear(3 * 32 * 32, width), nn.Linear(width, num_classes)
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
        ("labels", "0", r"unknown for labels; see regrow\.models\.nets\.list_nets"),
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


# ---- pretrained weights of a library, without a network


@pytest.mark.parametrize(
    ("name", "head"), [("resnet18", "fc."), ("googlenet", "fc."), ("inception_v3", "fc.")]
)
def test_pretrained_trunk_is_taken_and_the_head_stays_fresh(
    name: str, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    options = {} if name == "resnet18" else {"init_weights": False, "aux_logits": True}
    given = torchvision.models.get_model(name, weights=None, **options)
    state = {key: torch.rand_like(v.float()).to(v.dtype) for key, v in given.state_dict().items()}
    monkeypatch.setattr(
        torchvision.models.WeightsEnum, "get_state_dict", lambda *args, **kwargs: state
    )
    net = build_net("labels", f"torchvision/{name}", 7, SIZE, weights="DEFAULT")
    own = net.state_dict()
    assert own[f"{head}weight"].shape[0] == 7
    assert not [key for key in own if "aux" in key.lower()]
    trunk = [key for key in own if not key.startswith(head)]
    assert len(trunk) > 50
    for key in trunk:
        assert torch.equal(own[key], state[key]), key
    if name != "resnet18":
        # These weights were made for images normalised in another way, which the net does itself.
        assert net.transform_input is True


def test_timm_is_asked_for_pretrained_weights_only_if_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def create(name: str, pretrained: bool, num_classes: int, **args: Any) -> nn.Module:
        asked.append((name, pretrained, num_classes, args))
        return nn.Identity()

    monkeypatch.setattr("regrow.models.nets.timm.create_model", create)
    build_net("labels", "timm/resnet18", 3, SIZE, {"drop_rate": 0.5})
    build_net("labels", "timm/resnet18", 3, SIZE, weights="DEFAULT")
    assert asked == [("resnet18", False, 3, {"drop_rate": 0.5}), ("resnet18", True, 3, {})]


def test_weights_out_of_reach_are_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: Any, **kwargs: Any) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", unreachable)
    with pytest.raises(BadInput, match=r"resnet18': its pretrained weights cannot be had .*local"):
        build_net("labels", "torchvision/resnet18", 2, SIZE, weights="DEFAULT")


@pytest.mark.parametrize(("kind", "name"), [("boxes", "fcos"), ("masks", "lraspp")])
@pytest.mark.parametrize("weights", ["DEFAULT", None])
def test_own_heads_take_timms_weights_for_their_backbone(
    kind: Kind, name: str, weights: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = timm.create_model

    def downloaded(*args: Any, pretrained: bool, **options: Any) -> nn.Module:
        net = create(*args, pretrained=False, **options)
        if pretrained:
            for weight in net.parameters():
                nn.init.constant_(weight, 0.25)
        return net

    monkeypatch.setattr(timm, "create_model", downloaded)
    args = {"backbone": "timm/mobilenetv3_small_050"}
    net = build_net(kind, name, 2, (64, 64), args, weights)
    backbone = {n for n, _ in net.named_parameters() if n.startswith("backbone.")}
    given = {n for n, v in net.named_parameters() if v.numel() > 1 and (v == 0.25).all()}
    assert given == (backbone if weights else set())
    assert len(backbone) > 20


# ---- weights from a file


def _saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def _same(net: nn.Module, other: nn.Module, prefix: str = "") -> set[bool]:
    theirs = other.state_dict()
    return {torch.equal(v, theirs[prefix + n]) for n, v in net.state_dict().items()}


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "n": 1}])
def test_a_local_file_is_loaded_whole(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    given = SmallClassifier(3, 4)
    path = _saved(tmp_path / "w.pth", wrap(given.state_dict()))
    net = build_net("labels", "small", 3, SIZE, {"width": 4}, str(path))
    assert _same(net, given) == {True}


def test_a_file_of_half_precision_is_cast(tmp_path: Path) -> None:
    given = SmallClassifier(3, 4).half()
    net = SmallClassifier(3, 4)
    load_weights_(net, _saved(tmp_path / "w.pth", given.state_dict()))
    assert net.head.weight.dtype == torch.float32
    assert torch.equal(net.head.weight, given.head.weight.float())


def test_a_head_of_another_number_of_classes_stays_fresh(tmp_path: Path) -> None:
    given, net = SmallClassifier(5, 4), SmallClassifier(3, 4)
    before = net.head.weight.detach().clone()
    load_weights_(net, _saved(tmp_path / "w.pth", given.state_dict()))
    assert torch.equal(net.head.weight, before)
    head = ("head.weight", "head.bias")
    theirs = given.state_dict()
    assert all(torch.equal(v, theirs[n]) for n, v in net.state_dict().items() if n not in head)


def test_a_file_of_the_backbone_goes_into_the_backbone(tmp_path: Path) -> None:
    given, net = SmallBackbone(4), Wrapped()
    before = net.head.weight.detach().clone()
    load_weights_(net, _saved(tmp_path / "w.pth", given.state_dict()))
    assert _same(net.backbone, given) == {True}
    assert torch.equal(net.head.weight, before)


def test_weights_of_another_net_are_refused_and_nothing_is_loaded(tmp_path: Path) -> None:
    net = SmallClassifier(3, 4)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    for number, other in enumerate([SmallClassifier(3, 8), SmallBackbone(4), nn.Linear(2, 2)]):
        path = _saved(tmp_path / f"{number}.pth", other.state_dict())
        with pytest.raises(BadInput, match="does not fit, .* tensors have no counterpart"):
            load_weights_(net, path)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_one_missing_tensor_is_refused_by_name(tmp_path: Path) -> None:
    state = SmallClassifier(3, 4).state_dict()
    del state["one.second.weight"]
    path = _saved(tmp_path / "w.pth", state)
    with pytest.raises(BadInput, match=r"1 of \d+ tensors .* such as one\.second\.weight"):
        load_weights_(SmallClassifier(3, 4), path)


def test_a_file_with_pickled_code_is_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Hostile:
        def __reduce__(self) -> Any:
            return Path.touch, (marker,)

    path = _saved(tmp_path / "w.pth", {"head.weight": Hostile()})
    with pytest.raises(BadInput, match="not a plain state dict that loads safely"):
        load_weights_(SmallClassifier(3, 4), path)
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Hostile(), protocol=2))
    with pytest.raises(BadInput, match="not a plain state dict that loads safely"):
        load_weights_(SmallClassifier(3, 4), tmp_path / "raw.pth")
    assert not marker.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04" + b"x" * 50])
def test_a_broken_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(BadInput, match="not a plain state dict that loads safely"):
        load_weights_(SmallClassifier(3, 4), tmp_path / "w.pth")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = _saved(tmp_path / "w.pth", SmallClassifier(3, 4).state_dict())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadInput, match="not a plain state dict that loads safely"):
        load_weights_(SmallClassifier(3, 4), path)


@pytest.mark.parametrize("content", [torch.zeros(3), [torch.zeros(3)], {"epoch": 3}, "text"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(BadInput, match="not a plain state dict of tensors"):
        load_weights_(SmallClassifier(3, 4), _saved(tmp_path / "w.pth", content))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file; give `DEFAULT` or a local state dict"):
        load_weights_(SmallClassifier(3, 4), tmp_path / "w.pth")
    with pytest.raises(BadInput, match="no such file"):
        load_weights_(SmallClassifier(3, 4), tmp_path)


# ---- what a file may name


@pytest.mark.parametrize(
    ("kind", "name", "args"),
    [
        ("labels", "small", {"width": 8}),
        ("labels", "torchvision/resnet18", {"zero_init_residual": True}),
        ("labels", "timm/resnet18", {"drop_rate": 0.1, "block_args": {"attn_layer": "se"}}),
        ("masks", "lraspp", {"backbone": "timm/mobilenetv3_small_100", "levels": [4, 8]}),
        ("boxes", "fcos", {}),
    ],
)
def test_listed_names_with_plain_arguments_may_be_named(
    kind: Kind, name: str, args: dict[str, Any]
) -> None:
    check_name(kind, name, args)


@pytest.mark.parametrize(
    "name",
    ["os.system", "subprocess.Popen", "timm/hf-hub:someone/net", "torchvision/none", "nothing",
     "timm/local-dir:/tmp", "torch.hub.load", "regrow.models.cifar.CifarResNet", "timm/", ""],
)  # fmt: skip
def test_names_outside_the_lists_are_refused(name: str) -> None:
    with pytest.raises(BadInput, match="which is none of regrow's, torchvision's or timm's"):
        check_name("labels", name, {})


def test_nets_of_another_kind_are_refused() -> None:
    with pytest.raises(BadInput, match="names the network 'timm/resnet18'"):
        check_name("masks", "timm/resnet18", {})


@pytest.mark.parametrize("name", [None, 3, ["small"], {"small": 1}])
def test_names_of_another_type_are_refused(name: Any) -> None:
    with pytest.raises(BadInput, match=f"its network's name is a {type(name).__name__}"):
        check_name("labels", name, {})


def test_foreign_packages_may_be_named_only_if_allowed() -> None:
    with pytest.raises(BadInput, match=r"allow its package: --allow '\[foreign\]'"):
        check_name("labels", "foreign.nets.Net", {})
    with pytest.raises(BadInput, match="names the network"):
        check_name("labels", "foreign.nets.Net", {}, ["other", "foreign.nets"])
    check_name("labels", "foreign.nets.Net", {}, ["foreign"])
    with pytest.raises(BadInput, match="names the network"):
        check_name("labels", "foreign/nets.Net", {}, ["foreign", "foreign/nets"])
    with pytest.raises(BadInput, match="has the argument 'weights'"):
        check_name("labels", "foreign.nets.Net", {"weights": "DEFAULT"}, ["foreign"])


@pytest.mark.parametrize(
    "name",
    ["weights", "weights_backbone", "pretrained", "pretrained_backbone", "pretrained_cfg",
     "pretrained_cfg_overlay", "pretrained_strict", "checkpoint_path", "cache_dir", "url", "file",
     "hf_hub_id"],
)  # fmt: skip
@pytest.mark.parametrize("nest", [lambda a: a, lambda a: {"inner": a}, lambda a: {"inner": [a]}])
def test_arguments_that_load_something_are_refused(
    name: str, nest: Callable[[Any], dict[str, Any]]
) -> None:
    with pytest.raises(BadInput, match=f"has the argument '{name}', which a file may not give"):
        check_name("labels", "timm/resnet18", nest({name: True}))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"a": "https://example.org/w.pth"}, "argument 'a' is an address"),
        ({"a": "file:///tmp/w.pth"}, "argument 'a' is an address"),
        ({"a": "hf-hub:someone/net"}, "argument 'a' is an address"),
        ({"a": ["x", ("hub/net",)]}, "argument 'a' is an address"),
        ({"a": {"b": "s3://bucket"}}, "argument 'b' is an address"),
        ({"a": torch.zeros(1)}, "argument 'a' is a Tensor"),
        ({"a": {"b": [object()]}}, "argument 'b' is a object"),
        ({3: 4}, "has the argument 3, which a file may not give"),
    ],
)
def test_arguments_that_are_no_plain_data_are_refused(args: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check_name("labels", "small", args)


# ---- class rows


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


# ---- own nets in detail


@pytest.mark.parametrize(
    ("depth", "published", "exact"),
    [(20, 0.27e6, 269_722), (32, 0.46e6, 464_154), (56, 0.85e6, 853_018)],
)
def test_cifar_resnets_have_the_papers_parameters(depth: int, published: float, exact: int) -> None:
    # Table 6 of the paper, and its own arithmetic: 3x3 filters, two norms a block, a linear layer.
    blocks = (depth - 2) // 6
    filters, norms = 3 * 16 * 9, 2 * 16
    for inputs, width in ((16, 16), (16, 32), (32, 64)):
        filters += (inputs * width + (2 * blocks - 1) * width**2) * 9
        norms += 2 * 2 * blocks * width
    expected = filters + norms + 64 * 10 + 10
    count = sum(parameter.numel() for parameter in CifarResNet(depth, 10).parameters())
    assert count == expected
    assert count == pytest.approx(published, rel=0.02)
    assert count == exact


def test_cifar_resnet_costs_what_is_published() -> None:
    # 41 million for ResNet-20, akamaster/pytorch_resnet_cifar10 and many others.
    task = Classification([str(n) for n in range(10)], SIZE, net="cifar_resnet20")
    assert count_macs(task) == pytest.approx(41e6, rel=0.02)


@pytest.mark.parametrize("depth", [2, 7, 18, 21])
def test_cifar_resnets_of_other_depths_are_refused(depth: int) -> None:
    with pytest.raises(ValueError, match=rf"depth is {depth}; a CIFAR ResNet has 6 n \+ 2 layers"):
        CifarResNet(depth, 10)


def test_shortcut_takes_every_second_pixel_and_pads_channels_on_both_sides() -> None:
    maps = torch.arange(2 * 4 * 4.0).view(1, 2, 4, 4)
    padded = PadShortcut(3)(maps)
    assert padded.shape == (1, 5, 2, 2)
    assert padded[0, 1].tolist() == [[0, 2], [8, 10]]
    assert padded[0, 2].tolist() == [[16, 18], [24, 26]]
    assert padded[0, [0, 3, 4]].abs().sum() == 0


@pytest.mark.parametrize("backbone", ["timm/", "timm/none", "resnet18", "torchvision/resnet18"])
def test_lraspp_refuses_unknown_backbones(backbone: str) -> None:
    with pytest.raises(BadInput, match=r"net_args\.backbone: (got|timm has no network) '"):
        build_lraspp(2, backbone=backbone)


@pytest.mark.parametrize("levels", [[], [3], [4, 64]])
def test_lraspp_refuses_levels_that_the_backbone_lacks(levels: list[int]) -> None:
    with pytest.raises(
        BadInput, match=r"net_args\.levels: got .*; the backbone has strides \[2, 4"
    ):
        build_lraspp(2, backbone="timm/mobilenetv3_small_050", levels=levels)


def test_lraspp_takes_a_timm_backbone_at_the_levels_asked_for() -> None:
    torch.manual_seed(0)
    net = build_lraspp(3, backbone="timm/mobilenetv3_small_050", levels=[16, 4], width=8).eval()
    maps = net.backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(level.shape[-2:]) for level in maps] == [(16, 24), (4, 6)]
    assert net(torch.zeros(1, 3, 64, 96)).shape == (1, 3, 64, 96)


def test_lraspp_with_constant_maps_worked_by_hand() -> None:
    class Constant(nn.Module):
        def forward(self, images: Tensor) -> list[Tensor]:
            return [torch.full((1, 1, 4, 4), 2.0), torch.full((1, 1, 2, 2), 3.0)]

    net = Lraspp(Constant(), [1, 1], 2, 1).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(1)
        net.head.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        net.head.bias.zero_()
        scores = net(torch.zeros(1, 3, 8, 8))
    # Every block is (filter sum + 1) with ReLU; the norm's running statistics are 0 and 1.
    norm = 1 / math.sqrt(1 + 1e-5)
    gate = 1 / (1 + math.exp(-(3 + 1)))
    summed = (3 * norm + 1) * gate + (2 * norm + 1)
    # In the middle a 3x3 filter of ones sees nine equal values, at the corner four.
    assert float(scores[0, 0, 4, 4]) == pytest.approx(9 * summed * norm + 1, rel=1e-4)
    assert float(scores[0, 0, 0, 0]) == pytest.approx(4 * summed * norm + 1, rel=1e-4)
    assert torch.equal(scores[:, 0], -scores[:, 1])


# ---- the published weights


def _given(data_root: Path, depth: int) -> Path:
    path = data_root / "weights" / f"cifar10_resnet{depth}.pth"
    if not path.is_file():
        pytest.skip(f"no weights at {path}; set REGROW_DATA")
    return path


@pytest.mark.parametrize("depth", [20, 32, 56])
def test_published_cifar_weights_load_whole(data_root: Path, depth: int) -> None:
    path = _given(data_root, depth)
    state = torch.load(path, weights_only=True)
    net = build_net("labels", f"cifar_resnet{depth}", 10, SIZE, weights=str(path))
    own = net.state_dict()
    assert {n for n in own if not n.endswith("num_batches_tracked")} <= state.keys()
    assert all(torch.equal(own[name], value) for name, value in state.items())


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "accuracy"), [(20, 0.9173), (56, 0.9339)])
def test_published_cifar_weights_reach_their_accuracy(
    data_root: Path, cifar10_root: Path, depth: int, accuracy: float
) -> None:
    data = GrowingData(
        Torchvision("torchvision.datasets.CIFAR10"), cifar10_root, size=SIZE, batch_size=250
    )
    path = _given(data_root, depth)
    task = Classification(data.classes, SIZE, net=f"cifar_resnet{depth}", weights=str(path))
    result = evaluate(task, data.test_dataloader())
    assert result.num_images == 10_000
    assert result.value == pytest.approx(accuracy, abs=1e-4)
