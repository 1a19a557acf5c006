"""A network of one weight, each of whose steps is known by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Line(LightningModule):
    """Begins with the weight 0, from which each step takes the mean of its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return (self.weight * batch[0]).mean()

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        """Log a score that says the epoch: 0.25, 0.5, 0.75, and so on."""
        self.log("val/accuracy", 0.25 * (self.current_epoch + 1), batch_size=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def fit_line(line: Line, tmp_path: Path) -> Callable[..., Trainer]:
    """Return a function that trains it on 1 to 6, one a batch: `fit_line(*callbacks, epochs=1)`."""

    def fit(*callbacks: Callback, epochs: int = 1, **options: Any) -> Trainer:
        trainer = Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            callbacks=list(callbacks),
            default_root_dir=tmp_path,
            logger=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **{"enable_checkpointing": False, "enable_progress_bar": True, **options},
        )
        loader = DataLoader(TensorDataset(torch.arange(1.0, 7.0)))
        trainer.fit(line, loader, loader)
        return trainer

    return fit
