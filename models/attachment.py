"""A LightningModule that may be used without a trainer: by tracers, exporters and tests.

Touches Lightning's private `_trainer` and `_fabric`; checked on pytorch-lightning 2.6.
"""

from typing import Any

from pytorch_lightning import LightningModule


class NotAttached(AttributeError, RuntimeError):
    """The error of a task without a trainer; an AttributeError too, so that `hasattr` is false."""


class Attachable(LightningModule):
    """A LightningModule whose attributes can all be read while it has no trainer."""

    @property
    def trainer(self) -> Any:
        """Trainer that this task is attached to.

        Raises:
            NotAttached: If there is none. `hasattr` is then false, as code expects that reads all
                attributes of a module, such as `torch.jit.trace`.
        """
        if self._trainer is None and self._fabric is None:
            raise NotAttached(f"{type(self).__name__} is not attached to a `Trainer`")
        return super().trainer

    @trainer.setter
    def trainer(self, trainer: Any) -> None:
        LightningModule.trainer.fset(self, trainer)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        """Look an attribute up in `nn.Module`; also called where a property has raised."""
        if name == "trainer":
            raise NotAttached(f"{type(self).__name__} is not attached to a `Trainer`")
        return super().__getattr__(name)
