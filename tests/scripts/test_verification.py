"""A run says so when its file is not the network that it scored."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from regrow.scripts import train

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


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(NETS)
    module.Drifting = Drifting  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, NETS, module)


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
