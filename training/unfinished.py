"""State that Lightning leaves out of a checkpoint and exact resuming needs."""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from regrow.errors import BadInput
from regrow.plain import MISSHAPEN
from regrow.training.lightning_internals import is_within_step

KEY = "unfinished"


class Unfinished(Callback):
    """Save the gradients of an unfinished step, and whether training is to end.

    A step of the optimizer may take several batches (`accumulate_grad_batches`). Between them a
    run can be stopped, or validated and saved. Early stopping decides once, maybe before
    `min_epochs`, and a run that goes on must not decide anew.
    """

    def __init__(self) -> None:
        self._gradients: Mapping[str, Tensor] = {}
        self._is_to_end = False

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save both; the gradients of each process, (processes, *shape)."""
        gradients = {}
        if is_within_step(trainer):
            for name, parameter in pl_module.named_parameters():
                if parameter.grad is not None:
                    every: Any = trainer.strategy.all_gather(parameter.grad)
                    gradients[name] = every if trainer.world_size > 1 else every[None]
        checkpoint[KEY] = {"is_to_end": bool(trainer.should_stop), "gradients": gradients}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Read both from a checkpoint; one of an older version has none.

        Raises:
            BadInput: If they are not of this network.
        """
        state = checkpoint.get(KEY, {"is_to_end": False, "gradients": {}})
        shapes = {n: (trainer.world_size, *p.shape) for n, p in pl_module.named_parameters()}
        try:
            gradients = dict(state["gradients"])
            if any(tuple(value.shape) != shapes[name] for name, value in gradients.items()):
                raise ValueError("of other shapes")
            self._gradients, self._is_to_end = gradients, bool(state["is_to_end"])
        except (RuntimeError, *MISSHAPEN) as error:  # of a tensor where a truth is meant
            raise BadInput(
                f"the checkpoint's gradients are not of this network ({error}); go on from "
                "another checkpoint of the run, or begin a new one"
            ) from error

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore both, where the network is trained."""
        for name, every in self._gradients.items():
            parameter = pl_module.get_parameter(name)
            parameter.grad = every[trainer.global_rank].to(parameter)
        trainer.should_stop = trainer.should_stop or self._is_to_end
        self._gradients, self._is_to_end = {}, False
