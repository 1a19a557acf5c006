"""Knowledge distillation: a penalty for the distance from a teacher's outputs and features."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.models.distillation_losses import (
    attention_distance,
    channel_divergence,
    shared_classes,
)
from regrow.models.modes import copied
from regrow.models.task import Penalty, Task

Calls = list[tuple[str, Any]]


@dataclass(frozen=True)  # slots would hide its defaults from the command line
class Distillation:
    """Settings of distillation: the weights of its terms and the temperature.

    Args:
        weight: Weight of the term of raw outputs, beside the task's own losses.
        temperature: Temperature: the logits of classes that exclude each other are divided by it;
            above 1 the teacher's less likely classes count for more. Detection ignores it, since
            its scores are independent.
        features: Weight of the term of feature maps; 0 leaves it out.
        layers: Names of the layers whose feature maps (b, d, h, w) are compared; by default the
            last of each resolution.
        channels: Weight of the channel-wise term of detection and segmentation, which compares
            where each class is; 0 leaves it out.

    Raises:
        BadInput: If a value is out of range.
    """

    weight: float = 1.0
    temperature: float = 2.0
    features: float = 0.0
    layers: list[str] | None = None
    channels: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("weight", "channels", "features"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise BadInput(f"distillation.{name} is {value}, it must be 0 or more")
        if not 0 < self.temperature < math.inf:
            raise BadInput(f"distillation.temperature is {self.temperature}, it must be > 0")


class DistillationPenalty(Penalty):
    """The distillation term of the loss: the distance from a teacher on each step's images.

    A step costs one forward pass of the teacher more, without gradient, and the run a copy of its
    weights; Faster R-CNN runs its second stage once more, on the teacher's proposals. Classes are
    matched by name, and what only one of the two knows is left alone. The teacher is no part of
    the student: it is in no checkpoint, and copies of the student share it.

    Args:
        teacher: The teacher, which is copied: a task of the student's kind for images of the
            student's size, in general the same network before it was pruned or grown.
        distillation: The settings.

    Raises:
        BadInput: If features are asked for and the teacher has no such layers, or the channel-wise
            term and it has no places.
    """

    name = "distillation"

    def __init__(self, teacher: Task, distillation: Distillation = Distillation()) -> None:
        super().__init__()
        self.distillation = distillation
        self._kept = _Kept(teacher)
        self._seen: Calls = []
        self._layers: list[str] = []
        if distillation.channels:  # refused at once where there are no places
            with torch.no_grad():
                teacher.class_maps(self._kept.task(teacher.example_images(1)))
        if distillation.features:
            self._layers = distillation.layers or last_maps(self._kept.task)

    @contextmanager
    def watching(self, task: Task) -> Iterator[None]:
        """Record the feature maps of the task's layers, for the time of a step.

        Raises:
            BadInput: If the task's network lacks a layer, or is compiled.
        """
        if self._layers and task.compile_net:
            raise BadInput("distillation.features needs a network that is not compiled")
        try:
            with hooked(task.net, self._layers, lambda name, out: self._seen.append((name, out))):
                yield
        finally:
            self._seen.clear()

    def forward(self, task: Task, images: Tensor, outputs: dict[str, Tensor]) -> Tensor:
        """Return the weighted distance, a scalar.

        Args:
            task: The student.
            images: Images as the student gets them, uint8 or floats in [0, 1], (b, 3, h, w).
            outputs: The student's raw outputs; with features, of the pass that was watched.

        Raises:
            BadInput: If student and teacher do not compare.
        """
        teacher = self._kept.on(images.device)
        _check_pair(task, teacher)
        theirs: Calls = []
        note = hooked(teacher.net, self._layers, lambda name, out: theirs.append((name, out)))
        with torch.no_grad(), note:
            wanted = teacher(images)
        if outputs.keys() != wanted.keys():
            raise BadInput(
                f"distillation: the network gives {', '.join(outputs)}, its teacher "
                f"{', '.join(wanted)}; a teacher must be the same network, pruned or not"
            )
        shared = shared_classes(task.classes, teacher.classes)
        distance = task.distillation_loss(outputs, wanted, shared, self.distillation.temperature)
        total = self.distillation.weight * distance
        if self.distillation.channels:
            maps = task.class_maps(outputs), teacher.class_maps(wanted)
            apart = channel_divergence(*maps, shared, self.distillation.temperature)
            total = total + self.distillation.channels * apart
        if not self._layers:
            return total
        distances = [_attention_distance(name, self._seen, theirs) for name in self._layers]
        return total + self.distillation.features * torch.stack(distances).mean()


def last_maps(task: Task) -> list[str]:
    """Return the last layer of each resolution of a network, output layers left out.

    Args:
        task: The task; its network runs once on two images.

    Returns:
        Names of layers that give maps (b, d, h, w) of more than one pixel.

    Raises:
        BadInput: If there are none.
    """
    outputs = [f"{name}." for name in task.output_layers()]
    names = [name for name, _ in task.net.named_modules() if name]
    names = [name for name in names if not any(o.startswith(f"{name}.") for o in outputs)]
    images = task.example_images(2)
    last: dict[torch.Size, str] = {}

    def note(name: str, out: Any) -> None:
        # Maps of regions have another number of images.
        if _is_map(out) and len(out) == len(images) and out[0, 0].numel() > 1:
            last[out.shape[2:]] = name

    with torch.no_grad(), hooked(task.net, names, note):
        task(images)
    if not last:
        raise BadInput("distillation.features: no layer of the net gives maps (b, d, h, w)")
    return list(dict.fromkeys(last.values()))


@contextmanager
def hooked(
    net: nn.Module, layers: Iterable[str], note: Callable[[str, Any], None]
) -> Iterator[None]:
    """Call a function with name and output of layers whenever they run, for a while.

    Raises:
        BadInput: If there is no such layer.
    """
    with ExitStack() as hooks:
        for name in layers:
            try:
                layer = net.get_submodule(name)
            except AttributeError as error:
                raise BadInput(f"distillation.layers: the net has no layer {name!r}") from error
            hooks.enter_context(
                layer.register_forward_hook(lambda _, __, out, name=name: note(name, out))
            )
        yield


class _Kept:
    """A frozen copy of the teacher, hidden from `nn.Module` and from copies of the student."""

    def __init__(self, teacher: Task) -> None:
        self.task = copied(teacher).eval().requires_grad_(False)

    def on(self, device: torch.device) -> Task:
        if self.task.mean.device != device:
            self.task.to(device)
        return self.task

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


def _check_pair(student: Task, teacher: Task) -> None:
    for name in ("kind", "size"):
        own, theirs = getattr(student, name), getattr(teacher, name)
        if own != theirs:
            raise BadInput(f"distillation: the network's {name} is {own}, its teacher's {theirs}")
    if len({*student.classes} & {*teacher.classes}) < student.min_classes:
        raise BadInput(
            f"distillation: the network knows {', '.join(student.classes)}, its teacher "
            f"{', '.join(teacher.classes)}; they must share {student.min_classes} or more"
        )


def _attention_distance(layer: str, seen: Calls, taught: Calls) -> Tensor:
    own, theirs = ([out for name, out in calls if name == layer] for calls in (seen, taught))
    if not own:
        raise BadInput(f"distillation.layers: {layer!r} did not run while the step was watched")
    # A layer that many levels share runs once for each.
    pairs = list(zip(own, theirs, strict=False))
    if len(own) != len(theirs) or not all(_are_comparable(*pair) for pair in pairs):
        raise BadInput(
            f"distillation.layers: {layer!r} does not give the same number and size of maps "
            "(b, d, h, w) as in its teacher"
        )
    return torch.stack([attention_distance(*pair) for pair in pairs]).mean()


def _are_comparable(maps: Any, wanted: Any) -> bool:
    return _is_map(maps) and _is_map(wanted) and maps[:, 0].shape == wanted[:, 0].shape


def _is_map(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 4
