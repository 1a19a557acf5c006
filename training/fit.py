"""How long and on what a network is trained."""

import os
from dataclasses import dataclass, field
from typing import Any

import torch

from regrow.errors import BadInput
from regrow.limits import NUM_EPOCHS, NUM_PROCESSES, NUM_SHOWN, refuse_beyond

CUDA = ("auto", "gpu", "cuda")


@dataclass(frozen=True)  # slots would hide its defaults from the command line
class Fit:
    """How long and on what a network is trained.

    Args:
        epochs: Passes over the training images; 0 leaves a network as it is, to be pruned only.
        patience: Stop after so many epochs without a better validation score; null never.
        clip: Largest norm of the gradient; null does not clip.
        ema: Decay of an exponential moving average of the weights, which is then what is
            validated and kept, and begins anew with each recovery; null keeps the weights
            themselves.
        precision: Lightning's name of the precision; null means bf16-mixed on CUDA, else 32-true.
        accelerator: Lightning's name of the accelerator.
        devices: Number of devices, or Lightning's list of them.
        strategy: Lightning's name of the strategy, such as `ddp`.
        images: Number of predicted images shown in TensorBoard; 0 shows none.
        trainer: Further arguments of Lightning's Trainer, none that regrow decides.

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
        """Where a network is before and after its training: on CUDA if it is trained there."""
        if self.accelerator in CUDA and torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype | None:
        """What weights are before their training: float32, unless `precision` says otherwise."""
        return torch.float32 if self.precision is None else None
