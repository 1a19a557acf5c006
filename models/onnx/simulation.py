"""Simulated INT8: a network computes in float what its graph in INT8 does, with gradients.

Quantisation-aware fine-tuning trains through it. Each layer that the graph computes in INT8 has its
input and its weights rounded to the graph's grid by PyTorch's own `fake_quantize` operators, which
pass gradients straight through. The graph has batch norms folded into the weights before them. That
changes no grid, since each output channel of the weights has a scale of its own, but it holds for
the running statistics alone, so batch norms use these. What the graph rounds besides, the inputs
and results of additions, poolings and concatenations that no layer reads, stays as it is.

Source: Jacob et al., Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference, 2018, arXiv 1712.05877; there the ranges of activations move with
the training, here they stay those that the graph was calibrated with.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from regrow.models.modes import evaluating
from regrow.models.onnx.embedding import weighted_layers
from regrow.models.onnx.quantization import name_nodes_
from regrow.models.task import Task

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
LEVELS = 64  # on each side of zero: the quantiser's reduced range, of 7 bits
PREFIX, SUFFIX = "task.net.", ".weight"  # around a layer's name in the graph
NEAR = 1e-4  # share of a filter's norm by which folding, in single precision, may change it


@dataclass(frozen=True, slots=True)
class Grid:
    """The numbers that an activation is rounded to.

    Args:
        scale: The step between two of them.
        zero_point: The integer that stands for 0.
        least: The smallest integer.
        most: The largest integer.
    """

    scale: float
    zero_point: int
    least: int
    most: int

    def rounded(self, values: Tensor) -> Tensor:
        """Round values to the grid; gradients pass where they lie within it."""
        return torch.fake_quantize_per_tensor_affine(
            values, self.scale, self.zero_point, self.least, self.most
        )


def rounded_weight(weight: Tensor) -> Tensor:
    """Round weights (out, ...) to 7 bits with a scale for each output channel, as the quantiser."""
    scale = weight.detach().flatten(1).abs().amax(1) / LEVELS
    scale = torch.where(scale < torch.finfo(scale.dtype).tiny, 1.0, scale)
    zeros = torch.zeros(len(scale), dtype=torch.int32, device=scale.device)
    return torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, -LEVELS, LEVELS)


@dataclass(frozen=True, slots=True)
class Simulation:
    """What of a graph in INT8 can be simulated in its network.

    Args:
        grids: By the name of a layer of the network, the grid of its input at each of its calls in
            a pass; None for a call that stays in float.
        left: Names of layers of the graph that are INT8 and that no layer of the network was found
            for; they are not simulated.
    """

    grids: Mapping[str, tuple[Grid | None, ...]]
    left: tuple[str, ...]

    @property
    def num_simulated(self) -> int:
        """Return the number of layers of the graph that are simulated."""
        return sum(grid is not None for grids in self.grids.values() for grid in grids)

    @contextmanager
    def on(self, task: Task) -> Iterator[None]:
        """Context manager: the task's network computes in simulated INT8, and trains through it.

        Names, parameters and buffers of the network stay as they are. A pass that is interrupted
        leaves the calls of later ones out of step, so it ends the use of this context.
        """
        modules = dict(task.net.named_modules())
        norms = {norm: norm.training for norm in modules.values() if isinstance(norm, _BatchNorm)}
        with ExitStack() as hooks:
            for name, grids in self.grids.items():
                rounding = _Rounding(grids)
                layer = modules[name]
                hooks.enter_context(layer.register_forward_pre_hook(rounding.before))
                hooks.enter_context(layer.register_forward_hook(rounding.after, always_call=True))
            for norm in norms:
                hooks.enter_context(norm.register_forward_pre_hook(_evaluate_))
            try:
                yield
            finally:
                for norm, is_training in norms.items():
                    norm.train(is_training)


def simulation_of(task: Task, model: onnx.ModelProto, made: onnx.ModelProto) -> Simulation:
    """Find the layers of a network that its graph computes in INT8, and their grids.

    A layer of the graph is that of the network whose filters are the same up to a factor for each
    output channel, which folded norms leave, and that runs as often.

    Args:
        task: The network, on the CPU and in single precision; it runs once on two images.
        model: Its graph in float, as `regrow.models.onnx.graph.build_graph` makes it.
        made: That graph in INT8, as `regrow.models.onnx.quantization.quantized` makes it.
    """
    named = onnx.ModelProto()
    named.CopyFrom(model)
    name_nodes_(named.graph)
    held = {weight.name: weight for weight in named.graph.initializer}
    layers = {name: m for name, m in task.net.named_modules() if isinstance(m, LAYERS)}
    grids, calls, left = _grids(made.graph), _calls(task, layers), []
    found: dict[str, list[tuple[str, Grid | None]]] = {}
    for node in weighted_layers(named.graph):
        own = _layer_of(_filters(node, held), node.input[1], layers)
        if own is not None:
            found.setdefault(own, []).append((node.name, grids.get(node.name)))
        elif node.name in grids:
            left.append(node.name)
    for name in [name for name in found if len(found[name]) != calls[name]]:
        left += [node for node, grid in found.pop(name) if grid is not None]
    by_layer = {name: tuple(grid for _, grid in nodes) for name, nodes in found.items()}
    return Simulation({n: g for n, g in by_layer.items() if any(g)}, tuple(left))


class _Rounding:
    """Rounds the input and the weights of a layer while it runs."""

    def __init__(self, grids: tuple[Grid | None, ...]) -> None:
        self.grids, self.num_calls = grids, 0
        self.weight: nn.Parameter | None = None

    def before(self, layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        grid = self.grids[self.num_calls % len(self.grids)]
        self.num_calls += 1
        if grid is None:
            return None
        self.weight = layer._parameters["weight"]
        # For the time of a call; a parametrization would rename the parameter for all the training.
        layer._parameters["weight"] = rounded_weight(layer.weight)  # type: ignore[assignment,arg-type]
        return (grid.rounded(inputs[0]), *inputs[1:])

    def after(self, layer: nn.Module, inputs: object, output: object) -> None:
        if self.weight is not None:
            layer._parameters["weight"], self.weight = self.weight, None


def _evaluate_(norm: nn.Module, _: object) -> None:
    norm.eval()


def _calls(task: Task, layers: Mapping[str, nn.Module]) -> Counter[str]:
    """Count how often each layer runs in a pass, with its input as an argument by position."""
    calls: Counter[str] = Counter()
    with evaluating(task), torch.no_grad(), ExitStack() as hooks:
        for name, layer in layers.items():

            def note(_: nn.Module, inputs: tuple[Any, ...], name: str = name) -> None:
                calls[name] += len(inputs) > 0

            hooks.enter_context(layer.register_forward_pre_hook(note))
        task(task.example_images(2))
    return calls


def _filters(node: onnx.NodeProto, held: Mapping[str, onnx.TensorProto]) -> Tensor | None:
    """Return the weights of a layer of a graph as its network has them, (out, ...)."""
    if node.input[1] not in held:
        return None
    weight = torch.from_numpy(numpy_helper.to_array(held[node.input[1]]).copy())
    is_turned = any(a.name == "transB" and a.i for a in node.attribute)
    return weight if node.op_type == "Conv" or is_turned else weight.mT


def _layer_of(filters: Tensor | None, given: str, layers: Mapping[str, nn.Module]) -> str | None:
    """Return the layer with these filters; where several have them, the one of the given name."""
    if filters is None:
        return None
    alike = [name for name, layer in layers.items() if _are_alike(filters, layer.weight)]  # type: ignore[arg-type]
    if len(alike) > 1:
        alike = [name for name in alike if given == f"{PREFIX}{name}{SUFFIX}"]
    return alike[0] if alike else None


def _are_alike(filters: Tensor, weight: Tensor) -> bool:
    """Whether filters (out, ...) are the same up to a factor for each output channel."""
    if filters.shape != weight.shape:
        return False
    one, other = filters.double().flatten(1), weight.detach().double().flatten(1)
    factor = (one * other).sum(1) / other.square().sum(1).clamp(min=1e-300)
    gap = (one - factor[:, None] * other).norm(dim=1)
    return bool((gap <= NEAR * one.norm(dim=1)).all())


def _grids(graph: onnx.GraphProto) -> dict[str, Grid]:
    """Return the grid of each layer's input, by its name, if its weights have a scale a channel."""
    held = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    makers = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    grids = {}
    for node in graph.node:
        read, weighed = (makers.get(name) for name in [*node.input, "", ""][:2])
        if read is None or weighed is None or weighed.input[0] not in held:
            continue
        scale, zero = (held[name] for name in read.input[1:3])
        if held[weighed.input[1]].ndim == 1 and scale.size == 1:
            ends = np.iinfo(zero.dtype)
            grids[node.name] = Grid(float(scale), int(zero), int(ends.min), int(ends.max))
    return grids
