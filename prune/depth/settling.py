"""The norms of branches that are about to go, measured anew as those that stay are."""

import torch

from regrow.models.task import Task
from regrow.prune.channels.records import Plan
from regrow.prune.channels.surgery import clone, mask_
from regrow.prune.depth.skipping import emptied, is_lost_with
from regrow.prune.recovery import reestimate_batchnorm_


@torch.no_grad()
def settle_branches_(task: Task, plan: Plan) -> None:
    """Measure the batch norms in branches that a plan removes, in place, as if all was masked.

    What stays has its norms measured anew after a cut, what is gone cannot have. With nothing but a
    bias to normalise, a norm at the end of a branch then gives its own bias, which was the mean of
    what the branch gave. With the old mean and variance it would give what a channel of zeros is
    to these.

    Args:
        task: The task, before the plan is carried out.
        plan: Its groups with the units to remove.
    """
    branches = emptied(plan)
    if not branches:
        return
    masked = clone(task)
    mask_(masked, plan)
    reestimate_batchnorm_(masked, [(task.example_images(2), None)], 1)
    buffers = dict(task.net.named_buffers())
    for name, buffer in masked.net.named_buffers():
        if is_lost_with(name, branches):
            buffers[name].copy_(buffer)
