"""Settings of a training: epochs, early stopping, precision, devices."""

import os
from dataclasses import dataclass, field
from typing import Any

import torch

from regrow.errors import BadInput
from regrow.limits import NUM_EPOCHS, NUM_PROCESSES, NUM_SHOWN, refuse_beyond

CUDA = ("auto", "gpu", "cuda")


@dataclass(frozen=True)  # slots would hide its defaults from the command line
class Fit:
    """Settings of a training: epochs, early stopping, precision, devices.

    Args:
        epochs: Passes over the training images; 0 leaves a network as it is, to be pruned only.
        patience: Early stopping: epochs without improvement of the validation score before training
            stops; null disables it.
        clip: Gradient clipping: the largest norm of the gradient; null disables it.
        ema: Exponential moving average of the weights: its decay. The average is validated and
            kept, and begins anew with each recovery; null keeps the weights themselves.
        precision: Precision, by Lightning's name; null is bf16-mixed on CUDA, else 32-true.
        accelerator: Accelerator, by Lightning's name.
        devices: Number of devices, or Lightning's list of them.
        strategy: Strategy for several processes, by Lightning's name, such as `ddp`.
        images: Number of predicted images shown in TensorBoard; 0 shows none.
        trainer: Further arguments of Lightning's Trainer, except those that regrow sets itself.

    Raises:
        BadInput: If a value is out of range.
    """

    epochs: int = 10
    patience: int | None = None
    clip: float | None = None
    ema: float | None = None
    precision: str | None = None
    accelerator: str = "auto"
    devices: int | str = "auto"
    strategy: str = "auto"
    images: int = 8
    trainer: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.epochs < 0 or self.images < 0:
            raise BadInput(f"epochs is {self.epochs} and images {self.images}; neither may be < 0")
        refuse_beyond(NUM_EPOCHS, fit__epochs=self.epochs)
        refuse_beyond(NUM_SHOWN, fit__images=self.images)
        devices = str(self.devices).strip()
        refuse_beyond(NUM_PROCESSES, fit__devices=int(devices) if devices.isdecimal() else None)
        if self.patience is not None and self.patience < 1:
            raise BadInput(f"patience is {self.patience}, it must be at least 1, or null")
        if self.clip is not None and not self.clip > 0:
            raise BadInput(f"clip is {self.clip}, it must be > 0, or null for none")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise BadInput(f"ema is {self.ema}, it must lie in [0, 1), or be null for none")

    @property
    def device(self) -> torch.device:
        """Return the device before and after training: CUDA if it is trained there."""
        if self.accelerator in CUDA and torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype | None:
        """Return the precision of weights before training: float32, or None to leave them."""
        return torch.float32 if self.precision is None else None
