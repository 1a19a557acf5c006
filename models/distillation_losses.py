"""Distillation losses: distances of raw outputs and feature maps from a teacher's."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from regrow.errors import BadInput


class Shared(NamedTuple):
    """The classes that a student has in common with its teacher, in the student's order.

    Args:
        own: Their places among the student's classes, an index along the axis of classes.
        theirs: Their places among the teacher's.
    """

    own: list[int] | slice = slice(None)
    theirs: list[int] | slice = slice(None)


def shared_classes(own: Sequence[str], theirs: Sequence[str]) -> Shared:
    """Return the places of the classes that both lists name."""
    if list(own) == list(theirs):
        return Shared()  # a slice copies nothing
    places = {name: place for place, name in enumerate(theirs)}
    both = [(place, places[name]) for place, name in enumerate(own) if name in places]
    return Shared([place for place, _ in both], [place for _, place in both])


def soft_divergence(
    student_logits: Tensor, teacher_logits: Tensor, shared: Shared, temperature: float = 1.0
) -> Tensor:
    """Return the divergence of a teacher's softened probabilities from a student's.

    It is taken among shared classes alone: what a teacher says of a class that it does not know
    is nothing. The square of the temperature keeps the size of the gradient.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, arXiv 1503.02531,
    there the cross-entropy, which has the same gradient; among old classes alone, Li and Hoiem,
    Learning without Forgetting, 2016, arXiv 1606.09282.

    Args:
        student_logits: The student's logits, (b, c, ...).
        teacher_logits: The teacher's, with its own classes.
        shared: The classes in common.
        temperature: Divisor of the logits.

    Returns:
        The mean over the batch, and over places if there are any; a scalar, 0 where both agree.

    Raises:
        BadInput: If the shapes differ in more than the classes.
    """
    pair = _alike(student_logits[:, shared.own], teacher_logits[:, shared.theirs])
    student, teacher = ((logits / temperature).log_softmax(1) for logits in pair)
    divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
    return temperature**2 * divergence.mean()


def channel_divergence(
    student_maps: Tensor, teacher_maps: Tensor, shared: Shared, temperature: float = 1.0
) -> Tensor:
    """Return the divergence of where a teacher sees each class from where a student does.

    The softmax goes over the places of each class, so that classes of few pixels count as much as
    those of many. What all places of a class have in common has no say.

    Source: Shu et al., Channel-wise Knowledge Distillation for Dense Prediction, 2021, arXiv
    2011.13256, on the maps of classes.

    Args:
        student_maps: The student's logits of each class at each place, (b, c, ...).
        teacher_maps: The teacher's, with its own classes.
        shared: The classes in common.
        temperature: Divisor of the logits.

    Returns:
        The mean over images and classes; a scalar, 0 where both agree.

    Raises:
        BadInput: If the shapes differ in more than the classes.
    """
    pair = _alike(student_maps[:, shared.own], teacher_maps[:, shared.theirs])
    student, teacher = ((maps.flatten(2) / temperature).log_softmax(2) for maps in pair)
    divergence = F.kl_div(student, teacher, reduction="none", log_target=True).sum(2)
    return temperature**2 * divergence.mean()


def focused_divergence(
    student_logits: Tensor, student_codes: Tensor, teacher_logits: Tensor, teacher_codes: Tensor
) -> Tensor:
    """Return the distance of dense detections from a teacher's, weighted by what it has found.

    Nearly all anchors see background, and would drown the rest by their number. So differences in
    the scores count by their own square, which is tiny where both networks see nothing, but not
    where only one does; and the boxes count by the square of the teacher's best score. Both are
    divided by the sum of these weights, as other losses are by the number of objects.

    Source: the scores' term is the quality focal loss of Li et al., Generalized Focal Loss, 2020,
    arXiv 2006.04388, with the teacher's score for the quality, as in Wang et al., CrossKD, 2024,
    arXiv 2306.11369; boxes by the teacher's confidence as there, ours squared as in the focal loss.

    Args:
        student_logits: The student's logits, one sigmoid a class and no background, (b, k, c).
        student_codes: The student's boxes, in any code, (b, k, d).
        teacher_logits: The teacher's logits.
        teacher_codes: The teacher's codes.

    Returns:
        The mean over images, a scalar, 0 where both agree.

    Raises:
        BadInput: If the shapes differ.
    """
    logits, teacher_logits = _alike(student_logits, teacher_logits)
    codes, teacher_codes = _alike(student_codes, teacher_codes)
    wanted = teacher_logits.sigmoid()
    focus = (logits.sigmoid() - wanted).square()
    scores = focus * F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    weight = wanted.amax(-1).square()
    boxes = weight * F.smooth_l1_loss(codes, teacher_codes, reduction="none").mean(-1)
    num_found = weight.sum(1).clamp(min=1)
    return ((scores.sum((1, 2)) + boxes.sum(1)) / num_found).mean()


def one_against_rest(logits: Tensor) -> Tensor:
    """Return the logits of sigmoids that have the probabilities of a softmax over the last axis.

    So classes can be compared one by one, whatever the others are. They end at about 14, where
    single precision ends.
    """
    return logit_of(logits.float().log_softmax(-1))


def centred_logits(logits: Tensor, centredness: Tensor) -> Tensor:
    """Return the logits of scores that are the root of two sigmoids' product, as in FCOS.

    The scores themselves would be 0 in single precision where both logits are low, without a
    gradient.
    """
    return logit_of((F.logsigmoid(logits.float()) + F.logsigmoid(centredness.float())) / 2)


def logit_of(log_p: Tensor) -> Tensor:
    """Return the logits of probabilities that are given by their logarithms, 14 at most."""
    log_p = log_p.clamp(max=-1e-6)
    return log_p - torch.log(-torch.expm1(log_p))


def attention_distance(student_maps: Tensor, teacher_maps: Tensor) -> Tensor:
    """Return the distance between the spatial attention of a layer and of a teacher's.

    The attention to a place is the sum of squares over channels, and all places of an image have
    one unit of length together, so that layers of any width can be compared.

    Source: Zagoruyko and Komodakis, Paying More Attention to Attention, 2017, arXiv 1612.03928,
    activation-based; ours squares the distance, whose gradient is 0 where both agree.

    Args:
        student_maps: The student's feature maps, (b, d, h, w).
        teacher_maps: The teacher's, of any width.

    Returns:
        The mean squared distance over images, in [0, 2].
    """
    pair = (student_maps, teacher_maps)
    own, theirs = (F.normalize(m.float().square().sum(1).flatten(1), dim=1) for m in pair)
    return (own - theirs).square().sum(1).mean()


def _alike(own: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    if own.shape != theirs.shape:
        raise BadInput(
            f"distillation: the network gives {tuple(own.shape)}, its teacher "
            f"{tuple(theirs.shape)}; a teacher must be the same network, pruned or not"
        )
    return own.float(), theirs.float()
