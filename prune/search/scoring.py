"""Scores of candidates: how far a network that is really cut is from the unpruned one."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

import torch
from torch import Tensor

from regrow.errors import BadInput
from regrow.models.distillation_losses import Shared, shared_classes
from regrow.models.latency import Latency
from regrow.models.modes import evaluating
from regrow.models.task import Task
from regrow.prune.channels.records import Plan
from regrow.prune.channels.surgery import clone, cut_
from regrow.prune.contributions import Batches, some
from regrow.prune.cost_model import costs_of
from regrow.prune.depth.settling import settle_branches_
from regrow.prune.memory import is_out_of_memory
from regrow.prune.recovery import reestimate_batchnorm_

# The raw outputs of the unpruned network are held for all images, 512 MiB of them at most.
MOST_BYTES = 2**29


@dataclass(frozen=True, slots=True)
class Scored:
    """The figures of a candidate that was cut.

    Args:
        distance: Its distance from the unpruned network, 0 where both agree; infinite if it could
            not be cut or run.
        costs: Its costs as they were measured.
    """

    distance: float
    costs: dict[str, float]


class Scorer:
    """Scores candidates on training images by their distance from the unpruned network.

    The distance is the task's distillation loss at temperature 1: of classes the Kullback-Leibler
    divergence, in segmentation its mean over pixels; in detection that of the raw scores and box
    codes, weighted by what the unpruned network finds. For a network whose task has no such loss it
    is the squared error of all raw outputs, over their variance. Images are used in the order of
    the loader: the first ones for scores, those that follow for batch norms, which begin with the
    first ones again where there are too few.

    Args:
        task: The network that candidates are cut out of; it stays as it is.
        reference: The unpruned network.
        batches: Training images and targets, of which the images count.
        num_images: Number of images of scores, fewer where raw outputs are large.
        num_batches: Number of batches that batch norms are measured anew on.
        latency: Times candidates, where latency has a ceiling.

    Raises:
        BadInput: If there are no images.
    """

    def __init__(
        self,
        task: Task,
        reference: Task,
        batches: Batches | None,
        num_images: int,
        num_batches: int,
        latency: Latency | None = None,
    ) -> None:
        self.task, self.reference, self.latency = task, reference, latency
        self.shared = shared_classes(task.classes, reference.classes)
        self.images: list[Tensor] = []
        self.wanted: list[dict[str, Tensor]] = []
        self.norm_batches: list[tuple[Tensor, Any]] = []
        first: list[Tensor] = []
        missing, room = num_images, float(MOST_BYTES)
        for images, _ in some(batches, num_images + num_batches):
            if missing > 0 and room > 0:
                first.append(images)
                images = images[:missing]
                self.images.append(images)
                self.wanted.append(raw_outputs(reference, images))
                missing -= len(images)
                room -= sum(t.numel() * t.element_size() for t in self.wanted[-1].values())
            elif len(self.norm_batches) < num_batches:
                self.norm_batches.append((images, None))
            else:
                break
        more = first[: num_batches - len(self.norm_batches)]
        self.norm_batches += [(images, None) for images in more]

    def __call__(self, plan: Plan, part: float = 1.0) -> Scored:
        """Cut a copy by a plan, measure its batch norms anew, and score it.

        Args:
            plan: Groups of the task's network with the units to remove.
            part: The share of the images and batches that is used, rounded up to whole batches.
        """
        trial = clone(self.task)
        try:
            settle_branches_(trial, plan)
            cut_(trial, plan)
            reestimate_batchnorm_(trial, self.norm_batches, _share(self.norm_batches, part))
            apart = self.distance(trial, part)
            costs: dict[str, float] = {**costs_of(trial)}
            if self.latency is not None:
                costs["latency"] = self.latency.share(trial)
        # Whatever a network raises when it is cut, the plan is refused where it is proved.
        except Exception as error:
            if is_out_of_memory(error) or isinstance(error, BadInput):
                raise
            return Scored(inf, {})
        return Scored(apart if isfinite(apart) else inf, costs)

    @torch.no_grad()
    def distance(self, trial: Task, part: float = 1.0) -> float:
        """Compute the mean distance of a network from the unpruned one.

        Args:
            trial: The network.
            part: The share of the images that is used, rounded up to whole batches.
        """
        count = _share(self.images, part)
        total, num_images = 0.0, 0
        for images, wanted in zip(self.images[:count], self.wanted[:count], strict=True):
            outputs = raw_outputs(trial, images, on_cpu=False)
            device = trial.mean.device
            theirs = {name: tensor.to(device) for name, tensor in wanted.items()}
            total += float(distance(trial, outputs, theirs, self.shared)) * len(images)
            num_images += len(images)
        return total / num_images


def distance(
    task: Task, outputs: dict[str, Tensor], wanted: dict[str, Tensor], shared: Shared
) -> Tensor:
    """Compute the distance of a network's raw outputs from another's, a scalar; see `Scorer`.

    Args:
        task: The task that the outputs are of.
        outputs: Its raw outputs.
        wanted: Those of the other network on the same images.
        shared: The classes in common.
    """
    if _has_loss(task):
        return task.distillation_loss(outputs, wanted, shared, 1.0)
    errors = [
        (outputs[name] - theirs).square().mean() / theirs.var().clamp_min(1e-12)
        for name, theirs in wanted.items()
        if theirs.is_floating_point() and theirs.numel() > 1
    ]
    return torch.stack(errors).mean() if errors else torch.zeros((), device=task.mean.device)


def _has_loss(task: Task) -> bool:
    return type(task).distillation_loss is not Task.distillation_loss


@torch.no_grad()
def raw_outputs(task: Task, images: Tensor, on_cpu: bool = True) -> dict[str, Tensor]:
    """Compute the raw outputs of a network in evaluation mode, without a gradient.

    Args:
        task: The network, on any device.
        images: Images of one batch, uint8 (b, 3, h, w).
        on_cpu: Whether the outputs are moved to the CPU.
    """
    with evaluating(task.net):
        outputs = task(images.to(task.mean.device))
    return {name: tensor.cpu() if on_cpu else tensor for name, tensor in outputs.items()}


def _share(batches: Iterable[Any], part: float) -> int:
    count = len(list(batches))
    return max(1, -int(-part * count // 1)) if count else 0
