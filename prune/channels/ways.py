"""Data-dependent control flow: the ways that a network can take, depending on its images.

A network whose Python code reads no number off a tensor does the same operations whatever the
images. One that does (`if x.mean() > 0`, `float(x)`, `.item()`) may do others on other images. So
each number that depends on the images is answered otherwise too, to see where that leads. So is
what it decides without reading it, by a mask over images or places (`torch.where(bright, a, b)`).
"""

import random
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from math import inf
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from regrow.models.task import Task
from regrow.prune.channels.sights import sights
from regrow.prune.memory import is_out_of_memory

# Where in the code a number is read: file, line, instruction.
Site = tuple[str, int, int]
# What is answered to those who read numbers, where it is not what the number is.
Way = Mapping[Site, bool | int | float]

# A way that was made up ends after so many times the operations of one that images have taken.
LONGEST = 4
# Whole numbers that are answered: which of some layers to run, how often.
COUNTS = range(8)
MAX_OTHERS = 16
# More ways than a network is led along to be proved.
MAX_WAYS = 64
# Beyond all numbers that code compares with.
FAR = 1e6
LIBRARIES = (str(Path(torch.__file__).parent), __file__)
READS = (Tensor.tolist, Tensor.numpy, Tensor.__array__)
# Operations that draw numbers which are added, or compared with.
DRAWS = ("rand", "normal", "uniform", "exponential", "geometric", "cauchy", "log_normal")


class EndlessWay(Exception):
    """A loop that does not end, on a way that was made up."""


