"""The network of a training run: loaded from a checkpoint, and tried on images."""

from collections.abc import Callable

import torch

from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.incremental.dynamic_sparsity import CUT_SHORT
from regrow.models.masks import masks_of, unmask_
from regrow.models.modes import copied
from regrow.models.nets.build import TIMM, TORCHVISION
from regrow.models.task import Task
from regrow.pipelines.request import Request
from regrow.prune.widening.widen import widen_
from regrow.training.trainer import refuse_kind


def old_network(request: Request) -> Task:
    """Load the network of a warm start, where it is trained; a dense one if that is asked for.

    Args:
        request: What is asked for.

    Raises:
        BadInput: If the checkpoint cannot be used, or is of another kind than the data.
    """
    loaded = request.parent.load(request.data.kind).to(dtype=request.fit.dtype)
    task = around(loaded, request.make).to(request.fit.device)
    refuse_kind(task, request.data)
    if request.regrows and request.fit.patience is not None and masks_of(task.net):
        raise BadInput(CUT_SHORT)
    if request.sparsity == "dense":
        unmask_(task.net)
        widen_(task, seed=request.seed)
    return task


def around(loaded: Task, make: Callable[..., Task]) -> Task:
    """Return a task with the settings of this run and the network of a checkpoint.

    Args:
        loaded: The task of the checkpoint.
        make: The task of this run.
    """
    task = make(
        loaded.classes,
        loaded.size,
        net=loaded.net_name,
        net_args=loaded.net_args,
        weights=None,
        mean=tuple(loaded.mean.flatten().tolist()),
        std=tuple(loaded.std.flatten().tolist()),
    )
    if task.kind == loaded.kind:
        task.net, task.provenance = loaded.net, loaded.provenance
    return task.to(loaded.mean.dtype)  # which images are brought to, as the weights have it


def refuse_images(task: Task, data: GrowingData) -> None:
    """Refuse images of a size, or in a number, that a network of the libraries cannot take.

    Your own network says it itself.

    Args:
        task: The task.
        data: Its data.

    Raises:
        BadInput: Naming the size or the number.
    """
    if not task.net_name.startswith((TORCHVISION, TIMM)):
        return
    trial = copied(task)
    batch = min(data.batch_size, len(data.snapshot.indices("train")), 2)
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            what = f"images of data.size {list(task.size)}"
            trial.eval()(task.example_images(2))
            what = f"data.batch_size {batch}"
            trial.train()(task.example_images(batch))
    except (AssertionError, RuntimeError, ValueError, IndexError) as error:
        raise BadInput(
            f"net {task.net_name!r} cannot take {what} ({error}); change it, or what the net "
            "expects in task.net_args"
        ) from error
