"""A run says so when its file is not the network that it scored."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from regrow.data.module import GrowingData
from regrow.models.checkpoint import load, save
from regrow.models.classification import Classification
from regrow.scripts import train
from regrow.training.verification import difference, unlike_saved

NETS = "test_verification_nets"


class Drifting(nn.Module):
    """Counts what it saw in a tensor that is neither a parameter nor a buffer."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, num_classes)
        self.seen = torch.zeros(())

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.seen = self.seen + len(images)
        return self.head(self.stem(images).mean((2, 3))) + self.seen


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
    module.Drifting, module.Noisy = Drifting, Noisy  # type: ignore[attr-defined]
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


def test_a_run_whose_file_is_another_network_is_not_served_and_exits_3(
    folder: Callable[..., Path],
    words: Callable[..., list[str]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = words(
        folder(), "run", "--gate.margin=1", "--gate.floor=0", f"--task.net={NETS}.Drifting"
    )
    assert train.main([*line, "--fit.epochs=1"]) == 3
    assert "best.ckpt: not the network that was scored" in capsys.readouterr().err
    assert "not the network that was scored" in (tmp_path / "run" / "report.md").read_text()
    assert not (tmp_path / "run" / "promoted.json").exists()
