"""Buffers outside of the state dict are reloaded as they were, however the network changed them."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.models.checkpoint import load, save
from regrow.models.classification import Classification
from regrow.models.record import buffers
from regrow.models.record.structure import fresh_twin, rebuild_, record
from regrow.models.task import Task
from regrow.training.reloading import load_weights_

OWN = ("test_buffers_nets",)


def grid(side: int) -> Tensor:
    return torch.linspace(-1, 1, side).expand(1, 2, side, side).clone()


class Gridded(nn.Module):
    """Keeps a grid, made anew for images of another size, a random scale, and a gap."""

    def __init__(self, num_classes: int, side: int = 16, width: int = 6) -> None:
        super().__init__()
        self.register_buffer("grid", grid(side), persistent=False)
        self.register_buffer("scale", torch.rand(width), persistent=False)
        self.register_buffer("gap", None, persistent=False)
        self.register_buffer("mean", torch.zeros(2))
        self.stem, self.head = nn.Conv2d(3, width, 3, padding=1), nn.Linear(width + 2, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        if self.grid.shape[-1] != images.shape[-1]:
            self.grid = grid(images.shape[-1])
        if self.gap is None:
            self.gap = torch.ones(3)
        maps = self.stem(images).relu() * self.scale[:, None, None]
        shown = torch.cat([maps, self.grid.expand(len(images), -1, -1, -1)], 1)
        return self.head(shown.mean((2, 3)) * self.gap.mean())


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(OWN[0])
    module.Gridded = Gridded  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, OWN[0], module)


def _task(side: int) -> Task:
    return Classification(["a", "b"], (side, side), net=f"{OWN[0]}.Gridded").eval()


@pytest.mark.parametrize("side", [8, 16, 24])
def test_a_network_whose_buffers_changed_in_use_is_reloaded_bit_for_bit(
    side: int, tmp_path: Path
) -> None:
    task = _task(side)
    images = task.example_images(2)
    expected = task(images)["logits"]
    save(tmp_path / "a.ckpt", task)
    for _ in range(20):  # memory is not always fresh
        torch.full((1, 2, side, side), 7e3)
    again = load(tmp_path / "a.ckpt", allow=OWN)
    assert torch.equal(again(images)["logits"], expected)
    for name, value in task.net.named_buffers():
        assert torch.equal(again.net.get_buffer(name), value), name
    kept = torch.load(tmp_path / "a.ckpt")["regrow"]["buffers"].keys()
    assert kept == ({"gap", "scale"} if side == 16 else {"grid", "gap", "scale"})


def test_what_a_fresh_network_has_anyway_is_not_kept() -> None:
    torch.manual_seed(0)
    net = Gridded(2)
    torch.manual_seed(0)
    assert buffers.record(net, Gridded(2)) == {}
    assert buffers.record(net.double(), Gridded(2)).keys() == {"scale"}  # another draw
    net.grid = grid(16).double()
    net.mean = torch.ones(2)  # the state dict has it
    torch.manual_seed(0)
    fresh = Gridded(2)
    assert buffers.record(net, fresh) == {}


def test_a_buffer_that_was_cut_keeps_its_values_and_its_twin_has_them(tmp_path: Path) -> None:
    task = _task(16)
    dense = task.fresh_net()
    net = task.net
    keep = [0, 2, 5]
    net.scale = net.scale[keep]
    net.stem.weight, net.stem.bias = (
        nn.Parameter(tensor.detach()[keep]) for tensor in (net.stem.weight, net.stem.bias)
    )
    net.stem.out_channels, net.head.in_features = 3, 5
    net.head.weight = nn.Parameter(net.head.weight.detach()[:, [*keep, 6, 7]])
    images = task.example_images(2)
    expected = task(images)["logits"]
    assert "scale" not in record(net, dense)["shapes"]
    save(tmp_path / "a.ckpt", task)
    again = load(tmp_path / "a.ckpt", allow=OWN)
    assert torch.equal(again(images)["logits"], expected)
    twin = fresh_twin(net, dense)
    assert torch.equal(twin.scale, net.scale)
    assert twin(torch.zeros(1, 3, 16, 16)).shape == (1, 2)


def test_the_best_epoch_comes_back_with_its_buffers(tmp_path: Path) -> None:
    task = _task(16)
    images = task.example_images(2)
    expected = task(images)["logits"]
    save(tmp_path / "best.ckpt", task)
    task.net.scale = torch.zeros(6)
    load_weights_(task, tmp_path / "best.ckpt")
    assert torch.equal(task(images)["logits"], expected)


def test_files_of_before_get_the_buffers_of_a_fresh_network(tmp_path: Path) -> None:
    """Their record has the shape of a buffer, and no file its values."""
    task = _task(8)
    expected = task(task.example_images(2))["logits"]
    payload = {"state_dict": task.state_dict(), "regrow": task.record()}
    buffers_then = payload["regrow"].pop("buffers")
    payload["regrow"]["structure"]["shapes"]["grid"] = [1, 2, 8, 8]
    torch.save(payload, tmp_path / "a.ckpt")
    again = load(tmp_path / "a.ckpt", allow=OWN)
    assert torch.equal(again.net.grid, grid(16))
    again.net.scale = buffers_then["scale"]
    assert torch.equal(again(task.example_images(2))["logits"], expected)


def test_a_file_loads_once_the_package_of_its_network_is_allowed(tmp_path: Path) -> None:
    task = _task(16)
    save(tmp_path / "a.ckpt", task)
    with pytest.raises(BadInput, match="test_buffers_nets"):
        load(tmp_path / "a.ckpt")
    assert load(tmp_path / "a.ckpt", allow=(task.net_package,)).net_name == task.net_name


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ([], "its buffers are not a record"),
        ({"nothing": torch.zeros(1)}, "has the buffer 'nothing', which the network lacks"),
        ({"mean": torch.zeros(2)}, "has the buffer 'mean', which the network lacks"),
        ({"stem.weight": torch.zeros(2)}, "has the buffer 'stem.weight', which the network lacks"),
        ({"grid": 5}, "has the buffer 'grid', which the network lacks"),
        ({3: torch.zeros(2)}, "has the buffer 3, which the network lacks"),
    ],
)
def test_hostile_buffers_are_refused(changed: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        buffers.rebuild_(Gridded(2), changed)


def test_resized_tensors_are_named_for_the_weights_to_fill() -> None:
    structure = {"shapes": {"stem.bias": [2], "grid": [1, 2, 3, 3], "mean": [1]}}
    assert rebuild_(Gridded(2), structure) == {"stem.bias", "mean"}


@pytest.mark.slow
def test_timms_convit_is_reloaded_bit_for_bit(tmp_path: Path) -> None:
    task = Classification(["a", "b", "c"], (224, 224), net="timm/convit_tiny").eval()
    images = task.example_images(2)
    with torch.no_grad():
        expected = task(images)["logits"]
        save(tmp_path / "a.ckpt", task)
        again = load(tmp_path / "a.ckpt")
        assert torch.equal(again(images)["logits"], expected)
