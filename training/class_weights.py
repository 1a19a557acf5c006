"""Class weights in the loss: rare classes count more, so that all classes count alike."""

from collections.abc import Sequence

import torch
from torch import Tensor

from regrow.data.module import GrowingData
from regrow.models.task import Task


def balanced_weights(counts: Sequence[int]) -> Tensor:
    """Return the weight of each class in the loss, inversely proportional to its count, (c,).

    The mean weight of what was counted is 1, so the scale of the loss stays.

    Source: King and Zeng, Logistic Regression in Rare Events Data, 2001; scikit-learn's
    `class_weight="balanced"`.

    Args:
        counts: How many images or pixels show each class; a class of none has the weight 0.
    """
    shown = sum(count > 0 for count in counts)
    total = sum(counts)
    return torch.tensor([total / (shown * count) if count else 0.0 for count in counts])


def weigh_classes_(task: Task, data: GrowingData) -> None:
    """Set the class weights in the loss of a task by its training data, if it asks for them.

    Args:
        task: The task.
        data: Its data, its labels in the order of the task's classes.
    """
    if task.class_weights is None:
        return
    counts = data.class_counts()
    weights = balanced_weights([counts.get(name, 0) for name in task.classes])
    task.loss_weights = weights.to(task.mean.device)
