"""The score of a network on images, with what statistics need of each image."""

from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from regrow.metrics.evidence import Evidence
from regrow.metrics.scores import alone
from regrow.models.modes import evaluating
from regrow.models.task import Task
from regrow.progress import progress


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The scores of a network on images.

    Args:
        name: The headline score's name.
        value: The headline score, in [0, 1].
        per_class: The score of each class by name; NaN where the truth has none.
        others: Further scores by name.
        evidence: The contribution of each image.
        num_images: Number of images.
    """

    name: str
    value: float
    per_class: dict[str, float]
    others: dict[str, float]
    evidence: Evidence
    num_images: int


@torch.inference_mode()
def evaluate(
    task: Task,
    loader: Iterable[tuple[Tensor, Any]],
    forward: Callable[[Tensor], dict[str, Tensor]] | None = None,
    *,
    description: str = "evaluation",
) -> Evaluation:
    """Score a network, in evaluation mode, on its device; its modes are put back.

    Args:
        task: The network, and what its score is.
        loader: Images and targets.
        forward: A function from uint8 images to raw outputs, in place of the network.
        description: The text of the progress bar.

    Examples:
        >>> import torch
        >>> from regrow.models import Classification
        >>> from regrow.training import evaluate
        >>> task = Classification(["cat", "dog"], (32, 32))
        >>> images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
        >>> result = evaluate(task, [(images, torch.zeros(8, dtype=torch.int64))])
        >>> result.name, result.num_images
        ('accuracy', 8)
    """
    total = len(loader) if isinstance(loader, Sized) else None

    def predicted() -> Iterator[tuple[Any, Any]]:
        for images, targets in progress(loader, description, total):
            images, targets = _moved(images, task), _moved(targets, task)
            outputs, targets = task.as_labelled((forward or task)(images), targets)
            yield task.predict(outputs), targets

    with evaluating(task):
        return evaluate_predictions(task, predicted())


def evaluate_predictions(task: Task, batches: Iterable[tuple[Any, Any]]) -> Evaluation:
    """Score predictions that are made elsewhere, as by an exported model.

    Args:
        task: The task, whose score it is.
        batches: Predictions as `task.predict` returns them, and targets without the classes that
            they know, both on the task's device.
    """
    metric = alone(task.make_metric().to(task.mean.device))
    evidence = task.make_evidence()
    for predictions, targets in batches:
        metric.update(predictions, targets)
        evidence.update(predictions, targets)
    values = metric.compute()
    per_class = values.pop("per_class").tolist()
    others = {name: float(value) for name, value in values.items() if name != task.score}
    return Evaluation(
        task.score,
        float(values[task.score]),
        dict(zip(task.classes, per_class, strict=True)),
        others,
        evidence,
        evidence.num_images,
    )


def not_finite(net: nn.Module) -> str | None:
    """Name the first parameter that is not finite, or buffer that holds NaN; None if all are sound.

    A score does not tell: of NaN everywhere the first class is as likely as any, and often right.
    """
    for name, parameter in net.named_parameters():
        if not parameter.isfinite().all():
            return name
    return next((name for name, buffer in net.named_buffers() if buffer.isnan().any()), None)


def _moved(value: Any, task: Task) -> Any:
    return task.transfer_batch_to_device(value, task.mean.device, 0)
