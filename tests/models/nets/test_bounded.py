"""A file's network is built no larger than its weights, and no file takes the machine."""

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from regrow.data.targets.labels import Kind
from regrow.errors import BadInput
from regrow.models.checkpoint import load, read, save
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.nets import bounded
from regrow.models.nets.build import build_net
from regrow.models.task import Task


@pytest.fixture
def task() -> Task:
    torch.manual_seed(0)
    return Classification(["ant", "bee"], (32, 32)).eval()


def _write(path: Path, task: Task, **args: Any) -> Path:
    payload = {"state_dict": task.state_dict(), "regrow": task.record()}
    payload["regrow"]["args"].update(args)
    torch.save(payload, path)
    return path


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"net_args": {"width": 3000}}, "more than [0-9,]+ weights, the file has few"),
        ({"net_args": {"width": 17}}, r"does not fit its weights \(stem\.0\.weight is \(16, 3, 3,"),
        ({"net_args": {"width": 10**9}}, "argument 'width' is 1000000000, above 100,000"),
        ({"net_args": {"width": 10**5}}, "more than [0-9,]+ weights"),
        ({"net_args": {"width": ["x"] * 2000}}, "more than 1000 arguments"),
        ({"net_args": {"width": [[[[[[[[[[1]]]]]]]]]]}}, "nested too deeply"),
        ({"net_args": {"width": "x" * 1001}}, "has 1,001 letters"),
        ({"net": "timm/vit_base_patch16_224", "net_args": {"depth": 10**4}}, "the file has few"),
        ({"net": "timm/vit_tiny_patch16_224", "net_args": {"depth": 10**5, "embed_dim": 3,
          "num_heads": 1}}, "parts, its weights are few"),
        ({"net": "timm/vit_tiny_patch16_224", "net_args": {"img_size": 10**5}}, "file has few"),
        ({"net": "cifar_resnet20"}, "does not fit its weights"),
        ({"size": [10**9, 32]}, "a size that is no height and width"),
        ({"size": [0, 32]}, "a size that is no height and width"),
        ({"size": [32, True]}, "a size that is no height and width"),
        ({"classes": [1, 2]}, "classes that are no list of names"),
        ({"classes": ["ant", "\x1b[31mbee"]}, "no list of names that can be printed"),
        ({"classes": ["ant", "bee\nfly"]}, "no list of names that can be printed"),
        ({"classes": ["ant", "b" * 501]}, "no list of names that can be printed"),
        ({"classes": [f"c{n}" for n in range(100_000)]}, "does not fit its weights"),
    ],
)  # fmt: skip
def test_a_network_unlike_its_weights_is_refused_before_it_is_there(
    task: Task, tmp_path: Path, args: dict[str, Any], message: str
) -> None:
    path = _write(tmp_path / "a.ckpt", task, **args)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadInput, match=rf"a\.ckpt: .*{message}"):
        load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kilobytes


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_weights_that_would_be_rounded_or_lose_a_part_are_refused(
    task: Task, tmp_path: Path, dtype: torch.dtype
) -> None:
    payload = {"state_dict": dict(task.state_dict()), "regrow": task.record()}
    payload["state_dict"]["net.head.weight"] = payload["state_dict"]["net.head.weight"].to(dtype)
    torch.save(payload, tmp_path / "a.ckpt")
    with pytest.raises(BadInput, match=f"head.weight in it is {dtype}, in the network torch.float"):
        load(tmp_path / "a.ckpt")


def test_a_manifest_of_endless_images_is_refused(task: Task, tmp_path: Path) -> None:
    payload = {"state_dict": task.state_dict(), "regrow": task.record()}
    endless = torch.zeros(1, 16, dtype=torch.uint8).expand(10**11, 16)
    payload["regrow"]["provenance"]["manifest"] = {"hashes": endless}
    torch.save(payload, tmp_path / "a.ckpt")
    with pytest.raises(BadInput, match="bytes is made of 16"):
        read(tmp_path / "a.ckpt")


def test_a_dense_network_of_which_almost_nothing_is_left_is_refused(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "FREE_ENTRIES", 0)
    load(_write(tmp_path / "a.ckpt", task))
    monkeypatch.setattr(bounded, "LEAST_SHARE", 1.5)
    with pytest.raises(
        BadInput, match="its dense network has .* weights, and few of them are left"
    ):
        load(tmp_path / "a.ckpt")


