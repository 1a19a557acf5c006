"""Batch norms of a compensated network: measured anew only where that brings it nearer."""

from regrow.models.task import Task
from regrow.prune.channels.surgery import clone
from regrow.prune.contributions import Batches
from regrow.prune.recovery import reestimate_batchnorm_
from regrow.prune.search.scoring import Scorer


def settle_norms_(task: Task, reference: Task, batches: Batches, num_images: int) -> bool:
    """Measure batch norms anew, unless layers that were fitted to the old ones fit these less.

    Both are tried, and what is nearer to the reference on training images stays.

    Args:
        task: The network after a compensation and its cut; its norms are set in place.
        reference: The unpruned network.
        batches: Training images and targets, of which the images count.
        num_images: Number of images that the distance is measured on.

    Returns:
        Whether the new statistics are nearer.

    Raises:
        BadInput: If there are no images.
    """
    scorer = Scorer(task, reference, batches, num_images, 1)
    before, anew = scorer.distance(task), clone(task)
    reestimate_batchnorm_(anew, batches)
    if scorer.distance(anew) >= before:
        return False
    task.net = anew.net
    return True
