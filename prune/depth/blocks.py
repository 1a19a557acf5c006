"""The parts of a residual block: branch, shortcut and activation, read off its autograd graph."""

from collections.abc import Collection
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from regrow.models.record.branches import RELU

ADDITIONS = {"add", "add_", "__add__", "__radd__", "__iadd__"}


class NoBranch(Exception):
    """The reason why a block has no residual branch that could go."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a residual block.

    Args:
        shortcut: Its layer on the shortcut; empty for the identity.
        activation: What is behind the addition, as `ShortcutBlock` names it.
        reader: The layer that ends what depends on the block's input in the branch.
        given: What the branch gives.
    """

    shortcut: str
    activation: str
    reader: str
    given: Tensor


@dataclass(slots=True)
class _Call:
    """A call of a layer: the autograd functions that made what it read, and what it gave."""

    layer: str
    read: Any
    gave: Any


@dataclass(slots=True)
class _Run:
    """What a block does with an input."""

    start: Any
    end: Any
    calls: list[_Call]
    sums: dict[Any, list[tuple[Any, Tensor]]] = field(default_factory=dict)


def parts_of(block: nn.Module, x: Tensor, readers: Collection[str]) -> Parts:
    """Find the branch of a residual block that ends in one of some layers.

    The block must be an activation of the sum of two: the input, or what one layer makes of it,
    and a branch, in which the input is seen through those layers alone.

    Args:
        block: The block, in evaluation mode.
        x: An input.
        readers: The layers, by their names in the block.

    Raises:
        NoBranch: If it is no such block.
    """
    run = _run(block, x)
    children = {name for name, _ in block.named_children()}
    activation, total = _activation(run, children)
    if total not in run.sums:
        raise NoBranch("does not end in a sum of its input and a branch")
    one, other = run.sums[total]
    for (branch, given), (shortcut, _) in ((one, other), (other, one)):
        name = _shortcut(run, shortcut, children)
        found = None if name is None else _ends(run, branch, readers)
        if name is None or found is None:
            continue
        if len(found) != 1:
            raise NoBranch(f"has a branch that {' and '.join(sorted(found)) or 'nothing'} ends")
        return Parts(name, activation, found.pop(), given)
    raise NoBranch("has no branch that sees its input through these channels alone")


def _run(block: nn.Module, x: Tensor) -> _Run:
    """Run a block, and take note of its layers and sums."""
    calls: list[_Call] = []
    with _watched(block, calls), _Sums() as found, torch.inference_mode(False), torch.enable_grad():
        x = x.detach().clone().requires_grad_().clone()
        start = x.grad_fn
        y = block(x)
    if not isinstance(y, Tensor) or y.grad_fn is None:
        raise NoBranch("gives no single tensor")
    return _Run(start, y.grad_fn, calls, found.sums)


class _Sums(TorchFunctionMode):
    """Records each sum of two tensors of one shape by its autograd function."""

    def __init__(self) -> None:
        super().__init__()
        self.sums: dict[Any, list[tuple[Any, Tensor]]] = {}

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run a function, and take note of it."""
        is_sum = getattr(func, "__name__", "") in ADDITIONS and len(args) == 2 and not kwargs
        is_sum = is_sum and all(isinstance(a, Tensor) and a.grad_fn is not None for a in args)
        # A sum may be made in place.
        terms = [(a.grad_fn, a.detach().clone()) for a in args] if is_sum else []
        result = func(*args, **(kwargs or {}))
        if is_sum and len({tuple(value.shape) for _, value in terms}) == 1:
            self.sums[result.grad_fn] = terms
        return result


@contextmanager
def _watched(block: nn.Module, calls: list[_Call]) -> Any:
    """Record the calls of the layers in a block that read and give one tensor."""
    open_calls: list[Any] = []

    def before(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        is_one = len(inputs) == 1 and isinstance(inputs[0], Tensor)
        # What is done in place changes the function of the tensor.
        open_calls.append(inputs[0].grad_fn if is_one else None)

    def after(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            read = open_calls.pop()
            gave = output.grad_fn if isinstance(output, Tensor) else None
            calls.append(_Call(name, read, gave))

        return hook

    layers = [(name, layer) for name, layer in block.named_modules() if name]
    handles = [layer.register_forward_pre_hook(before) for _, layer in layers]
    handles += [layer.register_forward_hook(after(name)) for name, layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _activation(run: _Run, children: set[str]) -> tuple[str, Any]:
    """Return the activation that ends a block, and the function behind which it is."""
    last = [call for call in run.calls if call.layer in children and call.gave is run.end]
    if run.end in run.sums:
        # What does nothing in evaluation mode, such as dropout, gives the sum itself.
        return next((call.layer for call in last if call.read is run.end), ""), run.end
    for call in last:
        if call.read in run.sums:
            return call.layer, call.read
    if run.end.name().startswith("ReluBackward"):
        return RELU, run.end.next_functions[0][0]
    raise NoBranch("does not end in a sum, or in one layer behind a sum")


def _shortcut(run: _Run, function: Any, children: set[str]) -> str | None:
    """Return the layer that makes one term of the input; empty if that is the input; None if no."""
    if function is run.start:
        return ""
    for call in run.calls:
        if call.layer in children and call.read is run.start and call.gave is function:
            return call.layer
    return None


def _ends(run: _Run, branch: Any, readers: Collection[str]) -> set[str] | None:
    """Return the layers by which a branch sees the input; None if it sees it in other ways too."""
    makers: dict[Any, str] = {}
    for call in run.calls:
        if call.layer in readers:
            makers.setdefault(call.gave, call.layer)
    waiting, seen, found = [branch], {branch}, set()
    while waiting:
        function = waiting.pop()
        if function in makers:
            found.add(makers[function])
            continue
        if function is run.start:
            return None
        following = {one for one, _ in function.next_functions if one is not None} - seen
        seen |= following
        waiting += following
    return found