class Guide(TorchDispatchMode):
    """Watches the numbers that a network reads off its images, and can answer with others.

    Whatever is drawn at random is the same everywhere, so that networks of different widths draw
    alike, and dropout drops nothing.

    Args:
        images: What the network is run on.
        way: What is answered where.
        most: More operations than of any way that ends.

    Attributes:
        steps: How many operations there were.
        asked: The other answers that there are, by the place that asked.
        reads: Whether a number was read.
        is_blind: Whether shapes follow from the images, or numbers are read in other ways.
        is_finite: Whether the outputs are.
        touched: Where the memory of all tensors lies that were worked with.
    """

    def __init__(self, images: Tensor, way: Way, most: float = inf) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.way, self.most = way, most
        self.steps = 0
        self.asked: dict[Site, list[bool | int | float]] = {}
        self.reads = False
        self.is_blind = False
        self.is_finite = True
        self.touched: set[int] = set()
        self._told = {_memory(images)}
        self._num_images = len(images)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation."""
        self.steps += 1
        if self.steps > self.most:
            raise EndlessWay
        given = _memories((args, kwargs))
        self.touched |= given
        result = func(*args, **(kwargs or {}))
        is_drawn = torch.Tag.nondeterministic_seeded in func.tags
        if is_drawn:
            result = _undrawn(func._schema.name.removeprefix("aten::"), args, result)
        depends = is_drawn or not self._told.isdisjoint(given)
        made = {_memory(result)} if isinstance(result, Tensor) else _memories(result)
        if depends:
            self._told |= made
        else:
            self._told -= made  # the memory of what is gone is used again
        if depends and isinstance(result, bool | int | float):
            self.reads = True
            return self._answer(result)
        if depends and self._is_gate(result):
            self._open_(result)
        self.is_blind |= depends and torch.Tag.dynamic_output_shape in func.tags
        return result

    @property
    def decides(self) -> bool:
        """Whether what a network runs may turn on its images."""
        return self.reads or self.is_blind

    def read(self, tensor: Any) -> None:
        """Note numbers that are read as a list or an array."""
        self.is_blind |= isinstance(tensor, Tensor) and _memory(tensor) in self._told

    def _is_gate(self, result: Any) -> bool:
        """Whether a result is a decision about images or places, for all channels alike."""
        if not isinstance(result, Tensor) or result.dtype != torch.bool or not result.numel():
            return False
        is_of_images = result.numel() == 1 or result.shape[0] == result.numel() == self._num_images
        return is_of_images or (result.ndim > 2 and result.shape[1] == 1)

    def _open_(self, gate: Tensor) -> None:
        """Decide otherwise, in place, where the way says so."""
        site = _site(_asking())
        if site not in self.asked:
            self.asked[site] = [one for one in (True, False) if bool((gate != one).any())]
        if site in self.way:
            gate.fill_(bool(self.way[site]))

    def _answer(self, number: bool | int | float) -> bool | int | float:
        frame = _asking()
        site = _site(frame)
        if site not in self.asked:
            self.asked[site] = _others(number, frame)
        if site not in self.way:
            return number
        return type(number)(self.way[site])


class _Reads(TorchFunctionMode):
    """Notes what leaves PyTorch without an operation, as a list or an array."""

    def __init__(self, guide: Guide) -> None:
        super().__init__()
        self.guide = guide

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in READS and args:
            self.guide.read(args[0])
        return func(*args, **(kwargs or {}))


@contextmanager
def guided(
    images: Tensor, way: Way, *, most: float = inf, sees_reads: bool = False
) -> Iterator[Guide]:
    """Run networks under a guide, with the same numbers drawn each time.

    Args:
        images: What a network will be run on.
        way: What is answered where.
        most: How many operations it may take.
        sees_reads: Whether it sees too what is read as a list or an array, which takes time.
    """
    python, arrays = random.getstate(), np.random.get_state()
    devices = [images.device] if images.is_cuda else []
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices))
        stack.callback(random.setstate, python)
        stack.callback(np.random.set_state, arrays)
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        guide = stack.enter_context(Guide(images, way, most))
        if sees_reads:
            stack.enter_context(_Reads(guide))
        drawn = random.getstate()
        yield guide
        # What is decided by numbers that Python draws cannot be led otherwise.
        guide.is_blind |= random.getstate() != drawn


@torch.no_grad()
def led(
    task: Task, batch: Tensor, way: Way, *, most: float = inf, sees_reads: bool = False
) -> Guide:
    """Run a network on a way, and return what was seen on it."""
    with guided(batch, way, most=most, sees_reads=sees_reads) as guide:
        outputs = task(batch)
    floating = [out for out in outputs.values() if out.is_floating_point()]
    guide.is_finite = all(bool(out.isfinite().all()) for out in floating)
    return guide


def ways(task: Task, batch: Tensor, asked: Mapping[Site, list[Any]]) -> Iterator[tuple[Way, Guide]]:
    """Yield the ways that images could lead a network along, with what it did on each.

    Args:
        task: The task; ways on which its network fails are none.
        batch: Images to run it on.
        asked: What it has asked of images that were not led, with the other answers.
    """
    queue = deque(_beyond({}, asked))
    most = LONGEST * led(task, batch, {}).steps if queue else inf
    count = 0
    while queue and count < MAX_WAYS:
        count += 1
        way = queue.popleft()
        try:
            guide = led(task, batch, way, most=most)
        # An index out of range, a loop without end, an assertion: nothing that images could do.
        except Exception as problem:
            reraise(problem)
            continue
        new = {site: others for site, others in guide.asked.items() if site not in asked}
        queue.extend(_beyond(way, new))
        # Nor is what divides by zero, or the like.
        if guide.is_finite:
            yield way, guide


@torch.no_grad()
def untried_layer(task: Task, images: Tensor | None = None) -> str | None:
    """Return a layer that runs on other images than those of the proof, if there is one.

    Args:
        task: A copy of the task, which is given up for this.
        images: Real images of the proof besides those made up, uint8 (b, 3, h, w).

    Returns:
        The layer whose parameters nothing has touched, where a network decides by its images what
        it runs; None if there is none, or the network cannot run.
    """
    owners = [
        (name or "the network", parameter.untyped_storage().data_ptr())
        for name, module in task.net.named_modules()
        for parameter in module._parameters.values()
        if parameter is not None and parameter.numel()
    ]
    touched: set[int] = set()
    decides = False
    batches = sights(task, images)
    mixed = torch.cat([batch[:1] for batch in batches])
    for is_training in (False, True):
        task.net.train(is_training)
        asked: dict[Site, list[Any]] = {}
        guides: list[Guide] = []
        try:
            # All at once is enough where nothing is decided.
            for batch in [mixed, *batches]:
                guides.append(led(task, batch, {}, sees_reads=True))
                asked |= guides[-1].asked
                if not guides[-1].decides:
                    break
        except Exception as problem:
            reraise(problem)
            return None
        guides += [guide for _, guide in ways(task, batches[0], asked)]
        decides |= any(guide.decides for guide in guides)
        touched = touched.union(*(guide.touched for guide in guides))
    untouched = [name for name, memory in owners if memory not in touched]
    return untouched[0] if decides and untouched else None


def reraise(problem: BaseException) -> None:
    """Raise an error again if it is no fault of a network: memory that ran out."""
    if is_out_of_memory(problem):
        raise problem


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else 0


def _memories(values: Any) -> set[int]:
    return {_memory(value) for value in tree_iter(values) if isinstance(value, Tensor)}


def _undrawn(name: str, args: tuple[Any, ...], result: Any) -> Any:
    """Return, in place of random numbers, what is the same for all channels."""
    if name.startswith("native_dropout"):
        return args[0].clone(), torch.ones_like(result[1])
    if name.startswith("bernoulli"):
        return result.fill_(1)
    if name.startswith(DRAWS) and result.is_floating_point():
        return result.fill_(0.5)
    return result


def _asking() -> FrameType:
    """Return the frame of the code that reads a number, outside of PyTorch."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(LIBRARIES):
        frame = frame.f_back
    return frame or sys._getframe(1)


def _site(frame: FrameType) -> Site:
    return frame.f_code.co_filename, frame.f_lineno, frame.f_lasti


def _others(number: bool | int | float, frame: FrameType) -> list[bool | int | float]:
    """Return numbers on the other sides of all bounds that the code may compare one with."""
    if isinstance(number, bool):
        return [not number]
    owner = frame.f_locals.get("self")
    known = [*frame.f_code.co_consts, *frame.f_locals.values()]
    known += vars(owner).values() if hasattr(owner, "__dict__") else []
    bounds = sorted({value for value in known if type(value) in (int, float) and abs(value) < FAR})
    if isinstance(number, int):
        near = {bound + step for bound in bounds for step in (-1, 0, 1) if type(bound) is int}
        return [other for other in (*COUNTS, *sorted(near)) if other != number][:MAX_OTHERS]
    edges = sorted({0.0, *map(float, bounds)})
    between = [(low + high) / 2 for low, high in zip(edges, edges[1:], strict=False)]
    return [-FAR, FAR, 0.0, *between][:MAX_OTHERS]


def _beyond(way: Way, asked: Mapping[Site, list[bool | int | float]]) -> Iterator[Way]:
    """Yield the ways that leave another one at one more place."""
    for site, others in asked.items():
        for other in others if site not in way else ():
            yield {**way, site: other}
