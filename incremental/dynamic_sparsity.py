"""Masks that move while a network is trained, with as many weights kept as before.

Every so many steps each masked tensor drops the smallest of the weights that it keeps, and lets as
many grow where the gradient is largest. So capacity goes where new data asks for it, and the cost
stays what it was to the last weight.

Source: Evci et al., Rigging the Lottery, 2020, arXiv 1911.11134 (RigL), algorithm 1. There the step
at which masks move trains nothing; here it goes on, so that as many steps train as without.
"""

import math
from typing import cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor

from regrow.data.errors import BadInput
from regrow.models.masks import masks_of, pattern_dim, remask_
from regrow.models.task import Task

# Consecutive weights along the inputs that the pattern 2:4 counts together.
BLOCK = 4


class DynamicSparsity(Callback):
    """Moves the masks of a network while Lightning trains it.

    When and how much are functions of the step alone, and the masks lie in the checkpoint, so that
    a run that was stopped goes on to the same weights. A network without masks is trained as it is.

    Args:
        share: The share of the kept weights that moves at first, in (0, 1); it falls to zero as a
            cosine.
        interval: How many steps lie between two moves; by default a thirtieth of the run, and at
            most 100.
        until: The share of the run after which masks stay, in (0, 1].

    Raises:
        BadInput: If a value is out of range.
    """

    def __init__(
        self, share: float = 0.3, interval: int | None = None, until: float = 0.75
    ) -> None:
        if not 0 < share < 1 or not 0 < until <= 1:
            raise BadInput(
                f"the share of weights that move is {share} and they move until {until} of the "
                "run; the first must lie in (0, 1), the second in (0, 1]"
            )
        if interval is not None and interval < 1:
            raise BadInput(f"masks move every {interval} steps, it must be at least 1")
        self.share, self.interval, self.until = share, interval, until

    def share_at(self, step: int, num_steps: int) -> float:
        """Give the share of the kept weights that moves at a step, 0 where masks stay.

        Source: Evci et al. 2020, arXiv 1911.11134, section 3, the cosine of the update schedule.

        Args:
            step: How many steps were taken.
            num_steps: How many the whole run has.
        """
        end = self.until * num_steps
        interval = self.interval or max(1, min(100, num_steps // 30))
        if step == 0 or step % interval or step >= end:
            return 0.0
        return self.share / 2 * (1 + math.cos(math.pi * step / end))

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Move the masks, while the gradients of masked weights are still there."""
        task = cast(Task, pl_module)
        share = self.share_at(trainer.global_step, _num_steps(trainer))
        if share:
            move_masks_(task, optimizer, share)
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, WeightAveraging) and callback._average_model is not None:
                    # Or the average would keep what was dropped, and then so would the network.
                    average = cast(Task, callback._average_model.module)
                    remask_(average.net, masks_of(task.net))


def move_masks_(task: Task, optimizer: torch.optim.Optimizer, share: float) -> None:
    """Drop the smallest kept weights of each masked tensor, and grow as many, in place.

    Grown weights are zero, and the optimizer remembers nothing of them or of dropped ones. Frozen
    tensors keep their masks. Masks of the pattern 2:4 keep it.

    Args:
        task: The task, with the gradients of all weights, masked ones too.
        optimizer: The optimizer of its parameters.
        share: The share of the kept weights of each tensor that is dropped, in [0, 1], rounded
            down.
    """
    before, after = masks_of(task.net), {}
    for name, kept in before.items():
        weight = task.net.get_parameter(name)
        if weight.grad is not None:
            dim = pattern_dim(task.net.get_submodule(name.rpartition(".")[0]), kept)
            count = int(share * int(kept.sum()))
            after[name] = moved(weight.detach(), weight.grad, kept, count, dim)
    task.remask(after)
    for name, kept in after.items():
        changed = kept ^ before[name]
        for value in optimizer.state.get(task.net.get_parameter(name), {}).values():
            if isinstance(value, Tensor) and value.shape == changed.shape:
                value.masked_fill_(changed, 0)


def moved(weight: Tensor, grad: Tensor, kept: Tensor, count: int, dim: int | None = None) -> Tensor:
    """Give a mask without the smallest kept weights and with as many of the largest gradients.

    A weight that is dropped may grow at once, and is then as it was.

    Source: Evci et al. 2020, arXiv 1911.11134, algorithm 1.

    Args:
        weight: The weights, of any shape.
        grad: The gradient of the loss by all of them, same shape.
        kept: True where a weight is kept, same shape.
        count: How many kept weights are dropped.
        dim: The dimension of the inputs, if each 4 consecutive weights along it are to keep as many
            as they do; by default the tensor does.

    Returns:
        The mask, with as many weights kept; of equal weights or gradients the first ones go first.
    """
    lying = [x if dim is None else x.movedim(dim, -1) for x in (weight, grad, kept)]
    shape, size = lying[2].shape, kept.numel() if dim is None else BLOCK
    weights, gradients, mask = (x.reshape(-1, size) for x in lying)
    sizes = weights.abs().masked_fill(~mask, math.inf).flatten()
    staying = mask.flatten().index_fill(0, sizes.argsort(stable=True)[:count], False)
    staying = staying.view_as(mask)
    wanted = mask.sum(1, keepdim=True) - staying.sum(1, keepdim=True)
    order = gradients.abs().masked_fill(staying, -1).argsort(dim=1, descending=True, stable=True)
    grows = torch.arange(size, device=mask.device) < wanted
    after = staying.scatter(1, order, staying.gather(1, order) | grows).view(shape)
    return after if dim is None else after.movedim(-1, dim).contiguous()


def _num_steps(trainer: Trainer) -> int:
    """Count the steps of a whole run."""
    batches = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    return batches * (trainer.max_epochs or 1)
