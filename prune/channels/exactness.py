"""Tests whether a cut is exact: the cut network computes what the masked one computes."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from regrow.models.modes import copied
from regrow.models.task import Task
from regrow.prune.channels.proof import Findings, compare, first_line, outputs_differ
from regrow.prune.channels.records import Plan, Removed
from regrow.prune.channels.surgery import clone, cut_, exact_copy, mask_
from regrow.prune.depth.settling import settle_branches_
from regrow.prune.depth.skipping import emptied
from regrow.prune.memory import is_out_of_memory

# Real images on which the cut of a step is proved.
NUM_IMAGES = 8


@torch.no_grad()
def check_exact(masked: Task, cut: Task, images: Tensor | None = None) -> float:
    """Compare the outputs of a masked network with the cut one's, in float64, in evaluation mode.

    Args:
        masked: The network whose chosen channels are zero.
        cut: The network without these channels.
        images: Images to compare on besides those made up, uint8 (b, 3, h, w).

    Returns:
        The largest difference of a raw output over the largest value of that output; infinite if
        one of them is not finite or the shapes differ.
    """
    return outputs_differ(exact_copy(masked), exact_copy(cut), images)


def probe(
    task: Task, plan: Plan, images: Tensor | None = None, *, needs_signal: bool = True
) -> str | None:
    """Return why a plan cannot be carried out exactly; None if it can.

    Args:
        task: The network, which stays as it is.
        plan: Groups with the units to remove.
        images: Images that it is tried on besides those made up, uint8 (b, 3, h, w).
        needs_signal: As `proof.compare` takes it.
    """
    masked, cut = exact_copy(task), exact_copy(task)
    try:
        mask_(masked, plan)
        cut_(cut, plan)
    # Whatever a layer raises when it is cut, it cannot be cut.
    except Exception as problem:
        if is_out_of_memory(problem):
            raise
        return f"cutting it fails: {first_line(problem)}"
    return compare(masked, cut, plan, images, needs_signal=needs_signal).reason


def sift(
    task: Task,
    plan: Plan,
    sound: Plan = (),
    images: Tensor | None = None,
    *,
    needs_signal: bool = True,
) -> tuple[list[Any], dict[str, str]]:
    """Separate the groups of a plan that can be cut exactly from the others, by halving.

    Args:
        task: The network, which stays as it is.
        plan: The groups in question with the units to remove.
        sound: Groups and units that are known to be exact, together with which they must be.
        images: Images that they are tried on besides those made up, uint8 (b, 3, h, w).
        needs_signal: As `proof.compare` takes it.

    Returns:
        The part of the plan that is exact, and the reason for each group that is not, by layer.
    """
    if not plan:
        return [], {}
    reason = probe(task, [*sound, *plan], images, needs_signal=needs_signal)
    if reason is None:
        return list(plan), {}
    if len(plan) == 1:
        return [], {plan[0][0].layer: reason}
    half = len(plan) // 2
    first, refused = sift(task, plan[:half], sound, images, needs_signal=needs_signal)
    sound = [*sound, *first]
    second, others = sift(task, plan[half:], sound, images, needs_signal=needs_signal)
    return [*first, *second], refused | others


def cut_exactly_(
    task: Task, plan: Plan, images: Tensor | None
) -> tuple[Removed, float, dict[str, str]]:
    """Cut a plan, and undo it unless the result is that of masking.

    The norms of residual branches that go are measured anew before.
    """
    whole, momenta = copied(task.net), task.momenta
    settle_branches_(task, plan)
    masked = clone(task)
    mask_(masked, plan)
    try:
        exact = exact_copy(task) if emptied(plan) else None
        removed = cut_(task, plan)
        if exact is not None:  # constants of branches are rounded to the precision of weights
            cut_(exact, plan)
        masked, cut = exact_copy(masked), exact or exact_copy(task)
        # What is dead may go: that its channels are told apart was seen when they were found.
        found = compare(masked, cut, plan, images, needs_signal=False)
    # Whatever a network raises when it is cut, it cannot be cut there.
    except Exception as error:
        if is_out_of_memory(error):
            raise
        removed, found = {}, Findings(float("inf"), "cutting it with others fails")
    if found.reason is None:
        return removed, found.error, {}
    task.net, task.momenta = whole, momenta
    _, refused = sift(task, plan, images=images, needs_signal=False)
    return {}, found.error, refused or {group.layer: found.reason for group, _ in plan}


def telling_images(batches: Iterable[tuple[Tensor, Any]]) -> Tensor | None:
    """Return the images of the first batch that a network is likeliest to treat differently.

    Returns:
        The darkest and the brightest image, those with least and most contrast, and the first ones,
        as the batch has them, (n, 3, h, w); None if there is no batch.
    """
    for images, _ in batches:
        light, contrast = images.float().flatten(1).mean(1), images.float().flatten(1).std(1)
        chosen = [int(place) for v in (light, contrast) for place in (v.argmin(), v.argmax())]
        return images[list(dict.fromkeys([*chosen, *range(len(images))]))[:NUM_IMAGES]]
    return None
