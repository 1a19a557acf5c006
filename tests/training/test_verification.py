"""A file that is not the network that was scored is told, in a line that says why."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from regrow.data.module import GrowingData
from regrow.models.checkpoint import load, save
from regrow.models.classification import Classification
from regrow.training.verification import difference, unlike_saved

NETS = "test_verification_nets"


class Noisy(nn.Module):
    """Adds noise, in evaluation too."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.mean((2, 3))) + torch.rand(1)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(NETS)
    module.Noisy = Noisy  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, NETS, module)


@pytest.mark.parametrize("name", ["small", "Noisy"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_file_of_the_network_itself_is_like_it(
    name: str, dtype: torch.dtype, channels_last: bool, data: GrowingData, tmp_path: Path
) -> None:
    net = name if name == "small" else f"{NETS}.{name}"
    task = Classification(["a", "b"], (16, 16), net=net, channels_last=channels_last).to(dtype)
    if channels_last:
        task.net.to(memory_format=torch.channels_last)
    task.net.train()
    save(tmp_path / "a.ckpt", task)
    before = torch.random.get_rng_state()
    assert unlike_saved(tmp_path / "a.ckpt", task, data) is None
    assert torch.equal(torch.random.get_rng_state(), before)
    assert task.net.training


def test_a_file_of_another_network_is_told(data: GrowingData, tmp_path: Path) -> None:
    task, file = Classification(["a", "b"], (16, 16)).eval(), tmp_path / "a.ckpt"
    save(file, task)
    other = load(file)
    with torch.no_grad():
        other.net.head.bias[1] += 1e-6  # the last bits of one weight
    assert "not the network that was scored, logits differs" in (
        unlike_saved(file, other, data) or ""
    )
    with torch.no_grad():
        other.net.head.bias.fill_(torch.nan)
    assert "logits differs" in (unlike_saved(file, other, data) or "")
    file.write_bytes(file.read_bytes()[:5000])
    told = difference(file, task, task.example_images(2)) or ""
    assert told.startswith(f"the file that was written cannot be loaded: {file}: truncated")
