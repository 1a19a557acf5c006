"""The weights that a network begins with: a library's, a file's, and those that are published."""

import pickle
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

from regrow.data.formats import Torchvision
from regrow.data.module import GrowingData
from regrow.data.targets.labels import Kind
from regrow.errors import BadInput
from regrow.models.checkpoint import save
from regrow.models.classification import Classification
from regrow.models.nets.build import build_net
from regrow.models.nets.pretrained import load_weights_
from regrow.models.nets.small import SmallBackbone, SmallClassifier
from regrow.training.evaluation import evaluate

SIZE = (32, 32)


class Wrapped(nn.Module):
    """A net with a backbone of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = SmallBackbone(4)
        self.head = nn.Conv2d(16, 2, 1)


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

    monkeypatch.setattr("regrow.models.nets.build.timm.create_model", create)
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


def test_a_checkpoint_of_regrow_is_for_a_warm_start(tmp_path: Path) -> None:
    save(tmp_path / "best.ckpt", Classification(["a", "b"], (32, 32)))
    with pytest.raises(BadInput, match="a checkpoint of regrow's; give it with --warm-start"):
        load_weights_(SmallClassifier(2), tmp_path / "best.ckpt")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file; give `DEFAULT` or a local state dict"):
        load_weights_(SmallClassifier(3, 4), tmp_path / "w.pth")
    with pytest.raises(BadInput, match="no such file"):
        load_weights_(SmallClassifier(3, 4), tmp_path)


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
