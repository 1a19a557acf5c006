"""A LightningModule that may be used without a trainer: by tracers, exporters and tests.

Touches Lightning's private `_trainer` and `_fabric`; checked on pytorch-lightning 2.6.
"""

from typing import Any

from pytorch_lightning import LightningModule


class NotAttached(AttributeError, RuntimeError):
    """A task that is asked for its trainer, and has none; Lightning raises a RuntimeError alone."""


class Attachable(LightningModule):
    """A LightningModule whose attributes can all be looked at while it has no trainer."""

    @property
    def trainer(self) -> Any:
        """Give the trainer that this task is attached to.

        Raises:
            NotAttached: If it is to none. `hasattr` is then false, as those expect who look at all
                that a module has, such as `torch.jit.trace`.
        """
        if self._trainer is None and self._fabric is None:
            raise NotAttached(f"{type(self).__name__} is not attached to a `Trainer`")
        return super().trainer

    @trainer.setter
    def trainer(self, trainer: Any) -> None:
        LightningModule.trainer.fset(self, trainer)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        """Give what `nn.Module` finds; it comes here too where a property has raised."""
        if name == "trainer":
            raise NotAttached(f"{type(self).__name__} is not attached to a `Trainer`")
        return super().__getattr__(name)