@pytest.mark.parametrize("net", ["cifar_resnet20", "torchvision/ssdlite320_mobilenet_v3_large"])
def test_a_network_that_cannot_take_its_own_images_is_refused(net: str, tmp_path: Path) -> None:
    if net == "cifar_resnet20":
        task: Task = Classification(["ant", "bee"], (32, 32), net=net)
        # What goes around a block has every second place, and what goes through it all of them.
        layer = next(n for n, m in task.net.named_modules() if getattr(m, "stride", 1) == (2, 2))
        changes = {layer: {"stride": [1, 1]}}
    else:
        task = Detection(["ant"], (320, 320), net=net)
        changes = {"detector": {}}
        for name, module in task.net.named_modules():
            if isinstance(module, nn.Conv2d) and module.groups > 1:
                changes = {name: {"groups": 2}}
    payload = {"state_dict": task.state_dict(), "regrow": task.record()}
    torch.save(payload, tmp_path / "a.ckpt")
    load(tmp_path / "a.ckpt")
    payload["regrow"]["structure"]["attributes"] = changes
    torch.save(payload, tmp_path / "a.ckpt")
    with pytest.raises(BadInput, match=r"a\.ckpt: "):
        load(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    ("kind", "name", "args"),
    [
        ("labels", "timm/convit_tiny", {"img_size": 32, "patch_size": 8}),
        ("labels", "timm/resnet18", {}),
        ("labels", "torchvision/swin_t", {}),
        ("boxes", "small", {}),
        ("boxes", "torchvision/ssdlite320_mobilenet_v3_large", {}),
        ("masks", "lraspp", {}),
    ],
)
def test_networks_of_the_libraries_are_left_alone(
    kind: Kind, name: str, args: dict[str, Any]
) -> None:
    state = build_net(kind, name, 3, (64, 64), args).state_dict()
    size = [320, 320] if "ssd" in name else [64, 64] if kind != "labels" else [32, 32]
    record = {"structure": {}, "buffers": {}}
    state = build_net(kind, name, 3, (size[0], size[1]), args).state_dict()
    given = {"net": name, "net_args": args, "classes": ["a", "b", "c"], "size": size}
    runs = bounded.refuse_unlike(kind, given, record, state)
    assert runs == ("ssd" not in name)  # torchvision's SSD makes its anchors from numbers


def test_the_bounds_are_gone_once_a_network_is_built(task: Task) -> None:
    with pytest.raises(BadInput, match="parts"), bounded.bounded({}):
        nn.ModuleList([nn.Identity() for _ in range(3_000)])
    assert len(nn.ModuleList([nn.Identity() for _ in range(3_000)])) == 3_000


@pytest.mark.slow
def test_bombs_are_refused_in_little_memory(task: Task, tmp_path: Path) -> None:
    limit = 6 * 2**30  # bytes of address space
    makers: list[Callable[[], dict[str, Any]]] = [
        lambda: {"net_args": {"width": 10**5}},
        lambda: {"net": "timm/vit_base_patch16_224", "net_args": {"embed_dim": 99_984}},
        lambda: {"net": "timm/swin_tiny_patch4_window7_224", "net_args": {"window_size": 10**4}},
        lambda: {"net": "timm/convit_tiny", "net_args": {"depth": 10**5}},
        lambda: {"net": "torchvision/vit_b_16", "net_args": {"image_size": 96_000}},
    ]
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from regrow.errors import BadInput; from regrow.models.checkpoint import load\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))\n"
        "for name in sys.argv[1:]:\n"
        "    try: load(Path(name)); raise SystemExit(f'{name} was loaded')\n"
        "    except BadInput as error: print(error)\n"
    )
    files = [
        str(_write(tmp_path / f"{number}.ckpt", task, **make()))
        for number, make in enumerate(makers)
    ]
    line = [sys.executable, "-c", code, *files]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert len(done.stdout.splitlines()) == len(makers)


def test_saved_networks_load_as_before(task: Task, tmp_path: Path) -> None:
    save(tmp_path / "a.ckpt", task)
    again = load(tmp_path / "a.ckpt").net.state_dict()
    assert all(torch.equal(again[name], value) for name, value in task.net.state_dict().items())
