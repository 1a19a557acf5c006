"""Dynamic sparse training (RigL): masks move to where new data asks for weights.

At the first step the masked weights come back: all, or of each tensor a share, where the gradient
is largest. Then, every so many steps, the smallest weights are masked again, until each tensor
keeps as many as before, and a falling share of the kept ones moves to where the gradient is
largest. So the network learns with room, and its cost in the end is what it was, to the last
weight.

Source: Evci et al., Rigging the Lottery, 2020, arXiv 1911.11134 (RigL), algorithm 1, for what grows
and moves; there the step at which masks move trains nothing, here it goes on. Zhu and Gupta, To
Prune, or Not to Prune, 2017, arXiv 1710.01878, equation 1, for the cubic schedule of what goes.
"""

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from regrow.errors import BadInput
from regrow.models.masks import masks_of, pattern_dim, remask_
from regrow.models.task import Task
from regrow.training.lightning_internals import averaged, callbacks_of

# Consecutive weights along the inputs that the pattern 2:4 counts together.
BLOCK = 4
CUT_SHORT = (
    "fit.patience may end the run while masked weights are back; set it to null with sparsity "
    "regrow"
)


class DynamicSparsity(Callback):
    """Regrow masked weights during training, and mask as many again.

    When and how much are functions of the step alone, and masks and numbers lie in the checkpoint,
    so that a run that was stopped goes on to the same weights. No checkpoint is the best one before
    each tensor keeps as many weights as at first. A network without masks is trained as it is.

    Args:
        back: The share of the masked weights that comes back at first, in [0, 1]; masks of the
            pattern 2:4 move alone.
        share: The share of the kept weights that moves at first, in [0, 1); it falls to zero as a
            cosine.
        interval: Number of steps between two moves; by default a hundredth of the run, and at
            most 100.
        until: The share of the run after which masks stay, in (0, 1].

    Raises:
        BadInput: If a value is out of range.
    """

    def __init__(
        self,
        back: float = 1.0,
        share: float = 0.3,
        interval: int | None = None,
        until: float = 0.75,
    ) -> None:
        if not 0 <= back <= 1:
            raise BadInput(f"a share of {back} of the masked weights comes back; it must be 0 to 1")
        if not 0 <= share < 1 or not 0 < until <= 1:
            raise BadInput(
                f"the share of weights that move is {share} and they move until {until} of the "
                "run; the first must lie in [0, 1), the second in (0, 1]"
            )
        if interval is not None and interval < 1:
            raise BadInput(f"masks move every {interval} steps, it must be at least 1")
        self.back, self.share, self.interval, self.until = back, share, interval, until
        self.sizes: dict[str, int] = {}

    def is_due(self, step: int, num_steps: int) -> bool:
        """Whether masks change at a step.

        Args:
            step: Number of steps that were taken.
            num_steps: Number of steps of the whole run.
        """
        end = self._end(num_steps)
        interval = self.interval or max(1, min(100, num_steps // 100))
        return step == end or (step < end and step % interval == 0)

    def share_at(self, step: int, num_steps: int) -> float:
        """Return the share of the kept weights that moves at a step at which masks change.

        Source: Evci et al. 2020, arXiv 1911.11134, section 3, the cosine of the update schedule.
        """
        done = step / max(self._end(num_steps), 1)
        return self.share / 2 * (1 + math.cos(math.pi * done)) if 0 < done < 1 else 0.0

    def back_at(self, step: int, num_steps: int) -> float:
        """Return the share of the masked weights that is back at a step at which masks change.

        Source: Zhu and Gupta 2017, arXiv 1710.01878, equation 1, the cubic schedule.
        """
        done = min(step / max(self._end(num_steps), 1), 1.0)
        return self.back * (1 - done) ** 3

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the weights that each tensor may keep in the end.

        Raises:
            BadInput: If training may end before there are no more.
        """
        kept = masks_of(cast(Task, pl_module).net)
        self.sizes = self.sizes or {name: int(mask.sum()) for name, mask in kept.items()}
        if self.sizes and self.back and trainer.early_stopping_callbacks:
            raise BadInput(CUT_SHORT)
        self._choose_best(trainer, trainer.global_step)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Change the masks, while the gradients of masked weights are still there."""
        task, step, num_steps = cast(Task, pl_module), trainer.global_step, _num_steps(trainer)
        if not self.sizes or not self.is_due(step, num_steps):
            return
        back, net = self.back_at(step, num_steps), task.net
        masked = {n: net.get_parameter(n).numel() - size for n, size in self.sizes.items()}
        sizes = {name: size + int(back * masked[name]) for name, size in self.sizes.items()}
        move_masks_(task, optimizer, self.share_at(step, num_steps), sizes)
        for average in map(averaged, callbacks_of(trainer)):
            if average is not None:
                # Or the average would keep what was dropped, and then so would the network.
                remask_(cast(Task, average).net, masks_of(net))
        self._choose_best(trainer, step + 1)

    def state_dict(self) -> dict[str, Any]:
        """Return the numbers of weights that tensors may keep in the end, for a checkpoint."""
        return {"sizes": self.sizes}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take those numbers from a checkpoint."""
        self.sizes = dict(state_dict["sizes"])

    def _end(self, num_steps: int) -> int:
        """Return the step at which masks change for the last time, which is one of the run."""
        return max(0, min(math.ceil(self.until * num_steps), num_steps - 1))

    def _choose_best(self, trainer: Trainer, taken: int) -> None:
        """Allow a best checkpoint only once masks are as sparse as at first."""
        if self.sizes and self.back:
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, ModelCheckpoint) and callback.monitor is not None:
                    callback.save_top_k = int(taken > self._end(_num_steps(trainer)))


def move_masks_(
    task: Task,
    optimizer: torch.optim.Optimizer,
    share: float,
    sizes: Mapping[str, int] | None = None,
) -> None:
    """Mask the smallest kept weights of each tensor, and unmask others, in place.

    Grown weights are zero, and the optimizer remembers nothing of them or of dropped ones. Frozen
    tensors keep their masks. Masks of the pattern 2:4 keep it, and as many weights.

    Args:
        task: The task, with the gradients of all weights, masked ones too.
        optimizer: The optimizer of its parameters.
        share: The share of the kept weights of each tensor that moves, in [0, 1], rounded down.
        sizes: Number of weights that each tensor keeps then; by default as many as before.
    """
    before, after = masks_of(task.net), {}
    for name, kept in before.items():
        weight = task.net.get_parameter(name)
        if weight.grad is not None:
            dim = pattern_dim(task.net.get_submodule(name.rpartition(".")[0]), kept)
            had = int(kept.sum())
            size = had if sizes is None or dim is not None else sizes[name]
            moving = int(share * min(had, size))
            dropped, grown = moving + max(had - size, 0), moving + max(size - had, 0)
            after[name] = moved(weight.detach(), weight.grad, kept, dropped, dim, grown)
    task.remask(after)
    for name, kept in after.items():
        changed = kept ^ before[name]
        for value in optimizer.state.get(task.net.get_parameter(name), {}).values():
            if isinstance(value, Tensor) and value.shape == changed.shape:
                value.masked_fill_(changed, 0)


def moved(
    weight: Tensor,
    grad: Tensor,
    kept: Tensor,
    count: int,
    dim: int | None = None,
    grown: int | None = None,
) -> Tensor:
    """Return a mask without the smallest kept weights, and with some of the largest gradients.

    A weight that is dropped may grow at once, and is then as it was.

    Source: Evci et al. 2020, arXiv 1911.11134, algorithm 1.

    Args:
        weight: The weights, of any shape.
        grad: The gradient of the loss by all of them, same shape.
        kept: True where a weight is kept, same shape.
        count: Number of kept weights that are dropped.
        dim: The dimension of the inputs, if each 4 consecutive weights along it are to keep as many
            as they do; by default the tensor is one block.
        grown: Number of weights that grow, without `dim`; by default as many as are dropped.

    Returns:
        The mask; of equal weights or gradients the first ones go first.
    """
    lying = [x if dim is None else x.movedim(dim, -1) for x in (weight, grad, kept)]
    shape, size = lying[2].shape, kept.numel() if dim is None else BLOCK
    weights, gradients, mask = (x.reshape(-1, size) for x in lying)
    sizes = weights.abs().masked_fill(~mask, math.inf).flatten()
    staying = mask.flatten().index_fill(0, sizes.argsort(stable=True)[:count], False)
    staying = staying.view_as(mask)
    wanted = mask.sum(1, keepdim=True) - staying.sum(1, keepdim=True)
    if dim is None and grown is not None:
        wanted = torch.full_like(wanted, grown)
    order = gradients.abs().masked_fill(staying, -1).argsort(dim=1, descending=True, stable=True)
    grows = torch.arange(size, device=mask.device) < wanted
    after = staying.scatter(1, order, staying.gather(1, order) | grows).view(shape)
    return after if dim is None else after.movedim(-1, dim).contiguous()


def _num_steps(trainer: Trainer) -> int:
    """Count the steps of a whole run."""
    batches = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    return batches * (trainer.max_epochs or 1)
