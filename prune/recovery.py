"""Recovery of a cut network: norm statistics are measured anew, and it is fine-tuned."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.models.modes import evaluating
from regrow.models.task import Task

# Trains a task in place, given the number of the step, of which all that is random is a function.
Recover = Callable[[Task, int], None]


@torch.no_grad()
def reestimate_batchnorm_(
    task: Task, batches: Iterable[tuple[Tensor, Any]], num_batches: int = 16
) -> int:
    """Measure the statistics of all batch norms anew, as plain averages over batches.

    Removing channels moves what later norms see, and stale statistics cost more accuracy than the
    channels. Frozen norms, norms that the images do not reach, and all modes stay as they are.

    Source: Li et al., EagleEye, 2020, arXiv 2007.02491, adaptive batch normalisation.

    Args:
        task: The task, whose running means and variances are set in place.
        batches: Training images and targets.
        num_batches: Number of batches to average.

    Returns:
        The number of norms that were measured.

    Raises:
        BadInput: If there are norms to measure and no batches.

    Examples:
        >>> import torch
        >>> from regrow.models import Classification
        >>> from regrow.prune import reestimate_batchnorm_
        >>> task = Classification(["cat", "dog"], (16, 16), net_args={"width": 8})
        >>> batches = [(task.example_images(4), torch.tensor([0, 1, 0, 1]))]
        >>> reestimate_batchnorm_(task, batches) == sum(
        ...     isinstance(module, torch.nn.BatchNorm2d) for module in task.net.modules()
        ... )
        True
    """
    norms = [m for m in task.net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    norms = [norm for norm in norms if norm.running_mean is not None and not _is_frozen(norm)]
    if not norms:
        return 0
    momenta = {norm: norm.momentum for norm in norms}
    before = {norm: {n: b.clone() for n, b in norm.named_buffers()} for norm in norms}
    device = norms[0].running_mean.device  # type: ignore[union-attr]
    count = 0
    try:
        with evaluating(task.net):
            # One image alone has no variance where a map has shrunk to one pixel.
            enough = (images for images, _ in batches if len(images) > 1)
            for images in islice(enough, num_batches):
                if not count:
                    for norm in norms:
                        norm.reset_running_stats()
                        norm.momentum = None
                        norm.train()
                task(images.to(device))
                count += 1
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum
    if not count:
        raise BadInput("batch norms cannot be measured anew: there are no training images")
    unreached = [norm for norm in norms if not norm.num_batches_tracked]
    for norm in unreached:
        for name, value in before[norm].items():
            norm.get_buffer(name).copy_(value)
    return len(norms) - len(unreached)


def _is_frozen(norm: nn.modules.batchnorm._BatchNorm) -> bool:
    return norm.affine and not norm.weight.requires_grad
