"""Compensation of a plan: each reader of pruned channels is fitted to the unpruned network."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.models.modes import evaluating
from regrow.models.nets.attention import converted
from regrow.models.task import Task
from regrow.prune.channels.records import Plan
from regrow.prune.channels.surgery import clone, mask_
from regrow.prune.compensation.readers import REGION_TYPES, Reader, find_readers
from regrow.prune.compensation.ridge import Gram, outputs_of, rows_of, set_weights_, weights_of
from regrow.prune.contributions import Batches, some

# A layer that is its weight times its input differs from that by rounding of float32 alone.
ROUNDING = 1e-3


@dataclass(frozen=True, slots=True)
class Compensation:
    """Settings of least-squares compensation.

    Args:
        num_images: Number of training images that layers are fitted on.
        ridge: The ridge penalty, over the mean of the Gram matrix's diagonal.

    Raises:
        BadInput: If a value is out of range.
    """

    num_images: int = 1024
    ridge: float = 1e-3

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.num_images < 1 or not self.ridge > 0:
            raise BadInput(
                f"compensation.num_images is {self.num_images} and compensation.ridge "
                f"{self.ridge}; they must be at least 1 and above 0"
            )


@dataclass(slots=True)
class Compensated:
    """The outcome of a compensation.

    Args:
        errors: The mean squared error of each fitted layer's outputs that stay, before and after.
        left: The reason for each reader that is as it was.
    """

    errors: dict[str, tuple[float, float]] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


@torch.no_grad()
def compensate_(
    task: Task, plan: Plan, batches: Batches | None, settings: Compensation = Compensation()
) -> Compensated:
    """Fit each layer that reads a pruned group to the network's own outputs, before it is cut.

    What a reader gives is restored as well as the channels that stay allow, by ridge regression
    with Gram matrices in float64. Layers are taken in the order in which they run: inputs come from
    the network that is masked and fitted so far, targets from the network as it is. Only weights
    that stay change, so that the masked network and the cut one agree as before.

    Source: Yu et al., GRAIL, 2026, arXiv 2602.23795; He et al., Channel Pruning for Accelerating
    Very Deep Neural Networks, 2017, arXiv 1707.06168, section 3.1.2, there layer by layer too.

    Args:
        task: The network before the plan is carried out; its weights are set in place.
        plan: Its groups with the units to remove.
        batches: Training images and targets, of which the images count.
        settings: Number of images, and the penalty.

    Raises:
        BadInput: If there are no images.
    """
    images = calibration_images(batches, settings.num_images)
    masked = clone(task)
    mask_(masked, plan)
    readers, left = find_readers(task.net, plan)
    found = Compensated({}, left)
    fitting = _Fitting(task, masked, images, settings.ridge)
    with converted(task.net), converted(masked.net), evaluating(task.net), evaluating(masked.net):
        for reader, num_calls in _in_order(task, images[0][:2], readers, found.left):
            fitting.fit_(reader, num_calls, found)
    for name in found.errors:
        layer, source = task.net.get_submodule(name), masked.net.get_submodule(name)
        reader = next(one for one in readers if one.layer == name)
        places = _places(reader, task.mean.device)
        set_weights_(layer, *places, weights_of(source, *places))
    return found


def calibration_images(batches: Batches | None, count: int) -> list[Tensor]:
    """Return the first images of batches, so many as are asked for, or all.

    Raises:
        BadInput: If there are none.
    """
    chosen: list[Tensor] = []
    for images, _ in some(batches, count):
        missing = count - sum(map(len, chosen))
        chosen.append(images[:missing])
        if missing <= len(images):
            break
    return chosen


class _Stop(Exception):
    """Ends a pass when the layer in question has run."""


@dataclass(slots=True)
class _Fitting:
    """The networks of a compensation, and the images that they are run on."""

    task: Task
    masked: Task
    images: Sequence[Tensor]
    ridge: float

    def fit_(self, reader: Reader, num_calls: int, found: Compensated) -> None:
        """Fit one layer of the masked network, and note the errors or the reason against it."""
        layer = self.masked.net.get_submodule(reader.layer)
        device = self.task.mean.device
        inputs, outputs = _places(reader, device)
        start = weights_of(layer, inputs, outputs)
        gram = Gram(start.shape[0], start.shape[1], device)
        for images in self.images:
            images = images.to(device)
            reason = self._add_(gram, reader, num_calls, images, start)
            if reason is not None:
                found.left[reader.layer] = reason
                return
        weights = gram.solve(start, self.ridge)
        before, after = gram.error(start), gram.error(weights)
        if not after <= before:  # rounding, where nothing was lost
            weights, after = start, before
        set_weights_(layer, inputs, outputs, weights)
        found.errors[reader.layer] = (before, after)

    def _add_(
        self, gram: Gram, reader: Reader, num_calls: int, images: Tensor, start: Tensor
    ) -> str | None:
        """Add the rows of some images; return what speaks against fitting the layer."""
        layer = self.masked.net.get_submodule(reader.layer)
        wanted = _run(self.task, reader.layer, images, num_calls)
        given = _run(self.masked, reader.layer, images, num_calls)
        if [y.shape for _, y in wanted] != [y.shape for _, y in given]:
            return "it reads another number of rows in the pruned network"
        inputs, outputs = _places(reader, images.device)
        for (x, got), (_, target) in zip(given, wanted, strict=True):
            for first, last, rows in rows_of(layer, x, inputs):
                aims = outputs_of(layer, target[first:last], outputs)
                if not gram.count and not _is_product(
                    rows, start, outputs_of(layer, got[first:last], outputs)
                ):
                    return "it computes more than its weight times its input"
                gram.add_(rows, aims)
        return None


def _is_product(rows: Tensor, weights: Tensor, given: Tensor) -> bool:
    if len(rows) != len(given):
        return False
    difference = (rows.double() @ weights - given.double()).abs().max()
    return bool(difference <= ROUNDING * given.abs().max().clamp_min(1e-6))


def _places(reader: Reader, device: torch.device) -> tuple[Tensor, Tensor]:
    return torch.tensor(reader.inputs, device=device), torch.tensor(reader.outputs, device=device)


def _in_order(
    task: Task, images: Tensor, readers: Sequence[Reader], left: dict[str, str]
) -> Iterator[tuple[Reader, int]]:
    """Yield the readers in the order in which they run first, with the number of their calls."""
    calls: dict[str, int] = defaultdict(int)
    by_name = {reader.layer: reader for reader in readers}
    behind: set[str] = set()
    has_regions = False

    def note(name: str) -> Any:
        def hook(*_: Any) -> None:
            nonlocal has_regions
            if name not in by_name:
                has_regions = True
                return
            calls[name] += 1
            if has_regions:
                behind.add(name)

        return hook

    regions = [n for n, m in task.net.named_modules() if isinstance(m, REGION_TYPES)]
    with _hooked(task.net, {name: note(name) for name in [*by_name, *regions]}):
        task(images.to(task.mean.device))
    for name in by_name:
        if name not in calls:
            left[name] = "it is not called as a layer"
        elif name in behind:
            left[name] = "it reads regions that each network chooses by itself"
    yield from ((by_name[name], count) for name, count in calls.items() if name not in left)


def _run(task: Task, name: str, images: Tensor, num_calls: int) -> list[tuple[Tensor, Tensor]]:
    """Run a network until a layer has been called so often; return its inputs and outputs."""
    seen: list[tuple[Tensor, Tensor]] = []

    def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        # What runs between two calls may change them in place.
        keep = torch.clone if num_calls > 1 else torch.Tensor.detach
        seen.append((keep(inputs[0]), keep(output)))
        if len(seen) == num_calls:
            raise _Stop

    with _hooked(task.net, {name: hook}), suppress(_Stop):
        task(images)
    return seen


@contextmanager
def _hooked(net: nn.Module, hooks: dict[str, Any]) -> Iterator[None]:
    handles = [net.get_submodule(n).register_forward_hook(hook) for n, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
