"""A wrapper around any `nn.Module`, for a training loop of one's own."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from regrow.data.targets.labels import Kind
from regrow.errors import BadInput
from regrow.metrics.evidence import Collector
from regrow.models.class_rows import ClassRows
from regrow.models.task import Task

Loss = Callable[[Any, Any], Tensor]


class PlainTask(Task):
    """A task around a network that is trained and scored elsewhere; see `as_task`."""

    kind: ClassVar[Kind] = "labels"
    score: ClassVar[str] = "score"
    min_classes: ClassVar[int] = 0
    fixed: Sequence[str] = ()
    loss: Loss | None = None

    def fresh_net(self, weights: str | None = None) -> nn.Module:
        """Return a placeholder, since nothing says how the network is built."""
        return nn.Identity()

    def record(self) -> dict[str, Any]:
        """Refuse to be written as a checkpoint of regrow's.

        Raises:
            BadInput: Always: from a file nobody could build the network again.
        """
        raise BadInput(
            f"{type(self.net).__name__} was given as an object, from which no checkpoint can build "
            "it again; save its state_dict, or name it by its import path, as in "
            "`Classification(..., net='mine.Net')`"
        )

    def outputs(self, features: Tensor) -> dict[str, Tensor]:
        """Return what the network gives by name; a tensor alone is called `output`.

        Raises:
            BadInput: If it gives no tensors.
        """
        given = self.net(features)
        named = _named(given)
        if not named:
            raise BadInput(
                f"{type(self.net).__name__} gives a {type(given).__name__} without tensors; it "
                "must give a tensor, or lists, tuples or mappings of them"
            )
        return named

    def losses(self, outputs: dict[str, Tensor], targets: Any) -> dict[str, Tensor]:
        """Return the loss, of what the network gives and the targets.

        Raises:
            BadInput: If the task was made without one.
        """
        if self.loss is None:
            raise BadInput("this criterion needs a loss; make the task with as_task(..., loss=...)")
        given = outputs["output"] if outputs.keys() == {"output"} else outputs
        return {"loss": self.loss(given, targets)}

    def predict(self, outputs: dict[str, Tensor]) -> Any:
        """Return the raw outputs."""
        return outputs

    def decode(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the raw outputs."""
        return outputs

    def from_decoded(self, decoded: dict[str, Tensor]) -> Any:
        """Return the raw outputs."""
        return decoded

    def make_metric(self) -> Metric:
        """Return a metric that nothing is added to."""
        return MeanMetric()

    def make_evidence(self) -> Collector:
        """Refuse to score.

        Raises:
            BadInput: Always: nothing says what the score is.
        """
        raise BadInput(
            f"{type(self.net).__name__} has no score to prune under a budget by; give `evaluate`, "
            "or train it as a Classification, Detection or Segmentation"
        )

    def class_rows(self) -> list[ClassRows]:
        """Return nothing: what the rows of an output layer mean is not known."""
        return []

    def output_layers(self) -> list[str]:
        """Return the names of the layers whose output width must stay."""
        return list(self.fixed)


def as_task(
    net: nn.Module,
    size: tuple[int, int],
    *,
    loss: Loss | None = None,
    fixed: Sequence[str] = (),
) -> PlainTask:
    """Wrap any network of images, so that its channels can be found, scored and cut.

    Args:
        net: The network, which stays the same object: it takes images (b, 3, h, w), and gives a
            tensor, or lists, tuples and mappings of them.
        size: Height and width of its images, in pixels.
        loss: The loss of what the network gives and the targets, a scalar; criteria that read
            gradients need it.
        fixed: Names of layers whose output width must stay, besides those that give the outputs.

    Examples:
        >>> from torch import nn
        >>> from torch.nn import functional
        >>> from regrow.prune import as_task
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2))
        >>> task = as_task(net, size=(8, 8), loss=functional.cross_entropy)
        >>> task.net is net
        True
    """
    task = PlainTask([], size, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    task.net, task.loss, task.fixed = net, loss, tuple(fixed)
    return task.to(next(net.parameters(), torch.empty(0)).device)


def _named(outputs: Any, name: str = "") -> dict[str, Tensor]:
    """Return all tensors in what a network gives; what lies in lists of lists, by its path."""
    if isinstance(outputs, Tensor):
        return {name or "output": outputs}
    if isinstance(outputs, Mapping):
        parts = {f"{name}.{key}" if name else str(key): part for key, part in outputs.items()}
    elif isinstance(outputs, list | tuple):
        start = f"{name}." if name else "output"
        parts = {f"{start}{place}": part for place, part in enumerate(outputs)}
    else:
        parts = {}
    return {
        key: tensor for path, part in parts.items() for key, tensor in _named(part, path).items()
    }
